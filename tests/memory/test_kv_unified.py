"""Several sequences in one cache: what changes, what does not, and what a real server then allocates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.measured import settings_key
from qwenops.memory.probe import probe
from qwenops.memory.types import LoadSettings
from qwenops.model.read import read_model
from qwenops.units import GIB, MIB
from tests.support.dims import Dims
from tests.support.real_load import real_load
from tests.support.runtime import software_runtime
from tests.support.shapes import TEXT, text_model, write_text

CARD = Device("CUDA0", "cuda", "a card", 24 * GIB, 24 * GIB)
# the log rounds to hundredths of a MiB
LOG_ROUNDING = 0.02
SMALL: dict[str, Dims] = {
    "dense": replace(TEXT["qwen3-0.6b"], layers=4, vocabulary=32000),
    "hybrid": replace(TEXT["qwen3.5-0.8b"], layers=8, vocabulary=32000),
    "sliding window": replace(TEXT["gemma-3-270m"], vocabulary=32000),
}


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(TEXT)), st.integers(256, 32768))
def test_one_sequence_has_one_cache_either_way(shape: str, num_ctx: int) -> None:
    model, load = text_model(TEXT[shape]), LoadSettings(num_ctx=num_ctx)
    shared = replace(load, kv_unified=True)
    assert closed_form(model, shared, (CARD,)) == replace(closed_form(model, load, (CARD,)), settings=shared)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(TEXT)), st.integers(1, 64), st.integers(2, 4))
def test_the_cache_is_as_long_as_all_of_theirs_and_each_keeps_its_own_state(
    shape: str, steps: int, parallel: int
) -> None:
    load = LoadSettings(num_ctx=256 * steps, parallel=parallel, swa_full=True)
    apart, shared = (
        closed_form(text_model(TEXT[shape]), replace(load, kv_unified=one), (CARD,)).devices[0] for one in (False, True)
    )
    assert (apart.kv_bytes, apart.state_bytes) == (shared.kv_bytes, shared.state_bytes)


def test_a_window_is_kept_for_every_sequence() -> None:
    model = text_model(TEXT["gemma-3-1b"])
    load = LoadSettings(num_ctx=8192, parallel=4)
    apart, shared = (closed_form(model, replace(load, kv_unified=one), (CARD,)) for one in (False, True))
    # 22 of 26 blocks see 512 tokens: 4 x (512 + 512) cells apart, 4 x 512 + 512 in one; keys and values of 256 in f16
    assert apart.devices[0].kv_bytes - shared.devices[0].kv_bytes == 22 * 2 * 256 * 2 * (4 * 1024 - 2560)


def test_loads_that_were_kept_before_there_was_this_setting_are_still_found() -> None:
    assert settings_key(LoadSettings()) == "62abd61e9d4b391947b5f24910907451"
    assert settings_key(LoadSettings(num_ctx=8192, kv_type_k="q8_0", kv_type_v="q8_0")) == (
        "a1c9419091ed47a2584142101b6e08ee"
    )
    assert settings_key(LoadSettings(kv_unified=True)) != settings_key(LoadSettings())


@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.slow
@pytest.mark.parametrize("dims", SMALL.values(), ids=SMALL.keys())
@pytest.mark.parametrize("gpu_layers", ["all", 3])
def test_a_real_server_allocates_what_was_said_and_says_the_same_when_asked(
    dims: Dims, gpu_layers: int, tmp_path: Path
) -> None:
    load = LoadSettings(num_ctx=2048, parallel=4, kv_unified=True, gpu_layers=gpu_layers)
    runtime = software_runtime()
    path = write_text(tmp_path / "ghost.gguf", dims)
    model = read_model(path)
    layers = dims.layers + 1 if gpu_layers == "all" else gpu_layers
    loaded = real_load(path, load, layers=layers)
    for answer in (closed_form(model, load, runtime.devices), probe(model, load, runtime)):
        device = answer.devices[0]
        for part, kind in (("weights", "model"), ("kv", "KV"), ("state", "RS"), ("compute", "compute")):
            said = getattr(device, f"{part}_bytes") / MIB
            assert said == pytest.approx(loaded.device_bytes(device.name, kind) / MIB, abs=LOG_ROUNDING), part
