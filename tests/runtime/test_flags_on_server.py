"""The real Ollama logs the whole command with which it starts llama-server: ours must be the same, word for word."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwenops.errors import QwenopsError
from qwenops.runtime.client import Client
from qwenops.runtime.devices import list_devices
from qwenops.runtime.facts import RunOptions
from qwenops.runtime.find import find_llama_server
from qwenops.runtime.flags import server_environment, server_flags
from qwenops.runtime.rules import SystemMemory, resolve_load
from scripts.parts.layout import Layout
from tests.runtime.registered import register
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel

pytestmark = [pytest.mark.server, pytest.mark.slow]

_STARTED = re.compile(r'msg="starting llama-server" cmd="([^"]+)"')


@dataclass
class Model:
    """A model to load: which file, and what its manifest says."""

    key: str
    config: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    vision: bool = True


SMOL = Model("smol")
RENDERED = Model("smol", config={"renderer": "qwen3-coder", "parser": "qwen3-coder"})
TEMPLATED = Model("smol", template="{{ .Prompt }}")
DEEPSEEK = Model("smol", config={"model_family": "deepseek2"})
ONE_ONLY = Model("smol", config={"model_family": "qwen3vl"})
VL3 = Model("qwen3vl")
VL25 = Model("qwen25vl")
VL35 = Model("qwen35")
VL3_TEXT = Model("qwen3vl", vision=False)

# What the server is told, and the loads that are asked of it there.
SETS: dict[str, tuple[dict[str, str], list[tuple[Model, dict[str, Any]]]]] = {
    "no settings": (
        {},
        [
            (SMOL, {}),
            (SMOL, {"num_ctx": 100000}),
            (SMOL, {"num_ctx": 4097, "num_gpu": 5, "num_thread": 1}),
            (SMOL, {"num_ctx": 1, "num_gpu": 0, "num_keep": 0}),
            (SMOL, {"num_batch": 64, "num_gpu": 99, "use_mmap": False}),
            (SMOL, {"main_gpu": 0, "use_mmap": True}),
            (RENDERED, {}),
            (TEMPLATED, {}),
            (DEEPSEEK, {}),
            (VL3, {}),
            (VL3, {"num_ctx": 512, "num_gpu": 1}),
            (VL3, {"num_gpu": 0}),
            (VL3_TEXT, {"num_ctx": 512}),
            (VL25, {"num_gpu": 99}),
            (VL35, {}),
        ],
    ),
    "quantized KV, flash attention, two sequences": (
        {"OLLAMA_KV_CACHE_TYPE": "Q8_0", "OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_NUM_PARALLEL": "2"},
        [(SMOL, {}), (ONE_ONLY, {}), (VL25, {"num_ctx": 2048}), (VL3, {"num_ctx": 2048}), (VL35, {"num_ctx": 4096})],
    ),
    "no flash attention, own context and fit target": (
        {"OLLAMA_FLASH_ATTENTION": "0", "OLLAMA_CONTEXT_LENGTH": "3000", "LLAMA_ARG_FIT_TARGET": "64"},
        [(SMOL, {}), (VL3, {}), (VL3, {"num_ctx": 5000})],
    ),
}


@pytest.mark.vulkan
@pytest.mark.parametrize("told", SETS)
def test_every_load_is_started_with_the_flags_that_we_say(
    told: str,
    start_server: Callable[..., OllamaServer],
    parts: Layout,
    smollm: Path,
    tiny_qwen3vl: TinyModel,
    tiny_qwen25vl: TinyModel,
    tiny_qwen35: TinyModel,
) -> None:
    settings, loads = SETS[told]
    server = start_server(settings={"OLLAMA_DEBUG": "1", **settings})
    files = {"qwen3vl": tiny_qwen3vl, "qwen25vl": tiny_qwen25vl, "qwen35": tiny_qwen35}
    llama_server = find_llama_server(parts.ollama)
    assert llama_server is not None
    devices, backends, notes = list_devices(llama_server, server.env, ollama=parts.ollama)
    assert [d.name for d in devices] == ["Vulkan0"], notes
    for number, (model, options) in enumerate(loads):
        name = f"m{number}"
        tiny = files.get(model.key)
        facts = register(
            server.store,
            name,
            tiny.model if tiny else smollm,
            projector=tiny.projector if tiny and model.vision else None,
            config=model.config,
            template=model.template,
            environment=server.env,
        )
        command, theirs = started(server, name, options, after=number)
        at = command.index("--port")
        run = RunOptions.from_params(options)
        memory = psutil.virtual_memory()
        system = SystemMemory(memory.total, memory.available)
        ours = server_flags(facts, run, server.env, devices, system=system, listen=command[at : at + 4])
        assert [str(llama_server), *ours] == command, (told, model, options)
        load = resolve_load(facts, run, server.env, devices, system=system)
        environment = server_environment(load, facts, server.env, llama_server=llama_server, backends=backends)
        assert environment == theirs, (told, model, options)


def started(
    server: OllamaServer, name: str, options: Mapping[str, Any], *, after: int
) -> tuple[list[str], dict[str, str]]:
    """The command of the start number `after`, and the environment of that child, which is ended as soon as it is seen.

    A load on the software GPU takes half a minute, its start none: what is compared is known then.
    """
    asked = threading.Thread(target=load_and_fail, args=(server.url, name, options))
    asked.start()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            commands = _STARTED.findall(server.log())
            children = [c for c in psutil.Process(server.pid).children() if is_loading(c, commands[after:])]
            if children:
                environment = children[0].environ()
                children[0].kill()
                # Drawn anew for each start.
                environment.pop("LLAMA_MEDIA_MARKER")
                return commands[after].split(), environment
            time.sleep(0.02)
        raise AssertionError(f"no llama-server was started for {name}: {server.log()[-800:]}")
    finally:
        asked.join(60)


def is_loading(child: psutil.Process, commands: list[str]) -> bool:
    """Whether a child of the server is the one that the log's last command started."""
    try:
        return bool(commands) and " ".join(child.cmdline()) == commands[-1]
    except psutil.Error:
        return False


def load_and_fail(url: str, name: str, options: Mapping[str, Any]) -> None:
    """Ask for a load whose llama-server will be ended."""
    with suppress(QwenopsError):
        Client(url).load(name, options=options, timeout_s=120)
