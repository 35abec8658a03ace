"""The closed form against real loads: recorded from the server that Ollama ships, and printed in public logs."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput
from qwenops.machine.types import Device, Kind
from qwenops.memory.closed_form import closed_form
from qwenops.memory.encoder import encoder_bytes, encoder_warmup_bytes
from qwenops.memory.types import LoadSettings, Need
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, VISION, Dims, text_model, vision_projector

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded_loads.json").read_text())["loads"]
SOFTWARE = Device("Vulkan0", "vulkan", "llvmpipe (LLVM 15.0.6, 256 bits)", 2048 * MIB, 2048 * MIB, source="runtime")
LOG_ROUNDING = 0.011  # the log has two digits


def _name(row: dict[str, Any]) -> str:
    changed = " ".join(f"{k}={v}" for k, v in row["settings"].items())
    return f"{row['shape']} {row['quant']} {changed} {row['projector'] or ''}".strip()


def _need(row: dict[str, Any]) -> Need:
    return _need_of(json.dumps(row, sort_keys=True))


@cache
def _need_of(text: str) -> Need:
    row = json.loads(text)
    projector = vision_projector(VISION[row["projector"]]) if row["projector"] else None
    model = text_model(TEXT[row["shape"]], row["quant"], projector)
    reserve = {"Vulkan0": (row["target_mib"] or 0) * MIB}
    return closed_form(model, replace(LoadSettings(), **row["settings"]), (SOFTWARE,), reserve_bytes=reserve)


def _mib(n_bytes: int) -> float:
    return n_bytes / MIB


@pytest.mark.parametrize("row", RECORDED, ids=_name)
def test_each_buffer_is_as_large_as_the_server_made_it(row: dict[str, Any]) -> None:
    need = _need(row)
    device = need.devices[0]
    logged = row["devices"]
    assert _mib(device.weights_bytes) == pytest.approx(logged.get("Vulkan0 model", 0), abs=LOG_ROUNDING)
    assert _mib(device.kv_bytes) == pytest.approx(logged.get("Vulkan0 KV", 0), abs=LOG_ROUNDING)
    assert _mib(device.state_bytes) == pytest.approx(logged.get("Vulkan0 RS", 0), abs=LOG_ROUNDING)
    assert _mib(device.compute_bytes) == pytest.approx(logged.get("Vulkan0 compute", 0), abs=LOG_ROUNDING)
    assert _mib(need.host.kv_bytes) == pytest.approx(logged.get("CPU KV", 0), abs=LOG_ROUNDING)
    assert _mib(need.host.compute_bytes) == pytest.approx(logged.get("Vulkan_Host compute", 0), abs=LOG_ROUNDING)


@pytest.mark.parametrize("row", [r for r in RECORDED if r["projector"]], ids=_name)
def test_projector_and_encoder_are_what_the_server_counts_for_the_device(row: dict[str, Any]) -> None:
    projector = vision_projector(VISION[row["projector"]])
    ours = _need(row).devices[0].projector_bytes + encoder_warmup_bytes(projector, device=SOFTWARE)
    assert _mib(ours) == pytest.approx(row["projector_mib"], abs=LOG_ROUNDING)


@pytest.mark.parametrize("row", [r for r in RECORDED if r["settings"].get("gpu_layers") == "auto"], ids=_name)
def test_auto_places_as_many_layers_as_the_server_did(row: dict[str, Any]) -> None:
    assert _need(row).layers.on_device == row["layers"]


@pytest.mark.parametrize("row", RECORDED, ids=_name)
def test_the_band_holds_what_was_loaded(row: dict[str, Any]) -> None:
    need = _need(row)
    device = need.devices[0]
    loaded = sum(size for name, size in row["devices"].items() if name.startswith("Vulkan0 ")) * MIB
    vision = device.projector_bytes + device.encoder_bytes
    assert need.band.low - vision <= loaded <= need.band.high - vision


def _gpu(kind: Kind, name: str) -> tuple[Device, ...]:
    return (Device(f"{name}0", kind, "a card", 24 * GIB, 24 * GIB, source="runtime"),)


# Logs that people published: build b9849 (Vulkan), builds of June 2026 (CUDA, Metal), Ollama of December 2025 (CPU).
# Weights are compared where the quantisation is llama-quantize's own mix.
PUBLIC: list[tuple[str, str, LoadSettings, tuple[Device, ...], dict[str, float]]] = [
    (
        "qwen3-8b",
        "Q4_K_M",
        LoadSettings(num_ctx=8192, batch=2048, ubatch=2048),
        _gpu("vulkan", "Vulkan"),
        {"weights": 4455.34, "kv": 1152.0, "compute": 384.04, "host_weights": 333.84, "host_compute": 96.05},
    ),
    (
        "qwen3.5-9b",
        "Q4_K_M",
        LoadSettings(num_ctx=8192, batch=2048, ubatch=2048),
        _gpu("vulkan", "Vulkan"),
        {"kv": 256.0, "state": 50.25, "compute": 416.16, "host_compute": 96.07},
    ),
    (
        "qwen3.5-9b",
        "Q4_K_M",
        LoadSettings(num_ctx=8192, batch=2048, ubatch=2048, gpu_layers=18),
        _gpu("vulkan", "Vulkan"),
        {"kv": 160.0, "host_kv": 96.0},
    ),
    (
        "qwen3-4b",
        "Q4_K_M",
        LoadSettings(num_ctx=4096, batch=2048, ubatch=512, outputs="library"),
        _gpu("cuda", "CUDA"),
        {"weights": 2375.91, "kv": 576.0, "compute": 301.75, "host_weights": 304.28},
    ),
    (
        "qwen3.6-27b",
        "Q4_K_M",
        LoadSettings(num_ctx=32768, batch=2048, ubatch=512, outputs="library"),
        _gpu("metal", "MTL"),
        {"kv": 2048.0, "state": 149.62},
    ),
    (
        "mistral-7b",
        "Q4_K_M",
        LoadSettings(num_ctx=4096, flash_attn="off"),
        (),
        {"host_kv": 512.0, "host_weights": 4169.52},
    ),
]
PUBLIC_TOLERANCE = 0.02


@pytest.mark.parametrize(
    ("shape", "quant", "settings", "devices", "logged"),
    PUBLIC,
    ids=[f"{shape} on {devices[0].kind if devices else 'cpu'}" for shape, _, _, devices, _ in PUBLIC],
)
def test_public_logs_show_the_same_buffers(
    shape: str, quant: str, settings: LoadSettings, devices: tuple[Device, ...], logged: dict[str, float]
) -> None:
    need = closed_form(text_model(TEXT[shape], quant), settings, devices)
    parts = {f"host_{k}": getattr(need.host, f"{k}_bytes") for k in ("weights", "kv", "state", "compute")}
    for device in need.devices:
        parts |= {k: getattr(device, f"{k}_bytes") for k in ("weights", "kv", "state", "compute")}
    ours = {k: _mib(parts[k]) for k in logged}
    assert ours == pytest.approx(logged, abs=PUBLIC_TOLERANCE)


@pytest.mark.parametrize(
    ("vision", "quant", "flash", "logged_mib"),
    [
        ("qwen3-vl-8b", "F32", True, 372.08),
        ("qwen3.5-9b", "Q8_0", True, 248.10),
        ("qwen3.5-9b", "Q8_0", False, 4657.81),
        ("qwen2.5-vl-3b", "F16", True, 704.79),
    ],
)
def test_public_logs_show_the_same_encoder(vision: str, quant: str, flash: bool, logged_mib: float) -> None:
    projector = vision_projector(VISION[vision], quant)
    card = _gpu("cuda", "CUDA")[0]
    assert _mib(encoder_warmup_bytes(projector, flash_attn=flash, device=card)) == pytest.approx(
        logged_mib, abs=LOG_ROUNDING
    )


@pytest.mark.parametrize(
    ("kv_type", "server_mib"), [("f16", 378.02), ("q8_0", 1360.28)], ids=["f16 cache", "q8_0 cache, copied as f16"]
)
def test_cuda_keeps_an_f16_copy_of_a_quantized_cache(kv_type: Any, server_mib: float) -> None:
    settings = LoadSettings(num_ctx=262144, batch=2048, ubatch=512, kv_type_k=kv_type, kv_type_v=kv_type)
    need = closed_form(text_model(TEXT["qwen3.6-27b"]), settings, _gpu("cuda", "CUDA"))
    assert _mib(need.devices[0].compute_bytes) == pytest.approx(server_mib, abs=LOG_ROUNDING)


# Recorded with the software device listed twice (GGML_VK_VISIBLE_DEVICES=0,0): both devices' share, then the host's.
TWO_DEVICES: list[tuple[str, LoadSettings, tuple[float, ...], tuple[float, ...], float]] = [
    ("qwen3-0.6b", LoadSettings(), (133.91, 240.0, 0, 48.04), (117.02, 208.0, 0, 48.04), 20.06),
    (
        "qwen3-vl-2b",
        LoadSettings(num_ctx=8192, batch=1024, ubatch=1024),
        (430.51, 480.0, 0, 216.12),
        (376.49, 416.0, 0, 184.13),
        104.17,
    ),
    (
        "qwen3.5-2b",
        LoadSettings(num_ctx=8192, gpu_layers=20),
        (322.08, 32.0, 8.56, 68.5),
        (290.03, 48.0, 6.42, 56.09),
        24.09,
    ),
    ("qwen3.5-2b", LoadSettings(num_ctx=8192), (419.7, 48.0, 10.7, 96.13), (356.42, 48.0, 8.56, 96.13), 40.1),
]


@pytest.mark.parametrize(("shape", "settings", "first", "second", "host"), TWO_DEVICES, ids=lambda v: str(v)[:30])
def test_two_devices_share_a_model_as_the_server_shares_it(
    shape: str, settings: LoadSettings, first: tuple[float, ...], second: tuple[float, ...], host: float
) -> None:
    devices = (SOFTWARE, replace(SOFTWARE, name="Vulkan1"))
    need = closed_form(text_model(TEXT[shape]), settings, devices)
    seen = [tuple(_mib(n) for n in (d.weights_bytes, d.kv_bytes, d.state_bytes, d.compute_bytes)) for d in need.devices]
    assert seen[0] == pytest.approx(first, abs=LOG_ROUNDING)
    assert seen[1] == pytest.approx(second, abs=LOG_ROUNDING)
    assert _mib(need.host.compute_bytes) == pytest.approx(host, abs=LOG_ROUNDING)


def test_the_encoder_is_counted_for_the_largest_image_the_settings_allow() -> None:
    projector = vision_projector(VISION["qwen3.5-9b"])
    model = text_model(TEXT["qwen3.5-9b"], projector=projector)
    card = _gpu("cuda", "CUDA")
    small = closed_form(model, LoadSettings(image_tokens=1024), card).devices[0].encoder_bytes
    large = closed_form(model, LoadSettings(), card).devices[0].encoder_bytes
    assert small == encoder_warmup_bytes(projector, device=card[0])  # what was reserved at load is never given back
    assert large == encoder_bytes(projector, 4096, device=card[0])
    assert _mib(large) == pytest.approx(480.25, abs=LOG_ROUNDING)


def test_a_projector_on_the_cpu_takes_nothing_from_the_device() -> None:
    model = text_model(TEXT["qwen3-vl-2b"], projector=vision_projector(VISION["qwen3-vl-2b"]))
    need = closed_form(model, LoadSettings(projector_device="cpu"), _gpu("cuda", "CUDA"))
    assert need.devices[0].projector_bytes == need.devices[0].encoder_bytes == 0
    assert need.host.projector_bytes > 700 * MIB
    assert need.host.encoder_bytes > 300 * MIB


def test_without_a_device_everything_is_on_the_host() -> None:
    model = text_model(TEXT["qwen3-0.6b"])
    need = closed_form(model, LoadSettings(), ())
    assert need.devices == ()
    assert need.layers.on_device == 0
    assert need.host.weights_bytes == model.header.tensor_bytes
    assert (need.band.low, need.band.high) == (0, 0)


def test_an_architecture_that_is_not_replayed_gets_a_note_and_a_wide_band() -> None:
    model = text_model(replace(TEXT["qwen3-8b"], architecture="bitnet"))
    need = closed_form(model, LoadSettings(), _gpu("cuda", "CUDA"))
    total = need.total_device_bytes
    assert need.devices[0].weights_bytes > 4 * GIB
    assert need.devices[0].kv_bytes == 4096 * 36 * 2 * 1024 * 2
    assert need.devices[0].compute_bytes > 0
    assert need.band.high - total >= total // 5
    assert "bitnet" in need.notes[0]


def test_a_file_with_other_tensor_names_still_gets_a_compute_figure() -> None:
    model = text_model(replace(TEXT["qwen3-8b"], architecture="strange"))
    renamed = tuple(replace(t, name=t.name.replace("ffn_", "mlp_")) for t in model.header.tensors)
    model = replace(model, header=replace(model.header, tensors=renamed))
    need = closed_form(model, LoadSettings(), _gpu("cuda", "CUDA"))
    assert 30 * MIB < need.devices[0].compute_bytes < 1024 * MIB


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (LoadSettings(flash_attn="off", kv_type_v="q8_0"), "flash attention"),
        (LoadSettings(num_ctx=0), "at least 1"),
        (LoadSettings(kv_type_k="q8_0", kv_type_v="q8_0"), "do not divide"),
    ],
)
def test_settings_that_the_runtime_refuses_are_refused(settings: LoadSettings, says: str) -> None:
    dims = replace(TEXT["qwen3-0.6b"], head=80)
    with pytest.raises(BadInput, match=says):
        closed_form(text_model(dims), settings, (SOFTWARE,))


@pytest.mark.parametrize(("num_ctx", "aborts"), [(65536, False), (131072, True)])
def test_a_cache_too_large_for_one_buffer_of_the_device_is_told(num_ctx: int, aborts: bool) -> None:
    # loaded both ways: the server aborts on the second, a K tensor of 256 MiB where llvmpipe binds 128
    need = closed_form(text_model(TEXT["qwen3-0.6b"]), LoadSettings(num_ctx=num_ctx), (SOFTWARE,))
    assert any("aborts" in note for note in need.notes) is aborts


def test_vision_tensors_inside_the_file_count_as_a_projector() -> None:
    inside = vision_projector(VISION["qwen3-vl-2b"]).header
    text = text_model(TEXT["qwen3-vl-2b"])
    header = replace(text.header, tensors=(*text.header.tensors, *inside.tensors))
    need = closed_form(replace(text, header=header, inline_vision=True), LoadSettings(), _gpu("cuda", "CUDA"))
    apart = closed_form(text, LoadSettings(), _gpu("cuda", "CUDA"))
    assert need.devices[0].weights_bytes == apart.devices[0].weights_bytes
    assert need.devices[0].projector_bytes == pytest.approx(inside.tensor_bytes, rel=0.001)
    assert need.devices[0].encoder_bytes > 200 * MIB
    assert "not replayed" in need.notes[0]


def test_a_draft_head_in_the_file_is_not_loaded() -> None:
    plain = TEXT["qwen3.5-2b"]
    with_head: Dims = replace(plain, draft_layers=1)
    card = _gpu("cuda", "CUDA")
    a = closed_form(text_model(plain), LoadSettings(), card)
    b = closed_form(text_model(with_head), LoadSettings(), card)
    assert a.devices[0].weights_bytes == b.devices[0].weights_bytes
    assert a.devices[0].kv_bytes == b.devices[0].kv_bytes
    assert b.layers.total == a.layers.total + 1


def test_ollamas_own_name_for_qwen2_5_vl_is_the_same_model() -> None:
    upstream = TEXT["qwen2.5-vl-3b"]
    card = _gpu("vulkan", "Vulkan")
    needs = [
        closed_form(text_model(replace(upstream, architecture=a)), LoadSettings(), card)
        for a in ("qwen2vl", "qwen25vl")
    ]
    assert needs[0].devices == needs[1].devices
    assert needs[1].notes == ()
