"""A draft head in the model's file: what it adds is what a real load with it adds, by formula and by the runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.ladder import need as ask
from qwenops.memory.load_log import LoadLines
from qwenops.memory.probe import probe
from qwenops.memory.types import HostNeed, LoadSettings, Need
from qwenops.model.read import read_model
from qwenops.units import GIB, MIB
from tests.support.dims import Dims
from tests.support.gguf_bytes import write_gguf
from tests.support.real_load import real_load
from tests.support.runtime import software_runtime
from tests.support.shapes import TEXT, text_metadata, text_model, text_tensors, write_text

SOFTWARE = Device("Vulkan0", "vulkan", "llvmpipe", 2 * GIB, 2 * GIB, source="runtime")
TWO = (SOFTWARE, replace(SOFTWARE, name="Vulkan1", index=1))
LOG_ROUNDING = 0.04
HEADS: dict[str, Dims] = {
    "tied": replace(TEXT["qwen3.5-0.8b"], draft_layers=1),
    "small": replace(TEXT["qwen3.5-2b"], draft_layers=1, vocabulary=48000),
    "untied": replace(TEXT["qwen3.5-4b"], layers=16, draft_layers=1, vocabulary=48000, tied=False),
    "mixture": replace(TEXT["qwen3.6-35b-a3b"], layers=8, experts=32, vocabulary=32000, draft_layers=1),
}
LOADS: list[tuple[str, LoadSettings, int]] = [
    ("tied", LoadSettings(draft_tokens=2, num_ctx=8192), 1),
    ("small", LoadSettings(draft_tokens=4, parallel=2), 1),
    ("small", LoadSettings(draft_tokens=4, gpu_layers=13), 1),
    ("small", LoadSettings(draft_tokens=3, flash_attn="off"), 1),
    ("small", LoadSettings(draft_tokens=1, gpu_layers=1), 1),
    ("small", LoadSettings(draft_tokens=4), 2),
    ("untied", LoadSettings(draft_tokens=4, batch=1024, ubatch=1024, kv_type_k="q8_0", kv_type_v="q8_0"), 1),
    ("mixture", LoadSettings(draft_tokens=4, n_cpu_moe=3), 1),
    ("mixture", LoadSettings(draft_tokens=2, n_cpu_moe="all", gpu_layers=6), 1),
]


def _flags(settings: LoadSettings) -> list[str]:
    """Ollama's own for draft_num_predict, and what has experts stay on the host."""
    flags = ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(settings.draft_tokens)]
    flags += ["--spec-draft-backend-sampling"]
    if settings.n_cpu_moe:
        flags += ["--cpu-moe"] if settings.n_cpu_moe == "all" else ["--n-cpu-moe", str(settings.n_cpu_moe)]
    return flags


def _compare(said: Need, loaded: LoadLines) -> None:
    def close(ours: int, theirs: int) -> bool:
        return abs(ours - theirs) <= LOG_ROUNDING * MIB

    for d in said.devices:
        assert close(d.weights_bytes, loaded.device_bytes(d.name, "model"))
        assert close(d.kv_bytes, loaded.device_bytes(d.name, "KV"))
        assert close(d.state_bytes, loaded.device_bytes(d.name, "RS"))
        assert close(d.compute_bytes, loaded.device_bytes(d.name, "compute"))
        assert close(d.draft_bytes, loaded.draft_bytes(d.name))
    host = said.host
    assert close(host.kv_bytes, loaded.host_bytes("KV"))
    assert close(host.state_bytes, loaded.host_bytes("RS"))
    assert close(host.compute_bytes, loaded.host_bytes("compute"))
    assert close(host.output_bytes, loaded.host_bytes("output"))
    assert close(host.draft_bytes, loaded.draft_bytes(None))


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.parametrize(("shape", "settings", "devices"), LOADS, ids=lambda v: str(v)[:40])
def test_a_real_load_with_the_draft_head_takes_what_was_predicted(
    shape: str, settings: LoadSettings, devices: int, tmp_path: Path
) -> None:
    dims = HEADS[shape]
    path = write_text(tmp_path / f"{shape}.gguf", dims)
    layers = dims.layers + 2 if settings.gpu_layers == "all" else int(settings.gpu_layers)
    loaded = real_load(path, settings, *_flags(settings), layers=layers, devices=devices, contexts=2)
    _compare(closed_form(read_model(path), settings, TWO[:devices]), loaded)


@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.parametrize("apart", [False, True], ids=["its own head", "a draft model"])
@pytest.mark.parametrize("settings", [LoadSettings(draft_tokens=3), LoadSettings(draft_tokens=2, gpu_layers=13)])
def test_the_runtime_says_the_same_of_a_draft_as_the_formula(
    settings: LoadSettings, apart: bool, tmp_path: Path
) -> None:
    runtime = software_runtime()
    dims = HEADS["small"]
    if apart:
        settings = replace(settings, draft_model=str(_head_alone(tmp_path / "head.gguf", dims)))
        dims = replace(dims, draft_layers=0)
    model = read_model(write_text(tmp_path / "m.gguf", dims))
    asked, formula = probe(model, settings, runtime), closed_form(model, settings, runtime.devices)
    assert asked.sources["draft"] == "runtime"
    assert asked.devices[0].draft_bytes == pytest.approx(formula.devices[0].draft_bytes, abs=LOG_ROUNDING * MIB)
    # of a draft model's weights the table on the host has whole MiB
    assert asked.host.draft_bytes == pytest.approx(formula.host.draft_bytes, abs=MIB if apart else LOG_ROUNDING * MIB)
    assert asked.devices[0].state_bytes / MIB == pytest.approx(formula.devices[0].state_bytes / MIB, abs=LOG_ROUNDING)
    assert asked.devices[0].weights_bytes == pytest.approx(formula.devices[0].weights_bytes, abs=MIB // 100)


def _head_alone(path: Path, dims: Dims) -> Path:
    """A draft model as Ollama makes one of a head's tensors: the last block, the embedding and the head."""
    last = f"blk.{dims.layers}."
    rows = [t for t in text_tensors(dims, "Q8_0") if not t[0].startswith("blk.") or t[0].startswith(last)]
    return write_gguf(path, text_metadata(dims, "Q8_0") | {"tokenizer.ggml.model": "no_vocab"}, rows)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.parametrize(
    "settings",
    [LoadSettings(draft_tokens=4), LoadSettings(draft_tokens=2, gpu_layers=10, parallel=2)],
    ids=["every layer", "ten layers for two"],
)
def test_a_draft_model_of_a_file_of_its_own_takes_what_was_predicted(settings: LoadSettings, tmp_path: Path) -> None:
    dims = HEADS["small"]
    path = write_text(tmp_path / "m.gguf", replace(dims, draft_layers=0))
    settings = replace(settings, draft_model=str(_head_alone(tmp_path / "head.gguf", dims)))
    layers = dims.layers + 1 if settings.gpu_layers == "all" else int(settings.gpu_layers)
    flags = [*_flags(settings), "--spec-draft-model", settings.draft_model]
    loaded = real_load(path, settings, *flags, layers=layers, contexts=2)
    _compare(closed_form(read_model(path), settings, (SOFTWARE,)), loaded)


def test_a_draft_model_takes_nothing_where_nothing_is_drafted(tmp_path: Path) -> None:
    model = text_model(TEXT["qwen3.5-2b"])
    head = str(_head_alone(tmp_path / "head.gguf", HEADS["small"]))
    asked = closed_form(model, LoadSettings(draft_model=head), (SOFTWARE,))
    assert asked.devices == closed_form(model, LoadSettings(), (SOFTWARE,)).devices
    assert asked.notes == ()


@pytest.mark.parametrize("drafted", [1, 2, 7])
def test_a_state_is_kept_for_every_drafted_token(drafted: int) -> None:
    model = text_model(HEADS["small"])
    without = closed_form(model, LoadSettings(), (SOFTWARE,)).devices[0]
    drafting = closed_form(model, LoadSettings(draft_tokens=drafted), (SOFTWARE,)).devices[0]
    assert drafting.state_bytes == (1 + drafted) * without.state_bytes
    assert drafting.kv_bytes == without.kv_bytes
    assert without.draft_bytes == 0 < drafting.draft_bytes


def test_the_heads_block_is_loaded_only_where_it_drafts() -> None:
    model = text_model(HEADS["small"])
    without = closed_form(model, LoadSettings(), (SOFTWARE,)).devices[0]
    drafting = closed_form(model, LoadSettings(draft_tokens=4), (SOFTWARE,)).devices[0]
    block = sum(t.size_bytes for t in model.header.tensors if t.name.startswith("blk.24."))
    assert drafting.weights_bytes - without.weights_bytes == pytest.approx(block, rel=0.001)


def test_the_heads_cache_is_f16_whatever_the_models_is() -> None:
    model = text_model(HEADS["small"])
    small = LoadSettings(draft_tokens=4, kv_type_k="q4_0", kv_type_v="q4_0")
    f16 = closed_form(model, LoadSettings(draft_tokens=4), (SOFTWARE,)).devices[0]
    q4_0 = closed_form(model, small, (SOFTWARE,)).devices[0]
    assert q4_0.draft_bytes == f16.draft_bytes


def test_a_file_without_a_head_drafts_nothing_and_says_so() -> None:
    model = text_model(TEXT["qwen3.5-2b"])
    asked = closed_form(model, LoadSettings(draft_tokens=4), (SOFTWARE,))
    assert asked.devices == closed_form(model, LoadSettings(), (SOFTWARE,)).devices
    assert any("no draft head" in note for note in asked.notes)
    assert asked.host.draft_bytes == HostNeed().draft_bytes


def test_the_fit_leaves_room_for_the_drafts_context() -> None:
    """Where all layers just fit without a draft, they do not with one."""
    model = text_model(HEADS["small"])
    whole = closed_form(model, LoadSettings(), (SOFTWARE,)).devices[0]
    tight = (replace(SOFTWARE, free_bytes=whole.total_bytes - whole.overhead_bytes + MIB),)
    settings = LoadSettings(gpu_layers="auto")
    assert closed_form(model, settings, tight).layers.on_device == 26
    assert ask(model, replace(settings, draft_tokens=4), tight, rung="closed form").layers.on_device < 26
