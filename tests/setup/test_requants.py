"""Quants that do not exist yet, as the commands show them and as the runtime answers for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.errors import BadInput
from qwenops.memory.probe import probe
from qwenops.memory.types import LoadSettings
from qwenops.model.gguf_header import read_header
from qwenops.model.quant_mixes import MIXES
from qwenops.model.quantizer import Recipe
from qwenops.model.read import read_model, read_variants
from qwenops.model.requant import Requantizer, keep_header
from qwenops.setup.requants import in_quant
from tests.support.cli import qwenops
from tests.support.quantize import really
from tests.support.runtime import software_runtime
from tests.support.shapes import TEXT, write_text
from tests.support.tiny import TinyModel
from tests.support.web import serving


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_text(tmp_path / "qwen3-8b-BF16.gguf", TEXT["qwen3-8b"], "BF16")


def test_quants_is_a_row_for_every_file_type_with_its_bytes_and_the_context_that_fits(model: Path) -> None:
    shown = qwenops("quants", model, "--gpu", "12GiB", "--gpu", "4GiB", "--json")
    assert shown.code == 0, shown.err
    rows = {row["quant"]: row for row in shown.data["quants"]}
    assert list(rows) == list(MIXES)
    source = Requantizer(read_model(model))
    for quant, row in rows.items():
        made = source.variant(Recipe(quant, imatrix=row["imatrix"])).model
        assert (row["file_bytes"], row["weights_bytes"]) == (made.file_bytes, made.header.tensor_bytes)
    assert [c["num_ctx"] > 0 for c in rows["Q4_K_M"]["cells"]] == [True, False]
    assert [c["num_ctx"] > 0 for c in rows["BF16"]["cells"]] == [False, False]
    assert [rows[quant]["imatrix"] for quant in ("IQ2_XXS", "Q4_K_M")] == [True, False]
    assert [rows[quant]["there"] for quant in ("BF16", "F16")] == [str(model), None]
    assert rows["IQ4_XS"]["cells"][0]["num_ctx"] > rows["Q5_K_M"]["cells"][0]["num_ctx"]


def test_quants_as_text_marks_what_needs_a_matrix_and_stays_below_80_columns(model: Path) -> None:
    shown = qwenops("quants", model, "--gpu", "RTX 3060 12GB", "--gpu", "RTX 4090", "--gpu", "8GiB")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert any(line.startswith("IQ2_XXS i ") for line in lines)
    assert any(line.startswith("BF16 = ") and line.endswith("·") for line in lines)
    assert max(map(len, lines)) <= 80


def test_quants_exits_1_where_no_quant_fits(model: Path) -> None:
    assert qwenops("quants", model, "--gpu", "1GiB", "--json").code == 1


def test_need_answers_for_a_quant_that_is_not_there_and_says_what_it_is(model: Path) -> None:
    asked = qwenops("need", model, "--quant", "iq4_xs", "--gpu", "12GiB", "--rung", "closed-form", "--json")
    assert asked.code == 0, asked.err
    made = Requantizer(read_model(model)).variant(Recipe("IQ4_XS")).model
    assert asked.data["model"]["quant"] == "IQ4_XS"
    assert asked.data["model"]["file"] == f"{model} as IQ4_XS"
    assert asked.data["model"]["file_bytes"] == made.file_bytes
    weights = asked.data["devices"][0]["weights_bytes"] + asked.data["host"]["weights_bytes"]
    assert weights == pytest.approx(made.header.tensor_bytes, rel=1e-3)
    assert "IQ4_XS as llama-quantize would make it of qwen3-8b-BF16.gguf" in asked.data["notes"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--quant", "Q4_K_XL"), "is no type that llama-quantize makes"),
        (("--quant", "IQ1_S"), "needs an importance matrix"),
        (("--imatrix",), "none is asked for"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_exit_code_2(model: Path, options: tuple[str, ...], said: str) -> None:
    refused = qwenops("need", model, *options, "--gpu", "12GiB")
    assert refused.code == 2
    assert said in refused.err
    assert "Traceback" not in refused.err


def test_a_quant_that_is_there_is_taken_as_it_is_and_another_is_made_of_the_best(tmp_path: Path) -> None:
    for quant in ("Q4_K_M", "Q8_0"):
        write_text(tmp_path / f"m-{quant}.gguf", TEXT["qwen3-0.6b"], quant)
    models = read_variants(tmp_path)
    there, nothing = in_quant(tmp_path, models, "q4_k_m", imatrix=False, header_kept=False)
    assert (there.path, nothing) == (tmp_path / "m-Q4_K_M.gguf", ())
    made, notes = in_quant(tmp_path, models, "IQ4_XS", imatrix=False, header_kept=False)
    assert made.source == f"{tmp_path / 'm-Q8_0.gguf'} as IQ4_XS"
    assert "quality is lost twice" in notes[1]
    with pytest.raises(BadInput, match="holds 2 models"):
        in_quant(tmp_path, models, None, imatrix=False, header_kept=False)


@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.parametrize("quant", ["Q4_K_M", "Q8_0"])
def test_the_runtime_says_the_same_of_the_ghost_of_a_variant_and_of_the_file_that_is_then_made(
    quant: str, tmp_path: Path, tiny_qwen35: TinyModel, llama_quantize: Path
) -> None:
    runtime = software_runtime()
    source = read_model(tiny_qwen35.model, None)
    variant = Requantizer(source).variant(Recipe(quant))
    before = probe(keep_header(variant, source), LoadSettings(num_ctx=2048), runtime)
    made = tmp_path / f"made-{quant}.gguf"
    assert really(llama_quantize, tiny_qwen35.model, made, quant)
    after = probe(read_model(made, None), LoadSettings(num_ctx=2048), runtime)
    assert before.host == after.host
    assert [d.weights_bytes for d in before.devices] == [d.weights_bytes for d in after.devices]
    assert [d.total_bytes for d in before.devices] == [d.total_bytes for d in after.devices]
    assert read_header(made).file_bytes == variant.model.file_bytes


def test_a_whole_repository_is_the_source_of_what_it_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"m-{q}.gguf": write_text(tmp_path / f"m-{q}.gguf", TEXT["qwen3-0.6b"], q) for q in ("Q4_K_M", "BF16")}
    with serving() as hub, serving("127.0.0.2") as cdn:
        hub.repository("maker/m-GGUF", files, cdn)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        there = qwenops("need", "hf:maker/m-GGUF", "--quant", "Q4_K_M", "--gpu", "8GiB", "--json")
        made = qwenops("need", "hf:maker/m-GGUF", "--quant", "Q6_K", "--gpu", "8GiB", "--json")
        every = qwenops("quants", "hf:maker/m-GGUF", "--gpu", "8GiB", "--json")
    assert there.data["model"]["file"] == "hf:maker/m-GGUF:m-Q4_K_M.gguf"
    assert made.data["model"]["file"] == "hf:maker/m-GGUF:m-BF16.gguf as Q6_K"
    assert {row["quant"] for row in every.data["quants"] if row["there"]} == {"Q4_K_M", "BF16"}
