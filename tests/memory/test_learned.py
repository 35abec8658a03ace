"""What a history teaches reaches every rung's answer: the overhead with its source, and the band."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwenops import history
from qwenops.machine.types import Device
from qwenops.memory.ladder import need
from qwenops.memory.learned import NOTHING, learn, settled
from qwenops.memory.load_log import parse_load_log
from qwenops.memory.measured import as_measured, device_key, runtime_key, settings_key
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.read import model_key
from qwenops.model.types import Model
from qwenops.runtime.types import Runtime
from qwenops.units import GIB, MIB
from tests.memory.test_overhead import entry
from tests.support.shapes import TEXT, text_model

CARD = Device("CUDA0", "cuda", "NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB, driver="580.126", uuid="GPU-1")
RUNTIME = Runtime(place="remote", url="http://10.0.0.7:1", version="0.32.14", llama_server_build="b10434")
SETTINGS = LoadSettings(num_ctx=8192)


@pytest.fixture
def past(tmp_path: Path) -> history.History:
    return history.open(tmp_path / "history.sqlite3")


@pytest.fixture(scope="module")
def model() -> Model:
    return text_model(TEXT["qwen3-4b"])


def keep(past: history.History, answer: Need, *, over: int, runtime: Runtime = RUNTIME, more: int = 0) -> None:
    """A load that took its plan's buffers, `more` of compute, and `over` beyond them."""
    (device,) = answer.devices
    log = f"""
load_tensors: offloaded {answer.layers.on_device}/{answer.layers.total} layers to GPU
load_tensors:        CUDA0 model buffer size = {device.weights_bytes / MIB:.2f} MiB
llama_kv_cache:      CUDA0 KV buffer size = {device.kv_bytes / MIB:.2f} MiB
sched_reserve:      CUDA0 compute buffer size = {(device.compute_bytes + more) / MIB:.2f} MiB
"""
    past.record_load(
        f"model {len(past.loads())}",
        settings_key(answer.settings),
        runtime_key(runtime),
        device_key((CARD,)),
        answer.as_data({"architecture": "qwen3"}),
        as_measured(parse_load_log(log), usage=(entry(over),)),
        ok=not more,
    )


def asked(model: Model, past: history.History, runtime: Runtime = RUNTIME, device: Device = CARD) -> Need:
    return need(model, SETTINGS, (device,), runtime=runtime, rung="closed form", learned=learn(past, runtime))


def test_without_a_history_the_stated_default_and_band_hold(model: Model, past: history.History) -> None:
    answer = asked(model, past)
    assert answer.devices[0].overhead_bytes == 456 * MIB
    assert answer.sources["overhead"] == "default"
    assert learn(past, RUNTIME) == learn(None, RUNTIME) == learn(past, None) == NOTHING
    assert not past.path.exists()


def test_three_loads_change_the_overhead_the_band_and_the_source(model: Model, past: history.History) -> None:
    before = asked(model, past)
    for over in (420 * MIB, 425 * MIB, 440 * MIB):
        keep(past, before, over=over)
    after = asked(model, past)
    assert after.devices[0].overhead_bytes == 425 * MIB
    assert after.sources["overhead"] == "learned (3 loads)"
    assert before.total_device_bytes - after.total_device_bytes == 31 * MIB
    assert after.band.high - after.total_device_bytes == before.band.high - before.total_device_bytes + 15 * MIB
    assert after.total_device_bytes - after.band.low == before.total_device_bytes - before.band.low + 5 * MIB


def test_a_load_that_took_more_widens_the_band_for_its_own_build_alone(model: Model, past: history.History) -> None:
    before = asked(model, past)
    keep(past, before, over=430 * MIB, more=500 * MIB)
    assert asked(model, past).band.high >= before.total_device_bytes + 499 * MIB
    newer = replace(RUNTIME, version="0.33.0", llama_server_build="b10488")
    assert asked(model, past, newer).band == before.band


@pytest.mark.parametrize(
    ("runtime", "counts"),
    [
        pytest.param(RUNTIME, True, id="the same"),
        pytest.param(replace(RUNTIME, llama_server_build=None), True, id="its devices were not asked for"),
        pytest.param(replace(RUNTIME, version=None), True, id="the server is down"),
        pytest.param(replace(RUNTIME, version=None, llama_server_build=None), False, id="nothing is known of it"),
        pytest.param(replace(RUNTIME, llama_server_build="b1"), False, id="another llama-server"),
        pytest.param(replace(RUNTIME, version="0.33.0", llama_server_build=None), False, id="another Ollama"),
    ],
)
def test_a_load_counts_for_the_runtime_it_was_made_with(
    model: Model, past: history.History, runtime: Runtime, counts: bool
) -> None:
    keep(past, asked(model, past), over=430 * MIB)
    assert bool(learn(past, runtime).overheads) is counts


def test_a_measured_overhead_is_not_added_to_a_free_figure_that_holds_the_context(
    model: Model, past: history.History
) -> None:
    (device,) = asked(model, past).devices
    log = f"load_tensors: offloaded 37/37 layers to GPU\nx: CUDA0 model buffer size = {device.weights_bytes / MIB} MiB"
    past.record_load(
        model_key(model),
        settings_key(SETTINGS),
        runtime_key(RUNTIME),
        device_key((CARD,)),
        {},
        as_measured(parse_load_log(log), overhead_bytes={"CUDA0": 430 * MIB}),
        ok=True,
    )
    said = {}
    for source in ("nvml", "runtime"):
        card = replace(CARD, source=source)
        answer = need(model, SETTINGS, (card,), runtime=RUNTIME, rung="measured", history=past)
        said[source] = (answer.devices[0].overhead_bytes, answer.sources["overhead"])
        assert answer.band.low <= answer.total_device_bytes <= answer.band.high
    assert said == {"nvml": (430 * MIB, "measured"), "runtime": (0, "default")}


def test_two_cards_may_have_their_overhead_from_two_sources(model: Model, past: history.History) -> None:
    for _ in range(3):
        keep(past, asked(model, past), over=400 * MIB)
    second = replace(CARD, name="CUDA1", uuid="GPU-2", index=1)
    answer = need(model, SETTINGS, (CARD, second), runtime=RUNTIME, rung="closed form", learned=learn(past, RUNTIME))
    assert [d.overhead_bytes for d in answer.devices] == [400 * MIB, 456 * MIB]
    assert answer.sources["overhead"] == "default and learned (3 loads)"


def test_an_answer_without_devices_has_nothing_to_settle(model: Model, past: history.History) -> None:
    answer = need(model, replace(SETTINGS, gpu_layers=0), (), runtime=None)
    assert settled(answer, "qwen3", (), learn(past, RUNTIME)) == answer
