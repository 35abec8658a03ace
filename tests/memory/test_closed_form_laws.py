"""Laws that every need must keep, whatever the model and the settings."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.shape import HEADLESS, shape_of
from qwenops.memory.types import KVType, LoadSettings, Need
from qwenops.units import GIB, MIB, pad
from tests.support.shapes import TEXT, VISION, text_model, vision_projector

CARDS = st.sampled_from(
    [
        Device("CUDA0", "cuda", "a card", 24 * GIB, 24 * GIB),
        Device("Vulkan0", "vulkan", "a card", 24 * GIB, 24 * GIB),
        Device("MTL0", "metal", "a chip", 24 * GIB, 24 * GIB),
    ]
)
SHAPES = st.sampled_from(sorted(TEXT))
DIMS = {name: shape_of(text_model(d)) for name, d in TEXT.items()}
# those without a draft head, which is in the file and not loaded
LOADED = sorted(n for n, d in DIMS.items() if d.layers == d.trunk_layers)
# those whose heads the blocks of every cache type divide
BLOCKED = sorted(n for n, d in DIMS.items() if d.head_k % 32 == d.head_v % 32 == 0)
WINDOWED = sorted(n for n, d in DIMS.items() if d.window)
QUANTS = st.sampled_from(["Q4_K_M", "Q8_0", "F16", "IQ4_XS"])
LOADS = st.builds(
    LoadSettings,
    num_ctx=st.integers(256, 65536),
    parallel=st.integers(1, 3),
    batch=st.sampled_from([128, 512, 2048]),
    ubatch=st.sampled_from([64, 128, 512]),
    flash_attn=st.sampled_from(["auto", "on", "off"]),
)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _total(need: Need) -> int:
    return need.total_device_bytes + need.host.total_bytes


@FEW
@given(SHAPES, QUANTS, LOADS, CARDS, st.integers(1, 65536))
def test_more_context_never_needs_less(shape: str, quant: str, load: LoadSettings, card: Device, more: int) -> None:
    model = text_model(TEXT[shape], quant)
    less = closed_form(model, load, (card,))
    greater = closed_form(model, replace(load, num_ctx=load.num_ctx + more), (card,))
    assert greater.total_device_bytes >= less.total_device_bytes
    assert greater.devices[0].kv_bytes >= less.devices[0].kv_bytes


@FEW
@given(st.sampled_from(sorted(set(TEXT) - set(WINDOWED))), LOADS, CARDS)
def test_the_cache_grows_in_proportion_to_its_cells(shape: str, load: LoadSettings, card: Device) -> None:
    model = text_model(TEXT[shape])
    once = closed_form(model, replace(load, num_ctx=pad(load.num_ctx, 256)), (card,))
    twice = closed_form(model, replace(load, num_ctx=2 * pad(load.num_ctx, 256)), (card,))
    assert twice.devices[0].kv_bytes == 2 * once.devices[0].kv_bytes
    assert twice.devices[0].state_bytes == once.devices[0].state_bytes


@FEW
@given(st.sampled_from(WINDOWED), LOADS, CARDS)
def test_beyond_the_window_only_blocks_that_see_everything_grow(shape: str, load: LoadSettings, card: Device) -> None:
    model = text_model(TEXT[shape])
    dims = shape_of(model)
    needs = [closed_form(model, replace(load, num_ctx=n), (card,)).devices[0] for n in (16384, 32768)]
    on_side = max(dims.v_width(i) for i in range(dims.layers)) if load.flash_attn == "off" else 0
    per_cell = [2 * load.parallel * (dims.k_width(i) + (on_side or dims.v_width(i))) for i in range(dims.layers)]
    owners = [i for i in range(dims.layers) if dims.owns_cache(i)]
    beyond = sum(per_cell[i] for i in owners if not dims.sliding[i])
    assert needs[1].kv_bytes - needs[0].kv_bytes == 16384 * beyond
    everywhere = closed_form(model, replace(load, num_ctx=32768, swa_full=True), (card,)).devices[0]
    assert everywhere.kv_bytes == 32768 * sum(per_cell[i] for i in owners)


@FEW
@given(st.sampled_from(LOADED), QUANTS, LOADS, CARDS, st.floats(0, 1))
def test_wherever_layers_lie_every_tensor_lies_somewhere_once(
    shape: str, quant: str, load: LoadSettings, card: Device, share: float
) -> None:
    dims = TEXT[shape]
    model = text_model(dims, quant)
    layers = round(share * (dims.layers + 1))
    need = closed_form(model, replace(load, gpu_layers=layers), (card,))
    head = next(t.size_bytes for t in model.header.tensors if t.name == "token_embd.weight")
    copied = head if dims.tied and layers and dims.architecture not in HEADLESS else 0
    placed = need.devices[0].weights_bytes + need.host.weights_bytes
    padding = len(model.header.tensors) * 1024  # alignment, and CUDA's rows of 512
    assert 0 <= placed - copied - model.header.tensor_bytes <= padding


@FEW
@given(st.sampled_from(LOADED), LOADS, CARDS, st.data())
def test_a_layer_moved_to_the_device_takes_its_weights_and_cache_along(
    shape: str, load: LoadSettings, card: Device, data: st.DataObject
) -> None:
    model = text_model(TEXT[shape])
    n = data.draw(st.integers(0, TEXT[shape].layers))
    fewer = closed_form(model, replace(load, gpu_layers=n), (card,)).devices[0]
    more = closed_form(model, replace(load, gpu_layers=n + 1), (card,)).devices[0]
    nothing_there = n == 0 and TEXT[shape].architecture in HEADLESS  # the output of an embedder without one
    assert more.weights_bytes > fewer.weights_bytes or nothing_there
    assert more.kv_bytes + more.state_bytes >= fewer.kv_bytes + fewer.state_bytes


@FEW
@given(
    st.sampled_from(BLOCKED),
    st.sampled_from([("f16", "q8_0"), ("q8_0", "q5_1"), ("q5_1", "q4_0"), ("q5_0", "q4_1")]),
    CARDS,
)
def test_a_smaller_cache_type_never_makes_the_cache_larger(
    shape: str, pair: tuple[KVType, KVType], card: Device
) -> None:
    model = text_model(TEXT[shape])
    wide, narrow = (
        closed_form(model, LoadSettings(num_ctx=8192, kv_type_k=k, kv_type_v=k), (card,)).devices[0] for k in pair
    )
    assert narrow.kv_bytes < wide.kv_bytes or wide.kv_bytes == 0  # a model without attention has none


@FEW
@given(SHAPES, LOADS, CARDS, st.integers(300, 24 * 1024), st.integers(0, 2048))
def test_auto_keeps_the_reserve_free(
    shape: str, load: LoadSettings, card: Device, free_mib: int, reserve_mib: int
) -> None:
    card = replace(card, free_bytes=free_mib * MIB, source="runtime")
    model = text_model(TEXT[shape])
    need = closed_form(model, replace(load, gpu_layers="auto"), (card,), reserve_bytes={card.name: reserve_mib * MIB})
    nothing = closed_form(model, replace(load, gpu_layers=0), (card,))
    target = (free_mib - reserve_mib) * MIB
    assert need.total_device_bytes <= max(target, nothing.total_device_bytes)


@FEW
@given(st.sampled_from(sorted(VISION)), st.integers(64, 4096), st.integers(0, 2048), CARDS)
def test_a_larger_image_never_needs_less(vision: str, tokens: int, more: int, card: Device) -> None:
    model = text_model(TEXT["qwen3-0.6b"], projector=vision_projector(VISION[vision]))
    less = closed_form(model, LoadSettings(image_tokens=tokens), (card,)).devices[0]
    greater = closed_form(model, LoadSettings(image_tokens=tokens + more), (card,)).devices[0]
    # the allocator takes the best gap, not the best order: a larger image can pack a little better
    assert greater.encoder_bytes >= 0.998 * less.encoder_bytes
    assert greater.projector_bytes == less.projector_bytes


@FEW
@given(SHAPES, LOADS, CARDS)
def test_the_band_is_around_the_total(shape: str, load: LoadSettings, card: Device) -> None:
    need = closed_form(text_model(TEXT[shape]), load, (card,))
    assert 0 <= need.band.low < need.total_device_bytes < need.band.high
