"""Which layer goes where: as llama.cpp reckons it, and as a real load then shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.machine.types import Device, Kind
from qwenops.memory.closed_form import closed_form
from qwenops.memory.ladder import need
from qwenops.memory.placement import place, placed_as_asked
from qwenops.memory.probe import probe
from qwenops.memory.reserve import devices_in_use
from qwenops.memory.types import LoadSettings
from qwenops.model.read import read_model
from qwenops.units import GIB, MIB
from tests.support.dims import Dims
from tests.support.real_load import real_load
from tests.support.runtime import software_runtime
from tests.support.shapes import TEXT, VISION, text_model, vision_projector, write_text

SOFTWARE = Device("Vulkan0", "vulkan", "llvmpipe", 2 * GIB, 2 * GIB, source="runtime")
TWO = (SOFTWARE, replace(SOFTWARE, name="Vulkan1", index=1))
PARTS = (("weights", "model"), ("kv", "KV"), ("state", "RS"), ("compute", "compute"))
LOG_ROUNDING = 0.02
SMALL_MOE = replace(TEXT["qwen3-30b-a3b"], layers=8, embedding=1024, heads=16, experts=64, experts_used=4)
MOE: dict[str, Dims] = {
    "qwen3moe": replace(SMALL_MOE, vocabulary=32000),
    "granite": TEXT["granite-3.1-1b-a400m"],
    "hybrid": replace(TEXT["qwen3.6-35b-a3b"], layers=8, experts=32, vocabulary=32000),
    "dense": TEXT["qwen3-0.6b"],
}


def _cards(free: Sequence[int]) -> tuple[Device, ...]:
    return tuple(Device(f"CUDA{i}", "cuda", "a card", n or 1, n, index=i, source="--gpu") for i, n in enumerate(free))


def _by_numpy(shares: Sequence[float], layers: int, gpu_layers: int) -> list[int]:
    """llama_model::load_tensors in another's single precision: the first split above a layer's place."""
    splits = np.zeros(len(shares), np.float32)
    total = np.float32(0)
    for i, share in enumerate(shares):
        total = np.float32(total + np.float32(share))
        splits[i] = total
    splits = (splits / total).astype(np.float32)
    placed = min(gpu_layers, layers + 1)
    places = [np.float32(np.float32(i) / np.float32(placed)) for i in range(placed)]
    return [len(shares)] * (layers + 1 - placed) + [int(np.searchsorted(splits, p, side="right")) for p in places]


@given(
    free=st.lists(st.integers(1, 200 * GIB), min_size=1, max_size=8),
    layers=st.integers(1, 200),
    gpu_layers=st.integers(0, 220),
)
def test_layers_are_split_by_free_memory_as_the_runtime_splits_them(
    free: list[int], layers: int, gpu_layers: int
) -> None:
    assert list(place(layers, gpu_layers, _cards(free)).backends) == _by_numpy(free, layers, gpu_layers)


@given(
    shares=st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=6).filter(any),
    layers=st.integers(1, 200),
    gpu_layers=st.integers(0, 220),
)
def test_layers_are_split_by_given_shares_whatever_is_free(shares: list[float], layers: int, gpu_layers: int) -> None:
    settings = LoadSettings(tensor_split=tuple(shares), gpu_layers=gpu_layers)
    placed = placed_as_asked(layers, settings, _cards([GIB] * len(shares)))
    assert placed is not None
    assert list(placed.backends) == _by_numpy(shares, layers, gpu_layers)


@pytest.mark.parametrize(
    ("split", "on_each"),
    [
        ((3.0, 1.0), [7, 2]),
        ((1.0,), [9, 0]),
        ((0.0, 5.0), [0, 9]),
        ((0.0, 0.0), [5, 4]),
        ((1.0, 1.0, 9.0), [5, 4]),
    ],
    ids=["three quarters", "a share that is missing is none", "none on the first", "only zeros are none", "too many"],
)
def test_shares_of_two_equal_devices(split: tuple[float, ...], on_each: list[int]) -> None:
    placed = placed_as_asked(8, LoadSettings(tensor_split=split), TWO)
    assert placed is not None
    assert [placed.backends.count(device) for device in (0, 1)] == on_each


@pytest.mark.parametrize(
    ("settings", "devices"),
    [(LoadSettings(gpu_layers="auto", n_cpu_moe=2), 1), (LoadSettings(gpu_layers="auto", tensor_split=(1.0, 1.0)), 2)],
    ids=["experts on the host", "shares of two devices"],
)
def test_the_fit_changes_nothing_where_something_was_chosen_for_it(settings: LoadSettings, devices: int) -> None:
    """common_params_fit_impl gives up then, and everything is loaded as asked, whether it fits or not."""
    tiny = tuple(replace(d, free_bytes=64 * MIB) for d in TWO[:devices])
    said = closed_form(text_model(MOE["qwen3moe"]), settings, tiny)
    assert said.layers.on_device == said.layers.total


def test_shares_of_one_device_leave_the_choice_to_the_fit() -> None:
    tiny = (replace(SOFTWARE, free_bytes=64 * MIB),)
    settings = LoadSettings(gpu_layers="auto", tensor_split=(1.0,))
    said = closed_form(text_model(MOE["qwen3moe"]), settings, tiny)
    assert said.layers.on_device < said.layers.total


def test_a_main_gpu_is_the_only_one_in_use() -> None:
    model = text_model(TEXT["qwen3-0.6b"])
    assert devices_in_use(model, LoadSettings(main_gpu=1), TWO, None, {}) == TWO[1:]
    with pytest.raises(BadInput, match="no device 2"):
        devices_in_use(model, LoadSettings(main_gpu=2), TWO, None, {})


@pytest.mark.parametrize("blocks", [1, 5, 8, 100, "all"])
def test_experts_on_the_host_are_what_leaves_the_device(blocks: int | str) -> None:
    dims = MOE["qwen3moe"]
    model = text_model(dims)
    settings = LoadSettings(n_cpu_moe=blocks)  # type: ignore[arg-type]
    whole = closed_form(model, LoadSettings(), (SOFTWARE,)).devices[0]
    less = closed_form(model, settings, (SOFTWARE,)).devices[0]
    moved = range(dims.layers if blocks == "all" else min(int(blocks), dims.layers))
    names = tuple(f"blk.{i}.ffn_{part}_exps.weight" for i in moved for part in ("up", "gate", "down"))
    experts = sum(t.size_bytes for t in model.header.tensors if t.name in names)
    assert whole.weights_bytes - less.weights_bytes == experts
    assert whole.kv_bytes == less.kv_bytes


@pytest.mark.parametrize("kind", ["cuda", "metal"])
def test_experts_that_leave_the_device_are_on_the_host_and_the_projector_stays(kind: Kind) -> None:
    """With memory that both share the sum stays as it was, and Ollama's rule looks at layers and free memory only."""
    card = Device(f"{kind}0", kind, "a card", 24 * GIB, 24 * GIB, unified=kind == "metal", source="--gpu")
    eyes = vision_projector(VISION["qwen3.5-2b"])
    model = text_model(replace(MOE["hybrid"], draft_layers=1), projector=eyes)
    settings = LoadSettings(draft_tokens=2)
    whole = need(model, settings, (card,), rung="closed form")
    less = need(model, replace(settings, n_cpu_moe=4), (card,), rung="closed form")
    moved = whole.devices[0].weights_bytes - less.devices[0].weights_bytes
    assert moved == less.host.weights_bytes - whole.host.weights_bytes > 0
    assert less.devices[0].projector_bytes == whole.devices[0].projector_bytes == eyes.header.tensor_bytes
    assert less.devices[0].draft_bytes == whole.devices[0].draft_bytes > 0


# --- held against real loads


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ("qwen3moe", LoadSettings(n_cpu_moe=3)),
        ("qwen3moe", LoadSettings(n_cpu_moe="all", batch=1024, ubatch=1024)),
        ("qwen3moe", LoadSettings(n_cpu_moe=2, gpu_layers=5)),
        ("granite", LoadSettings(n_cpu_moe=10, num_ctx=8192)),
        ("hybrid", LoadSettings(n_cpu_moe=3)),
        ("hybrid", LoadSettings(n_cpu_moe="all", parallel=2)),
        ("dense", LoadSettings(n_cpu_moe=4)),
    ],
    ids=lambda v: v if isinstance(v, str) else f"{v.n_cpu_moe} blocks",
)
@pytest.mark.server
@pytest.mark.vulkan
def test_experts_on_the_host_take_what_a_real_load_takes(shape: str, settings: LoadSettings, tmp_path: Path) -> None:
    path = write_text(tmp_path / f"{shape}.gguf", MOE[shape])
    flags = ["--cpu-moe"] if settings.n_cpu_moe == "all" else ["--n-cpu-moe", str(settings.n_cpu_moe)]
    _compare(path, MOE[shape], settings, flags, 1)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ("qwen3-0.6b", LoadSettings(tensor_split=(3.0, 1.0))),
        ("qwen3-0.6b", LoadSettings(tensor_split=(0.0, 1.0))),
        ("qwen3-0.6b", LoadSettings(tensor_split=(1.0, 9.0), gpu_layers=20)),
        ("qwen3.5-0.8b", LoadSettings(tensor_split=(0.37, 0.63))),
        ("granite-3.1-1b-a400m", LoadSettings(tensor_split=(2.0, 1.0), n_cpu_moe=6)),
    ],
    ids=lambda v: v if isinstance(v, str) else str(v.tensor_split),
)
@pytest.mark.server
@pytest.mark.vulkan
def test_shares_of_two_devices_take_what_a_real_load_takes(shape: str, settings: LoadSettings, tmp_path: Path) -> None:
    path = write_text(tmp_path / f"{shape}.gguf", TEXT[shape])
    flags = ["--tensor-split", ",".join(str(s) for s in settings.tensor_split)]
    flags += ["--n-cpu-moe", str(settings.n_cpu_moe)] if settings.n_cpu_moe else []
    _compare(path, TEXT[shape], settings, flags, 2)


@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("shape", "settings", "devices"),
    [
        ("qwen3moe", LoadSettings(n_cpu_moe=3), 1),
        ("qwen3moe", LoadSettings(n_cpu_moe=2, gpu_layers="auto"), 1),
        ("granite", LoadSettings(n_cpu_moe=6, tensor_split=(2.0, 1.0)), 2),
    ],
    ids=["some blocks", "the fit gives up", "and two devices"],
)
def test_the_runtime_is_asked_with_the_settings_and_not_with_its_servers(
    shape: str, settings: LoadSettings, devices: int, tmp_path: Path
) -> None:
    shown = {"GGML_VK_VISIBLE_DEVICES": ",".join(["0"] * devices), "OLLAMA_SCHED_SPREAD": "1"}
    runtime = software_runtime(**shown)
    in_force = {"LLAMA_ARG_N_CPU_MOE": "7", "LLAMA_ARG_TENSOR_SPLIT": "1,1"}
    runtime = replace(runtime, environment={**runtime.environment, **in_force})
    model = read_model(write_text(tmp_path / f"{shape}.gguf", MOE[shape]))
    asked, formula = probe(model, settings, runtime), closed_form(model, settings, runtime.devices)
    assert asked.layers == formula.layers
    for one, other in zip(asked.devices, formula.devices, strict=True):
        for part, _kind in PARTS:
            theirs, ours = (getattr(d, f"{part}_bytes") / MIB for d in (one, other))
            assert theirs == pytest.approx(ours, abs=LOG_ROUNDING), part


def _compare(path: Path, dims: Dims, settings: LoadSettings, flags: list[str], devices: int) -> None:
    layers = dims.layers + 1 if settings.gpu_layers == "all" else int(settings.gpu_layers)
    loaded = real_load(path, settings, *flags, layers=layers, devices=devices)
    answer = closed_form(read_model(path), settings, TWO[:devices])
    for device in answer.devices:
        for part, kind in PARTS:
            said = getattr(device, f"{part}_bytes") / MIB
            seen = loaded.device_bytes(device.name, kind) / MIB  # type: ignore[arg-type]
            assert said == pytest.approx(seen, abs=LOG_ROUNDING), (device.name, part)
    assert answer.host.compute_bytes / MIB == pytest.approx(loaded.host_bytes("compute") / MIB, abs=LOG_ROUNDING)
