"""A load held against its plan: on the real server, and on logs kept from one."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops import history
from qwenops.errors import CheckFailed
from qwenops.machine.types import Device
from qwenops.memory.load_log import parse_load_log
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Layers, LoadSettings, Need
from qwenops.model.read import read_model
from qwenops.ollama.link import can_reflink
from qwenops.ollama.load import Loaded
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.ollama.usage import Usage
from qwenops.ollama.verify import Verified, load_and_verify, verify
from qwenops.runtime.client import Client
from qwenops.runtime.discover import discover
from qwenops.runtime.types import LoadedModel, Runtime
from qwenops.units import MIB
from tests.ollama.support import runtime_of
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel

# The lines that count, as Ollama 0.32.14 wrote them for a small Qwen3-VL on the software GPU.
LOG = """
time=2026-11-24T23:14:11.323Z level=INFO msg="starting llama-server" cmd="llama-server --model sha256-01de -c 2048"
load_tensors: offloaded {layers}/5 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    24.00 MiB
load_tensors:      Vulkan0 model buffer size =    28.51 MiB
llama_context: constructing llama_context
llama_context: n_ctx                 = 2048
llama_context: Vulkan_Host  output buffer size =     0.19 MiB
llama_kv_cache:    Vulkan0 KV buffer size =     4.00 MiB
resolve_fused_ops: Flash Attention enabled
sched_reserve:    Vulkan0 compute buffer size =     7.02 MiB
sched_reserve: Vulkan_Host compute buffer size =     3.52 MiB
clip_ctx: CLIP using Vulkan0 backend
load_hparams: model size:         0.89 MiB
reserve_compute_meta:    Vulkan0 compute buffer size =    49.72 MiB
reserve_compute_meta:        CPU compute buffer size =    24.93 MiB
"""
CPU_LOG = """
load_tensors: offloaded 5/5 layers to GPU
load_tensors:          CPU model buffer size =    29.05 MiB
llama_context: constructing llama_context
llama_kv_cache:        CPU KV buffer size =     2.00 MiB
sched_reserve:        CPU compute buffer size =     8.53 MiB
"""


def need(**changes: Any) -> Need:
    """The plan of that load: everything on the device."""
    device = DeviceNeed(
        name="Vulkan0",
        kind="vulkan",
        free_bytes=2048 * MIB,
        weights_bytes=round(28.51 * MIB),
        kv_bytes=4 * MIB,
        compute_bytes=round(7.02 * MIB),
        projector_bytes=round(0.89 * MIB),
        encoder_bytes=round(115 * MIB),
    )
    device = replace(device, **changes.pop("device", {}))
    host = HostNeed(
        weights_bytes=24 * MIB,
        compute_bytes=round(3.52 * MIB),
        output_bytes=round(0.19 * MIB),
        encoder_bytes=60 * MIB,
    )
    made = Need(
        rung="runtime",
        settings=LoadSettings(num_ctx=2048),
        devices=(device,),
        host=host,
        layers=Layers(5, 5),
        band=Band(device.total_bytes - 2 * MIB, device.total_bytes + 2 * MIB),
        sources=dict.fromkeys(("weights", "kv", "state", "compute", "projector", "encoder"), "runtime"),
        flash_attn=True,
    )
    return replace(made, **changes)


def loaded(log: str = LOG, *, layers: int = 5, **changes: Any) -> Loaded:
    """What that load showed."""
    model = LoadedModel("t:latest", 93 * MIB, 93 * MIB, 2048, "d1c6")
    seen = Loaded(model, 8.0, parse_load_log(log.format(layers=layers)), projector_backend="Vulkan0")
    return replace(seen, **changes)


RUNTIME = Runtime(place="local", url="http://127.0.0.1:9", version="0.32.14")


def verdicts(verified: Verified) -> dict[str, str]:
    return {check.name: check.verdict for check in verified.checks}


def test_a_load_that_went_as_planned_is_ok_in_every_check() -> None:
    verified = verify("t", RUNTIME, need(), loaded())

    assert verified.ok
    assert verified.exit_code == 0
    assert set(verdicts(verified).values()) == {"ok"}
    assert set(verdicts(verified)) == {
        "layers on the device",
        "context",
        "projector",
        "flash attention",
        "device memory",
    }
    assert verified.predicted_bytes == verified.measured_bytes
    assert all(c.within for c in verified.components)


@pytest.mark.parametrize(
    ("seen", "planned", "wrong", "do"),
    [
        pytest.param(loaded(layers=3), need(), "layers on the device", "qwenops update t", id="spilled"),
        pytest.param(
            loaded(model=LoadedModel("t", 1, 1, 4096, "")), need(), "context", "PARAMETER num_ctx 2048", id="context"
        ),
        pytest.param(
            loaded(projector_backend="CPU", projector_moved="insufficient free VRAM"),
            need(),
            "projector",
            "num_gpu must cover every layer",
            id="projector on the CPU",
        ),
        pytest.param(loaded(), need(flash_attn=False), "flash attention", "OLLAMA_FLASH_ATTENTION", id="flash"),
        pytest.param(
            loaded(), need(device={"weights_bytes": 20 * MIB}), "device memory", "qwenops update", id="more memory"
        ),
        pytest.param(loaded(CPU_LOG), need(), "layers on the device", "qwenops update", id="silently on the CPU"),
        pytest.param(
            loaded(lines=None, model=LoadedModel("t", 93 * MIB, 50 * MIB, 2048, "")),
            need(),
            "layers on the device",
            "qwenops update",
            id="spilled, by /api/ps alone",
        ),
    ],
)
def test_what_is_against_the_plan_is_named_with_what_to_change(
    seen: Loaded, planned: Need, wrong: str, do: str
) -> None:
    verified = verify("t", RUNTIME, planned, seen)

    check = next(c for c in verified.checks if c.name == wrong)
    assert check.verdict == "wrong"
    assert do in "\n".join(check.do)
    assert (verified.ok, verified.exit_code) == (False, 1)


def test_partial_offload_that_was_planned_is_no_fault() -> None:
    verified = verify("t", RUNTIME, need(layers=Layers(3, 5)), loaded(layers=3))
    assert verdicts(verified)["layers on the device"] == "ok"


def test_what_the_log_would_have_said_is_not_seen_and_not_guessed() -> None:
    verified = verify("t", RUNTIME, need(), loaded(lines=None, log_missing="no log", projector_backend=None))

    assert verified.ok
    assert verdicts(verified) == {
        "layers on the device": "ok",
        "context": "ok",
        "projector": "not seen",
        "device memory": "not seen",
    }
    assert verified.notes[0].startswith("no log")


def test_memory_beyond_the_buffers_is_shown_as_overhead() -> None:
    gained = round((28.51 + 4 + 7.02 + 0.89 + 49.72 + 300) * MIB)
    card = Device("Vulkan0", "vulkan", "A card", 2048 * MIB, 2048 * MIB)
    usage = Usage(card, 100 * MIB, 100 * MIB + gained, 1948 * MIB)
    verified = verify("t", RUNTIME, need(), loaded(usage=(usage,)))

    overhead = next(c for c in verified.components if c.name == "overhead")
    assert overhead.measured_bytes is not None
    assert abs(overhead.measured_bytes - 300 * MIB) < 100
    assert verified.ok, "the context is in the free figure that the plan was held against"
    disturbed = verify("t", RUNTIME, need(), loaded(usage=(replace(usage, disturbed="a game started"),)))
    assert not [c for c in disturbed.components if c.name == "overhead" and c.measured_bytes]


def test_others_that_are_loaded_are_named() -> None:
    verified = verify("t", RUNTIME, need(), loaded(layers=1, others=("big:latest",)))
    assert any("big:latest" in note for note in verified.notes)
    assert any("--alone" in line for check in verified.checks for line in check.do)


@pytest.mark.server
def test_a_real_load_on_the_cpu_is_seen_and_kept(start_server: Any, tiny_qwen3vl: TinyModel) -> None:
    server: OllamaServer = start_server(gpu=False)
    runtime = replace(runtime_of(server), log_path=server.log_path)
    spec = Spec(shards=(tiny_qwen3vl.model,), projectors=(tiny_qwen3vl.projector,), parameters={"num_ctx": 2048})
    register(spec, "seen", runtime)
    model = read_model(tiny_qwen3vl.model)
    plan = Need(
        rung="closed form",
        settings=LoadSettings(num_ctx=2048, projector_device="cpu", gpu_layers=0),
        devices=(),
        host=HostNeed(weights_bytes=29 * MIB, kv_bytes=4 * MIB, projector_bytes=MIB),
        layers=Layers(0, 5),
        band=Band(0, 0),
        sources={},
    )

    verified = load_and_verify("seen", runtime, plan, model=model)

    assert verdicts(verified)["layers on the device"] == "ok"
    assert verdicts(verified)["projector"] == "ok"
    assert verdicts(verified)["context"] == "ok"
    weights = next(c for c in verified.components if (c.place, c.name) == ("host", "weights"))
    assert weights.within
    with history.open() as kept:
        (row,) = kept.loads()
    assert row.predicted["layers"] == {"on_device": 0, "total": 5}
    assert row.measured is not None
    assert [m.name for m in Client(server.url).ps()] == ["seen:latest"]
    with pytest.raises(CheckFailed, match="cannot be loaded"):
        load_and_verify("not-there", runtime, None)


@pytest.mark.server
def test_a_model_that_was_removed_while_loaded_does_not_stop_another(
    start_server: Any, tiny_qwen3vl: TinyModel, smollm: Path
) -> None:
    runtime = runtime_of(start_server(gpu=False))
    register(Spec(shards=(smollm,), parameters={"num_ctx": 256}), "leaves", runtime)
    register(Spec(shards=(tiny_qwen3vl.model,), parameters={"num_ctx": 256}), "stays", runtime)
    Client(runtime.url).load("leaves")
    Client(runtime.url).delete("leaves")

    verified = load_and_verify("stays", runtime, None, alone=True, keep=False)

    assert verified.ok
    assert verified.loaded.others in ((), ("leaves:latest",))


@pytest.mark.server
def test_a_model_whose_file_was_overwritten_is_not_loaded_and_the_file_is_named(
    start_server: Any, smollm: Path, tmp_path: Path
) -> None:
    runtime = runtime_of(start_server(gpu=False))
    file = tmp_path / "model.gguf"
    shutil.copyfile(smollm, file)
    if can_reflink(file, tmp_path):
        pytest.skip("this file system makes reflinks: an original cannot change its blob")
    register(Spec(shards=(file,), parameters={"num_ctx": 256}), "written", runtime)
    with file.open("r+b") as original:
        original.seek(-1_000_000, os.SEEK_END)
        original.write(b"other weights")

    with pytest.raises(CheckFailed, match=rf"written:latest was not loaded: {file} was overwritten in place") as told:
        load_and_verify("written", runtime, None)

    assert told.value.do[0] == "qwenops remove written:latest"
    assert Client(runtime.url).ps() == ()


@pytest.mark.server
@pytest.mark.parametrize("first_is_removed", [False, True])
def test_a_second_name_on_the_same_weights_is_loaded_afresh_and_seen(
    start_server: Any, smollm: Path, first_is_removed: bool
) -> None:
    """Ollama answers a load by the runner that has these weights, and goes on to show the first name."""
    server: OllamaServer = start_server(gpu=False)
    runtime = replace(runtime_of(server), log_path=server.log_path)
    for name, system in (("first", "Read."), ("second", "Count.")):
        register(Spec(shards=(smollm,), parameters={"num_ctx": 256}, system=system), name, runtime)
    client = Client(runtime.url)
    client.load("first")
    if first_is_removed:
        client.delete("first")

    verified = load_and_verify("second", runtime, None)

    assert verified.ok
    assert verified.loaded.model.name == "second:latest"
    assert verified.loaded.lines is not None
    assert verified.loaded.others == ()
    load_and_verify("second", runtime, None, keep=False)
    assert client.ps() == ()


@pytest.mark.server
@pytest.mark.vulkan
def test_a_model_that_does_not_fit_the_software_gpu_is_found_out(
    ollama_server: OllamaServer, tiny_qwen3vl: TinyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """num_gpu 2 leaves layers and the projector to the CPU, without a word from the server."""
    monkeypatch.setenv("OLLAMA_HOST", ollama_server.host)
    runtime = replace(discover(ollama_server.url), log_path=ollama_server.log_path)
    spec = Spec(
        shards=(tiny_qwen3vl.model,),
        projectors=(tiny_qwen3vl.projector,),
        parameters={"num_ctx": 2048, "num_gpu": 2, "num_batch": 512},
    )
    register(spec, "spilled", runtime)

    verified = load_and_verify("spilled", runtime, need(settings=LoadSettings(num_ctx=2048)), alone=True, keep=False)

    found = {c.name: (c.verdict, c.observed) for c in verified.checks}
    assert found["layers on the device"] == ("wrong", "2 of 5")
    assert found["projector"][0] == "wrong"
    assert found["projector"][1].startswith("CPU (")
    assert verified.exit_code == 1
    assert Client(ollama_server.url).ps() == ()
