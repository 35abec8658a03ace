"""Models that share a server: who is let in, who leaves, what spills, by the rule as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qwenops.machine.spec import parse_spec
from qwenops.machine.types import Device, Host
from qwenops.memory.closed_form import closed_form
from qwenops.memory.reserve import fit_reserve
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.together import Tenant, Together, together
from qwenops.units import GIB
from tests.support.shapes import TEXT, VISION, text_model, vision_projector

HOST = Host(64 * GIB, 60 * GIB, 8, 16, "linux", "x86_64")


def tenant(name: str, shape: str, *, num_ctx: int = 8192, sees: bool = False) -> Tenant:
    projector = vision_projector(VISION[shape]) if sees else None
    model = replace(text_model(TEXT[shape], "Q4_K_M", projector), shards=(Path(f"/blobs/{name}"),))
    return Tenant(name, model, {"num_ctx": num_ctx}, LoadSettings(num_ctx=num_ctx, gpu_layers="auto"))


def share(tenants: Sequence[Tenant], card: str, environment: Mapping[str, str] | None = None) -> Together:
    def ask(model: Model, settings: LoadSettings, devices: tuple[Device, ...]) -> Need:
        reserve = fit_reserve(model, settings, devices, environment or {})
        return closed_form(model, settings, devices, HOST, reserve_bytes=reserve)

    return together(tenants, parse_spec(card), HOST, environment or {}, ask)


def test_small_models_stay_beside_each_other() -> None:
    result = share([tenant("a", "qwen3-1.7b"), tenant("b", "qwen3-0.6b")], "24GiB")
    assert result.loaded == ("a", "b")
    assert result.all_stay


def test_one_that_is_predicted_above_the_limit_sends_the_first_away() -> None:
    result = share([tenant("a", "qwen3-8b"), tenant("b", "qwen3-8b")], "12GiB")
    assert result.loaded == ("b",)
    assert result.stays[1].sends_away == ("a",)
    assert result.stays[1].spilled_layers == 0
    assert not result.all_stay


def test_of_equals_the_one_with_the_first_path_leaves() -> None:
    result = share([tenant("b", "qwen3-4b"), tenant("a", "qwen3-4b"), tenant("c", "qwen3-8b")], "12GiB")
    assert result.stays[2].sends_away == ("a",)
    assert result.loaded == ("b", "c")


def test_no_more_than_the_most_are_loaded() -> None:
    names = ("a", "b", "c")
    tenants = [tenant(name, "qwen3-0.6b", num_ctx=2048) for name in names]
    assert share(tenants, "24GiB").loaded == names
    assert share(tenants, "24GiB", {"OLLAMA_MAX_LOADED_MODELS": "2"}).loaded == ("b", "c")


def test_what_the_rule_leaves_out_makes_a_model_spill() -> None:
    """The prediction has neither projector nor compute buffers: one is let in that then finds too little room."""
    result = share(
        [tenant("big", "qwen3-4b", num_ctx=4096), tenant("eyes", "qwen3-vl-2b", sees=True, num_ctx=2048)], "8GiB"
    )
    assert result.loaded == ("big", "eyes")
    assert result.stays[1].predicted_bytes < result.stays[1].limit_bytes
    assert 0 < result.stays[1].spilled_layers < 29
    assert not result.all_stay


def test_a_projector_that_finds_no_room_goes_to_the_processor() -> None:
    tenants = [tenant("eyes", "qwen3-vl-8b", sees=True, num_ctx=2048)]
    assert share(tenants, "8GiB").stays[0].projector_on_cpu is None
    assert share(tenants, "2GiB").stays[0].projector_on_cpu == "limited-vram"


def test_without_a_device_everything_stays_on_the_processor() -> None:
    tenants = [tenant(name, "qwen3-0.6b") for name in ("a", "b")]
    on_cpu = [replace(t, settings=replace(t.settings, gpu_layers=0)) for t in tenants]
    assert share(on_cpu, "none").loaded == ("a", "b")


def twin(of: Tenant, name: str, **params: object) -> Tenant:
    """Another name for the same file."""
    return replace(of, name=name, params={**of.params, **params})


def test_names_of_one_file_under_the_same_options_share_what_is_loaded() -> None:
    ocr = tenant("ocr", "qwen3-8b")
    result = share([ocr, twin(ocr, "chat", temperature=0.7)], "12GiB")
    assert result.loaded == ("ocr",)
    assert result.stays[1].shares == "ocr"
    assert result.all_stay


def test_names_of_one_file_under_other_options_are_loaded_anew_however_much_is_free() -> None:
    ocr = tenant("ocr", "qwen3-0.6b")
    result = share([ocr, twin(ocr, "chat", num_ctx=16384), twin(ocr, "again", num_gpu=-1)], "80GiB")
    assert [s.sends_away for s in result.stays] == [(), ("ocr",), ("chat",)]
    assert "loaded anew" in result.stays[1].why
    assert result.loaded == ("again",)
    assert not result.all_stay


def test_of_several_devices_each_model_gets_the_one_that_has_the_most_room() -> None:
    result = share([tenant("a", "qwen3-4b"), tenant("b", "qwen3-4b")], "12GiB,12GiB")
    places = [{d.name for d in s.need.devices if d.total_bytes} for s in result.stays]
    assert [len(p) for p in places] == [1, 1]
    assert places[0] != places[1]
    assert result.all_stay


def test_one_that_no_single_device_holds_is_spread() -> None:
    result = share([tenant("a", "qwen3-8b"), tenant("b", "qwen3-8b")], "4GiB,4GiB")
    assert len([d for d in result.stays[0].need.devices if d.weights_bytes]) == 2


def test_layers_as_the_model_asks_are_let_in_whatever_the_prediction() -> None:
    first = tenant("a", "qwen3-8b")
    part = tenant("b", "qwen3-8b")
    part = replace(part, params={**part.params, "num_gpu": 4}, settings=replace(part.settings, gpu_layers=4))
    result = share([first, part], "12GiB")
    assert result.loaded == ("a", "b")
    assert result.stays[1].need.layers.on_device == 4


def test_the_batch_is_the_one_that_ollama_chooses_beside_the_others() -> None:
    """A model that finds little room gets smaller batches, and with them smaller buffers."""
    alone = share([tenant("b", "qwen3-1.7b", num_ctx=16384)], "10GiB").stays[0].need.settings
    tenants = [tenant("a", "qwen3-4b", num_ctx=16384), tenant("b", "qwen3-1.7b", num_ctx=16384)]
    beside = share(tenants, "10GiB")
    assert beside.loaded == ("a", "b")
    assert beside.stays[1].need.settings.batch < alone.batch
    assert beside.stays[1].need.settings.ubatch == beside.stays[1].need.settings.batch
