"""The closed form against real loads of models that keep a state, with attention in some blocks or in none."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.machine.types import Device, Kind
from qwenops.memory.closed_form import closed_form
from qwenops.memory.graphs import KNOWN
from qwenops.memory.graphs.recurrent_families import RECURRENT as GRAPHS
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB
from tests.support.dims_recurrent import RECURRENT
from tests.support.recorded import LOG_ROUNDING, SOFTWARE, Row, buffers_mib, logged_mib, need_of, recorded, row_name
from tests.support.shapes import TEXT, text_model

RECORDED = recorded("recurrent")
REPLAYED = sorted(name for name, dims in RECURRENT.items() if dims.architecture in GRAPHS)
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("row", RECORDED, ids=row_name)
def test_each_buffer_is_as_large_as_the_server_made_it(row: Row) -> None:
    assert buffers_mib(need_of(row)) == pytest.approx(logged_mib(row), abs=LOG_ROUNDING)


@pytest.mark.parametrize("architecture", sorted(GRAPHS))
def test_what_is_replayed_was_loaded_for_real(architecture: str) -> None:
    rows = [r for r in RECORDED if TEXT[r["shape"]].architecture == architecture]
    assert architecture in KNOWN
    assert any("gpu_layers" in r["settings"] for r in rows)
    assert any("gpu_layers" not in r["settings"] for r in rows)
    assert {r["settings"].get("parallel", 1) for r in rows} >= {1, 3}
    assert {r["settings"].get("flash_attn", "auto") for r in rows} >= {"auto", "off"}


def _card(kind: Kind) -> Device:
    return Device("card", kind, "a card", 24 * GIB, 24 * GIB)


KINDS = st.sampled_from(["cuda", "vulkan", "metal"])


# Blocks with a state and the numbers a sequence keeps in each, by the published configuration: the tail of the
# convolution or the shifted rows, then the state.
STATES: dict[str, tuple[int, int]] = {
    "granite-4.0-h-1b": (36, 3 * (3072 + 2 * 128) + 48 * 64 * 128),
    "falcon-h1-1.5b": (24, 3 * (3072 + 2 * 256) + 48 * 64 * 256),
    "jamba-1.5-mini": (28, 3 * 8192 + 8192 * 16),
    "nemotron-nano-9b-v2": (27, 3 * (10240 + 2 * 8 * 128) + 128 * 80 * 128),
    "rwkv6-world-1.6b": (24, 2 * 2048 + 32 * 64 * 64),
    "rwkv7-g1-1.5b": (24, 2 * 2048 + 32 * 64 * 64),
    "qrwkv6-7b": (28, 3584 + 28 * 128 * 128),
    "arwkv7-7b": (28, 3584 + 56 * 64 * 64),
    "mamba-2.8b": (64, 3 * 5120 + 5120 * 16),
    "mamba2-1.3b": (48, 3 * (4096 + 2 * 128) + 64 * 64 * 128),
    "mamba-codestral-7b": (64, 3 * (8192 + 2 * 8 * 128) + 128 * 64 * 128),
}


@pytest.mark.parametrize("shape", STATES)
def test_a_sequence_keeps_as_many_numbers_as_the_configuration_says(shape: str) -> None:
    blocks, numbers = STATES[shape]
    device = closed_form(text_model(RECURRENT[shape]), LoadSettings(), (_card("cuda"),)).devices[0]
    assert device.state_bytes == 4 * blocks * numbers


@FEW
@given(st.sampled_from(REPLAYED), st.integers(1, 4), st.integers(256, 65536), KINDS)
def test_the_state_grows_with_sequences_and_never_with_context(
    shape: str, parallel: int, num_ctx: int, kind: Kind
) -> None:
    model = text_model(RECURRENT[shape])
    one = closed_form(model, LoadSettings(), (_card(kind),)).devices[0]
    more = closed_form(model, LoadSettings(parallel=parallel, num_ctx=num_ctx), (_card(kind),)).devices[0]
    assert more.state_bytes == parallel * one.state_bytes


@FEW
@given(st.sampled_from([n for n in REPLAYED if not RECURRENT[n].heads]), st.integers(256, 1 << 20), KINDS)
def test_without_attention_a_longer_context_costs_nothing(shape: str, num_ctx: int, kind: Kind) -> None:
    model = text_model(RECURRENT[shape])
    short, long = (closed_form(model, LoadSettings(num_ctx=n), (_card(kind),)) for n in (1024, 1024 + num_ctx))
    assert short.devices == long.devices
    assert short.devices[0].kv_bytes == 0


def test_every_block_of_falcon_h1_has_a_state_and_a_cache() -> None:
    dims = RECURRENT["falcon-h1-0.5b"]
    half = closed_form(text_model(dims), LoadSettings(gpu_layers=dims.layers // 2 + 1), (_card("cuda"),))
    device, host = half.devices[0], half.host
    assert device.kv_bytes == host.kv_bytes == 4096 * 18 * 2 * 2 * 64 * 2
    assert device.state_bytes == host.state_bytes > 0


def _on_host(shape: str, card: Device) -> int:
    """Bytes of weights beside the embedding that stay on the host though every layer is on the device."""
    model = text_model(RECURRENT[shape])
    need = closed_form(model, LoadSettings(), (card,))
    return need.host.weights_bytes - next(t.size_bytes for t in model.header.tensors if t.name == "token_embd.weight")


@pytest.mark.parametrize(
    ("shape", "kind", "stays"),
    [
        ("mamba-130m", "vulkan", True),
        ("mamba-130m", "cuda", False),
        ("mamba-130m", "metal", False),
        ("mamba2-130m", "vulkan", False),
        ("mamba2-130m", "cuda", False),
    ],
)
def test_a_decay_that_a_device_cannot_scan_over_stays_on_the_host(shape: str, kind: Kind, stays: bool) -> None:
    dims = RECURRENT[shape]
    assert _on_host(shape, _card(kind)) == (4 * dims.layers * dims.state * dims.inner if stays else 0)


def test_the_first_token_bonus_of_rwkv6_is_tried_with_more_than_the_software_device_can_bind() -> None:
    # the loader tries it with a made-up state of 873 MiB
    dims = RECURRENT["rwkv6-world-1.6b"]
    assert _on_host("rwkv6-world-1.6b", SOFTWARE) == 4 * dims.layers * dims.embedding
    assert _on_host("rwkv6-world-1.6b", _card("vulkan")) == 0
