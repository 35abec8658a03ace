"""The highest rung that answers is taken, every part names its source, and a note says why a higher one did not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops import history
from qwenops.errors import BadInput, PartMissing
from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.ladder import need
from qwenops.memory.load_log import LoadLines, parse_load_log
from qwenops.memory.measured import as_measured, device_key, runtime_key, settings_key
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.read import model_key, read_model
from qwenops.model.types import Model
from qwenops.runtime.types import Runtime
from tests.support.parts import layout, software_gpu_environment
from tests.support.shapes import TEXT, VISION, write_text, write_vision

MIB = 1024**2
CARD = Device("CUDA0", "cuda", "NVIDIA GeForce RTX 3060", 12288 * MIB, 11800 * MIB)
OTHER = Runtime(place="remote", url="http://10.0.0.7:11434", version="0.32.14", llama_server_build="b10434")
SETTINGS = LoadSettings(num_ctx=8192)

LOADED = """\
load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
load_tensors: offloaded 29/29 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   243.43 MiB
load_tensors:        CUDA0 model buffer size =  1050.40 MiB
llama_context: constructing llama_context
llama_context:  CUDA_Host  output buffer size =     0.58 MiB
llama_kv_cache:      CUDA0 KV buffer size =   896.00 MiB
resolve_fused_ops: Flash Attention enabled
sched_reserve:      CUDA0 compute buffer size =   301.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    20.01 MiB
clip_ctx: CLIP using CUDA0 backend
load_hparams: model size:         781.25 MiB
reserve_compute_meta:      CUDA0 compute buffer size =   340.00 MiB
reserve_compute_meta:        CPU compute buffer size =    24.93 MiB
"""


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = write_text(tmp_path / "Qwen3-VL-2B-Q4_K_M.gguf", TEXT["qwen3-vl-2b"])
    return read_model(path, mmproj=write_vision(tmp_path / "mmproj-F16.gguf", VISION["qwen3-vl-2b"]))


@pytest.fixture
def past(tmp_path: Path) -> history.History:
    return history.open(tmp_path / "history.sqlite3")


def remember(past: history.History, model: Model, settings: LoadSettings = SETTINGS, text: str = LOADED) -> LoadLines:
    """Keep a load in the history as the verification of a load does."""
    lines = parse_load_log(text)
    past.record_load(
        model_key(model),
        settings_key(settings),
        runtime_key(OTHER),
        device_key((CARD,)),
        predicted={},
        measured=as_measured(lines, overhead_bytes={"CUDA0": 450 * MIB}),
        ok=True,
    )
    return lines


def asked(model: Model, past: history.History | None = None, **changes: object) -> Need:
    options: dict[str, object] = {"runtime": OTHER, "history": past, **changes}
    settings = options.pop("settings", SETTINGS)
    return need(model, settings, options.pop("devices", (CARD,)), **options)  # type: ignore[arg-type]


def test_without_history_and_with_a_runtime_out_of_reach_the_formulas_answer_and_say_why(model: Model) -> None:
    answer = asked(model)
    assert answer.rung == "closed form"
    assert answer.notes[0] == "the runtime was not asked: the Ollama server is on another machine"
    formula = closed_form(model, SETTINGS, (CARD,))
    assert answer.sources["overhead"] == "default"
    assert replace(answer, notes=()) == replace(formula, notes=())


def test_hardware_that_is_not_here_is_answered_without_excuses(model: Model) -> None:
    answer = asked(model, runtime=None)
    assert answer.rung == "closed form"
    assert not any("not asked" in note for note in answer.notes)


def test_a_load_that_was_measured_before_comes_first(model: Model, past: history.History) -> None:
    lines = remember(past, model)
    answer = asked(model, past)
    (device,) = answer.devices
    assert answer.rung == "measured"
    assert device.weights_bytes == lines.device_bytes("CUDA0", "model")
    assert device.kv_bytes == 896 * MIB
    assert device.projector_bytes == round(781.25 * MIB)
    assert device.overhead_bytes == 450 * MIB
    assert device.free_bytes == CARD.free_bytes
    assert set(answer.sources.values()) == {"measured"}
    assert answer.band.low <= answer.total_device_bytes <= answer.band.high


def test_a_measured_encoder_is_that_of_the_load_until_a_larger_image_is_allowed(
    model: Model, past: history.History
) -> None:
    at_load, largest = replace(SETTINGS, image_tokens=1024), replace(SETTINGS, image_tokens=4096)
    for settings in (at_load, largest):
        remember(past, model, settings)
    small, large = (asked(model, past, settings=s).devices[0].encoder_bytes for s in (at_load, largest))
    assert small == 340 * MIB
    assert large > 1.5 * small


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": replace(SETTINGS, num_ctx=4096)},
        {"runtime": replace(OTHER, llama_server_build="b10488")},
        {"runtime": replace(OTHER, version="0.33.0")},
        {"devices": (replace(CARD, description="NVIDIA GeForce RTX 4060"),)},
    ],
    ids=["other settings", "another build", "another Ollama", "another card"],
)
def test_a_load_of_anything_else_does_not_count(
    model: Model, past: history.History, changes: dict[str, object]
) -> None:
    remember(past, model)
    assert asked(model, past, **changes).rung == "closed form"


def test_a_load_counts_whatever_is_free_now(model: Model, past: history.History) -> None:
    remember(past, model)
    answer = asked(model, past, devices=(replace(CARD, free_bytes=9000 * MIB),))
    assert (answer.rung, answer.devices[0].free_bytes) == ("measured", 9000 * MIB)


def test_a_row_of_the_history_that_is_not_understood_is_passed_over(model: Model, past: history.History) -> None:
    keys = (model_key(model), settings_key(SETTINGS), runtime_key(OTHER), device_key((CARD,)))
    for measured in ({}, {"devices": [{"name": "CUDA0", "wat": 1}]}, {"devices": 3}):
        past.record_load(*keys, predicted={}, measured=measured, ok=True)
    assert asked(model, past).rung == "closed form"


@pytest.mark.parametrize(
    ("rung", "error", "why"),
    [
        ("runtime", PartMissing, "on another machine"),
        ("measured", PartMissing, "not measured before"),
        ("guess", BadInput, "'guess' is not a rung"),
    ],
)
def test_a_rung_asked_for_by_name_answers_or_says_why_not(
    model: Model, rung: str, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        asked(model, rung=rung)


def test_the_reserve_that_the_caller_knows_is_kept_on_every_rung(model: Model, past: history.History) -> None:
    remember(past, model)
    for rung in ("measured", "closed form"):
        answer = asked(model, past, rung=rung, reserve_bytes={"CUDA0": 777 * MIB})
        assert answer.devices[0].reserve_bytes == 777 * MIB


@pytest.mark.parametrize(
    ("settings", "free_mib", "why"),
    [
        (replace(SETTINGS, gpu_layers=12), 11800, "partial-text-offload"),
        (replace(SETTINGS, gpu_layers=0), 11800, "cpu-only"),
        (SETTINGS, 1400, "limited-vram"),
    ],
)
def test_the_projector_is_counted_where_ollama_will_put_it(
    model: Model, settings: LoadSettings, free_mib: int, why: str
) -> None:
    answer = asked(model, settings=settings, devices=(replace(CARD, free_bytes=free_mib * MIB),), rung="closed form")
    assert answer.settings.projector_device == "cpu"
    assert (answer.devices[0].projector_bytes, answer.devices[0].encoder_bytes) == (0, 0)
    assert answer.host.projector_bytes > 0
    assert f"Ollama puts the projector on the CPU ({why})" in answer.notes


def test_the_formulas_need_no_heavy_module() -> None:
    code = (
        "import sys; import qwenops.memory.ladder, qwenops.memory.closed_form; "
        "print([m for m in ('numpy', 'gguf', 'ollama', 'pynvml', 'rich', 'llama_cpp', 'jinja2', 'psutil',"
        " 'huggingface_hub', 'sqlite3') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.server
@pytest.mark.vulkan
class TestWithARuntime:
    @pytest.fixture
    def runtime(self) -> Runtime:
        return Runtime(
            place="local",
            url="http://127.0.0.1:11434",
            llama_server_path=layout().llama_server,
            environment=software_gpu_environment(),
        )

    @pytest.fixture
    def gpu(self) -> Device:
        return Device("Vulkan0", "vulkan", "llvmpipe (LLVM 15.0.6, 256 bits)", 2048 * MIB, 2048 * MIB)

    @pytest.fixture
    def small(self, tmp_path: Path) -> Model:
        return read_model(write_text(tmp_path / "qwen3-0.6b.gguf", TEXT["qwen3-0.6b"]), mmproj=None)

    def test_the_runtime_is_asked_before_the_formulas_and_they_agree(
        self, small: Model, runtime: Runtime, gpu: Device
    ) -> None:
        said = need(small, SETTINGS, (gpu,), runtime=runtime)
        formula = need(small, SETTINGS, (gpu,), runtime=runtime, rung="closed form")
        assert said.rung == "runtime"
        assert said.sources["kv"] == "runtime"
        for part in ("weights", "kv", "state", "compute"):
            name = f"{part}_bytes"
            assert getattr(said.devices[0], name) == pytest.approx(getattr(formula.devices[0], name), abs=MIB)

    def test_what_lies_outside_every_buffer_comes_from_the_formulas_and_says_so(
        self, small: Model, runtime: Runtime, gpu: Device
    ) -> None:
        said = need(small, SETTINGS, (gpu,), runtime=runtime)
        formula = closed_form(small, SETTINGS, (gpu,))
        assert said.devices[0].overhead_bytes == formula.devices[0].overhead_bytes
        assert said.sources["overhead"] == "default"


def test_a_context_beyond_the_trained_one_gets_a_note_that_ollama_lowers_it(model: Model) -> None:
    trained = TEXT["qwen3-vl-2b"].context
    asked = need(model, replace(SETTINGS, num_ctx=trained + 4096), [CARD])
    whole = need(model, replace(SETTINGS, num_ctx=trained), [CARD])
    assert asked.devices[0].kv_bytes > whole.devices[0].kv_bytes
    assert "Ollama lowers" in asked.notes[0]
    assert not any("Ollama lowers" in note for note in whole.notes)


def test_the_library_takes_any_context_without_a_note(model: Model) -> None:
    beyond = replace(SETTINGS, num_ctx=TEXT["qwen3-vl-2b"].context + 4096, outputs="library")
    assert not any("Ollama lowers" in note for note in need(model, beyond, [CARD]).notes)
