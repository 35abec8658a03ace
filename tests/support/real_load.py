"""A real load through llama-server, ended once its buffers stand: what its log says of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from qwenops.memory.load_log import LoadLines, parse_load_log
from qwenops.memory.probe_run import listen
from qwenops.memory.types import LoadSettings
from tests.support.parts import layout, software_gpu_environment

SECONDS = 240
_AFTER_THE_FIT = "fitting params to free memory took"
_STANDS = "sched_reserve: reserve took"


def real_load(
    model: Path, settings: LoadSettings, *flags: str, layers: int, devices: int = 1, contexts: int = 1
) -> LoadLines:
    """Load `layers` layers of a file on the software GPU, listed `devices` times; `contexts` counts a draft's as one.

    `flags` are llama-server's own, as they are tested.
    """
    server = layout().llama_server
    command = [str(server), "--model", str(model), "--offline", "--no-webui", "--no-warmup", "-ngl", str(layers)]
    command += ["--log-verbosity", "5", "--no-log-prefix", "--no-log-timestamps", "--no-jinja"]
    command += ["--chat-template", "chatml", "--flash-attn", settings.flash_attn]
    command += ["-c", str(settings.num_ctx * settings.parallel), "-np", str(settings.parallel)]
    command += ["-b", str(settings.batch), "-ub", str(settings.ubatch)]
    command += ["--cache-type-k", settings.kv_type_k, "--cache-type-v", settings.kv_type_v, *flags]
    command += ["--kv-unified"] if settings.kv_unified else []
    visible = {"GGML_VK_VISIBLE_DEVICES": ",".join(["0"] * devices), "LD_LIBRARY_PATH": str(server.parent)}
    standing = 0
    fitted = False

    def done(line: str) -> bool:
        nonlocal standing, fitted
        fitted = fitted or _AFTER_THE_FIT in line
        standing += fitted and _STANDS in line
        return standing == contexts

    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **software_gpu_environment(), **visible}
        text, ended_well = listen([*command, "--host", f"{folder}/s.sock"], environment, done, SECONDS)
    assert ended_well, text[-2000:]
    return parse_load_log(text)
