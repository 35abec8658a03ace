"""A dry load says what a real load through the same library then takes, and why it cannot where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from qwenops.errors import BadInput, ChildDied, PartMissing
from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.dry_load import CHILD, CHILD_ENVIRONMENT, dry_load, dry_loads, is_exact
from qwenops.memory.ladder import need
from qwenops.memory.load_log import LoadLines, parse_load_log
from qwenops.memory.types import HostNeed, LoadSettings
from qwenops.model.read import read_model
from qwenops.model.types import Model
from qwenops.worker import run
from tests.support.shapes import TEXT, VISION, Dims, write_text, write_vision

MIB = 1024**2
CARD = Device("CUDA0", "cuda", "NVIDIA GeForce RTX 3060", 12288 * MIB, 11800 * MIB, source="--gpu")
BASE = LoadSettings(num_ctx=2048)
SMALL_MOE = replace(TEXT["qwen3-30b-a3b"], layers=4, experts=16, expert_ffn=256, vocabulary=32000)


def ghost(folder: Path, dims: Dims, quant: str = "Q4_K_M") -> Model:
    return read_model(write_text(folder / f"model-{quant}.gguf", dims, quant))


def really(model: Model, settings: Sequence[LoadSettings]) -> list[LoadLines]:
    """What real loads on the CPU logged."""
    request = {"file": str(model.path), "settings": [asdict(one) for one in settings]}
    answer = run("tests.support.library_load:load_for_real", request, limit_s=120)
    return [parse_load_log(log) for log in answer["logs"]]


def assert_within_a_mib(said: HostNeed, real: LoadLines) -> None:
    kinds = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute", "output": "output"}
    for part, kind in kinds.items():
        foretold = getattr(said, f"{part}_bytes")
        assert abs(foretold - real.host_bytes(kind)) <= MIB, (part, foretold, real)  # type: ignore[arg-type]


@pytest.mark.library
@pytest.mark.parametrize(
    ("dims", "quant"),
    [
        (replace(TEXT["qwen3-0.6b"], layers=6), "Q8_0"),
        (replace(TEXT["qwen3-vl-2b"], layers=4), "Q4_K_M"),
        (replace(TEXT["qwen3.5-0.8b"], layers=8), "Q4_K_M"),
        (SMALL_MOE, "Q4_K_M"),
    ],
    ids=["tied head", "deepstack", "hybrid", "experts"],
)
def test_every_part_is_within_a_mib_of_a_real_load_on_the_cpu(tmp_path: Path, dims: Dims, quant: str) -> None:
    model = ghost(tmp_path, dims, quant)
    settings = (
        BASE,
        replace(BASE, num_ctx=5000, ubatch=128),
        replace(BASE, kv_type_k="q8_0", kv_type_v="q4_0"),
        replace(BASE, flash_attn="off"),
        replace(BASE, outputs="library"),
        replace(BASE, parallel=3),
        replace(BASE, parallel=3, kv_unified=True),
    )
    needs = dry_loads(model, settings, ())
    for said, real in zip(needs, really(model, settings), strict=True):
        assert_within_a_mib(said.host, real)
        assert said.rung == "dry load"
        assert is_exact(said)


@pytest.mark.library
def test_a_model_of_which_only_the_header_is_here_is_answered_alike(tmp_path: Path) -> None:
    whole = ghost(tmp_path, TEXT["qwen3-4b"])
    (tmp_path / "header").mkdir()
    header = tmp_path / "header" / whole.path.name
    with whole.path.open("rb") as file:
        header.write_bytes(file.read(whole.header.data_offset))
    shards = (header,)
    only_header = replace(whole, header=replace(whole.header, path=header), shards=shards)
    assert only_header.path.stat().st_size < MIB
    assert dry_load(only_header, BASE, ()) == dry_load(whole, BASE, ())


@pytest.mark.library
def test_without_a_backend_for_the_device_totals_are_spread_as_placed_and_compute_is_a_formula(tmp_path: Path) -> None:
    model = ghost(tmp_path, TEXT["qwen3.5-2b"])
    for settings in (BASE, replace(BASE, gpu_layers=10), replace(BASE, parallel=3, kv_type_k="q8_0")):
        said, formula = dry_load(model, settings, (CARD,)), closed_form(model, settings, (CARD,))
        assert {said.sources[p] for p in ("weights", "kv", "state")} == {"dry load"}
        assert said.sources["compute"] == "closed form"
        assert not is_exact(said)
        assert said.devices == formula.devices
        assert said.band == formula.band
        assert any("no backend for CUDA0" in note for note in said.notes)


@pytest.mark.library
def test_the_projector_is_the_closed_forms(tmp_path: Path) -> None:
    text = write_text(tmp_path / "qwen3-vl-2b.gguf", TEXT["qwen3-vl-2b"])
    model = read_model(text, mmproj=write_vision(tmp_path / "mmproj.gguf", VISION["qwen3-vl-2b"]))
    said, formula = dry_load(model, BASE, ()), closed_form(model, BASE, ())
    assert (said.host.projector_bytes, said.host.encoder_bytes) == (
        formula.host.projector_bytes,
        formula.host.encoder_bytes,
    )
    assert (said.sources["projector"], said.sources["encoder"]) == ("closed form", "closed form")


@pytest.mark.library
def test_the_ladder_asks_the_library_only_where_it_is_exact(tmp_path: Path) -> None:
    model = ghost(tmp_path, TEXT["qwen3-0.6b"])
    assert need(model, BASE, ()).rung == "dry load"
    assert need(model, BASE, (CARD,)).rung == "closed form"
    assert need(model, BASE, (CARD,), rung="dry load").rung == "dry load"


@pytest.mark.library
def test_many_settings_take_one_child_and_little_time(tmp_path: Path) -> None:
    model = ghost(tmp_path, TEXT["qwen3-8b"])
    settings = [replace(BASE, num_ctx=n, ubatch=u) for n in range(4096, 36864, 4096) for u in (128, 512)]
    needs = dry_loads(model, settings, (), limit_s=30)
    assert [n.settings for n in needs] == settings
    kv = {(n.settings.num_ctx, n.host.kv_bytes) for n in needs}
    assert all(size == 36 * 2 * 2 * 1024 * context for context, size in kv)


# --- what cannot be answered


def raw(model: Model, **changes: object) -> dict[str, object]:
    context = {
        "gpu_layers": 0,
        "n_ctx": 2048,
        "n_batch": 512,
        "n_ubatch": 512,
        "n_seq_max": 1,
        "n_outputs_max": 1,
        "type_k": 1,
        "type_v": 1,
        "flash_attn": "auto",
        "swa_full": False,
        "kv_unified": False,
    }
    return {
        "file": str(model.path),
        "name": model.path.name,
        "devices": [],
        "shares": [],
        "contexts": [{**context, **changes}],
    }


@pytest.mark.library
@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"type_v": 8, "flash_attn": "off"}, BadInput, "quantized V cache requires flash_attn"),
        ({"type_k": 14}, BadInput, "does not divide n_embd_head_k"),
        ({"n_seq_max": 1000}, BadInput, "n_seq_max must be <= 256"),
        ({"n_batch": 0}, ChildDied, r"dry_load was ended by SIGABRT in native code: .*GGML_ASSERT"),
    ],
    ids=["V without flash attention", "blocks too wide", "too many sequences", "an abort"],
)
def test_settings_that_the_library_refuses_or_dies_of_are_an_error_with_its_words(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], said: str
) -> None:
    model = ghost(tmp_path, TEXT["qwen3-0.6b"])
    with pytest.raises(error, match=said):
        run(CHILD, raw(model, **changes), limit_s=60, env=CHILD_ENVIRONMENT)


@pytest.mark.library
def test_settings_with_which_nothing_loads_are_refused_as_the_formulas_refuse_them(tmp_path: Path) -> None:
    model = ghost(tmp_path, TEXT["qwen3-0.6b"])
    with pytest.raises(BadInput, match="V cache of type q8_0 needs flash attention"):
        dry_load(model, replace(BASE, kv_type_v="q8_0", flash_attn="off"), ())


@pytest.mark.library
def test_an_architecture_that_the_library_does_not_know_is_named_and_the_formulas_answer(tmp_path: Path) -> None:
    model = ghost(tmp_path, replace(TEXT["qwen3-0.6b"], architecture="qwen99"))
    with pytest.raises(PartMissing, match="unknown model architecture: 'qwen99'") as refused:
        dry_load(model, BASE, ())
    assert "pip install -U llama-cpp-python" in refused.value.do[0]
    answer = need(model, BASE, ())
    assert answer.rung == "closed form"
    assert any("the library does not answer" in note and "qwen99" in note for note in answer.notes)


@pytest.mark.library
def test_experts_are_not_placed_by_a_fit_that_the_library_lacks(tmp_path: Path) -> None:
    """On a device that is not here the formulas place them; only a library with the device would have to."""
    answer = dry_load(ghost(tmp_path, SMALL_MOE), replace(BASE, gpu_layers="auto"), (CARD,))
    assert answer.layers.on_device == 5


def test_vision_inside_the_model_file_is_for_ollamas_own_server(tmp_path: Path) -> None:
    model = replace(ghost(tmp_path, TEXT["qwen3-0.6b"]), inline_vision=True)
    with pytest.raises(PartMissing, match="only Ollama's own server"):
        dry_load(model, BASE, ())


STRUCTURES = """
import ctypes
class llama_model_params(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int) for n in ("devices", "n_gpu_layers", "tensor_split", "use_mmap", "use_extra_bufts")]
class llama_context_params(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int) for n in ("n_ctx", "flash_attn_type", "kv_unified", "swa_full")]
llama_log_callback = lambda f: f
llama_log_set = lambda f, user: None
llama_backend_init = lambda: None
"""


@pytest.mark.parametrize(
    ("package", "module", "said", "do"),
    [
        (
            "raise ImportError('No module named llama_cpp')",
            "",
            r"llama-cpp-python is not installed \(No module",
            "qwenops\\[bench\\]",
        ),
        ("raise OSError('libcudart.so.12: cannot open')", "", "does not load: libcudart.so.12", "--force-reinstall"),
        ("__version__ = '0.3.14'", STRUCTURES, "0.3.14 is too old for a dry load: it has no load_mode", "install -U"),
    ],
    ids=["not installed", "broken", "too old"],
)
def test_a_library_that_is_missing_broken_or_too_old_is_named_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, module: str, said: str, do: str
) -> None:
    installed = tmp_path / "site" / "llama_cpp"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text(package)
    (installed / "llama_cpp.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(installed.parent))
    with pytest.raises(PartMissing, match=said) as missing:
        dry_load(ghost(tmp_path, TEXT["qwen3-0.6b"]), BASE, ())
    assert do.replace("\\", "") in missing.value.do[0]
