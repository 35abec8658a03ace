"""The type of every tensor under every file type, against llama-quantize's own dry run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.errors import BadInput
from qwenops.model.ggml_types import FILE_TYPES, GGML_TYPES, type_name
from qwenops.model.gguf_header import read_header
from qwenops.model.quant_mixes import MIXES, quant_named
from qwenops.model.quantizer import QUANTIZED, Quantizer, Recipe
from tests.model.unusual import UNUSUAL, Unusual, dense, outside, w
from tests.support.gguf_bytes import write_gguf
from tests.support.quantize import dry_run
from tests.support.shapes import TEXT, VISION, write_text, write_vision

USUAL = (
    "llama-3.2-1b",
    "smollm2-135m",
    "qwen2.5-vl-7b",
    "qwen3-vl-8b",
    "qwen3-vl-30b-a3b",
    "qwen3.5-2b",
    "qwen3.6-35b-a3b",
    "qwen3-next-small",
    "gemma-2-2b-small-head",
    "gemma-3-1b",
    "gpt-oss-20b",
    "lfm2-8b-a1b",
    "phi-4-mini",
    "granite-3.1-1b-a400m",
    "command-r7b-small",
)
"""Thirteen architectures: dense, experts, hybrids, text models of vision-language models; tied heads and others."""

ONE_EXPERT_OUTSIDE = replace(UNUSUAL["two experts"], outside=(*outside(), w("mtp.ffn_down_exps", 768, 2048, 2)))
ONE_LAYER_TOO_MANY = replace(UNUSUAL["two experts"], outside=(*outside(), w("blk.40.ffn_up_exps", 768, 2048, 2)))

EACH_KIND = (
    "IQ2_S",
    "TQ1_0",
    "Q2_K_S",
    "IQ3_XXS",
    "Q3_K_L",
    "Q4_0",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_K_M",
    "Q5_0",
    "MXFP4_MOE",
    "F16",
)
"""Among them every file type for which an importance matrix changes a type."""

ANY = Recipe("")
OPTIONS: dict[str, tuple[tuple[str, ...], Recipe]] = {
    "pure": (("--pure",), Recipe("", pure=True)),
    "the head left as it is": (("--leave-output-tensor",), Recipe("", leave_output=True)),
    "a type for the head": (("--output-tensor-type", "q8_0"), Recipe("", output_type="q8_0")),
    "a type for the embedding": (("--token-embedding-type", "q3_K"), Recipe("", embedding_type="Q3_K")),
    "types by pattern": (
        ("--tensor-type", "ATTN_q=q8_0", "--tensor-type", "ffn_(down|up).*=iq4_nl", "--tensor-type", "_v=bf16"),
        Recipe("", overrides=(("ATTN_q", "q8_0"), ("ffn_(down|up).*", "iq4_nl"), ("_v", "bf16"))),
    ),
}


def ours(model: Path, recipe: Recipe) -> dict[str, str] | None:
    try:
        outcome = Quantizer(read_header(model)).outcome(recipe)
    except BadInput:
        return None
    return {t.tensor.name: type_name(t.type) for t in outcome.targets}


def differences(
    tool: Path,
    model: Path,
    options: tuple[str, ...] = (),
    recipe: Recipe = ANY,
    quants: Sequence[str] = tuple(MIXES),
) -> Mapping[str, str]:
    """What llama-quantize and we do not agree on, by file type."""
    with ThreadPoolExecutor(2) as pool:
        theirs = dict(zip(quants, pool.map(lambda quant: dry_run(tool, model, quant, *options), quants), strict=True))
    found = {}
    for quant, types in theirs.items():
        mine = ours(model, replace(recipe, quant=quant))
        if types is None or mine is None:
            if types != mine:
                found[quant] = f"llama-quantize {'makes' if types else 'refuses'} it, we do not agree"
        elif mine != types:
            found[quant] = str([(n, types.get(n), t) for n, t in mine.items() if types.get(n) != t][:3])
    return found


@pytest.mark.parametrize("name", USUAL)
def test_usual_models_get_llama_quantizes_types_under_every_file_type(
    name: str, tmp_path: Path, llama_quantize: Path
) -> None:
    assert not differences(llama_quantize, write_text(tmp_path / "m.gguf", TEXT[name], "BF16"))


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_models_get_llama_quantizes_types(name: str, tmp_path: Path, llama_quantize: Path) -> None:
    # of the many that are taken for 70B by their layers, one is asked everything
    quants = EACH_KIND if UNUSUAL[name].layers > 60 and name != "80 layers, heads grouped" else tuple(MIXES)
    assert not differences(llama_quantize, UNUSUAL[name].write(tmp_path / "m.gguf"), quants=quants)


@pytest.mark.parametrize("model", [ONE_EXPERT_OUTSIDE, ONE_LAYER_TOO_MANY], ids=["no layer", "no such layer"])
def test_experts_whose_name_gives_no_layer_are_refused_under_the_same_file_types(
    model: Unusual, tmp_path: Path, llama_quantize: Path
) -> None:
    path = model.write(tmp_path / "m.gguf")
    assert not differences(llama_quantize, path)
    assert ours(path, Recipe("Q4_K_M")) is None


@pytest.mark.parametrize("name", ["qwen2.5-vl-3b", "qwen3-vl-2b"])
def test_projectors_are_quantized_too_and_abort_where_heads_are_asked_for(
    name: str, tmp_path: Path, llama_quantize: Path
) -> None:
    path = write_vision(tmp_path / "mmproj.gguf", VISION[name])
    assert not differences(llama_quantize, path)
    assert ours(path, Recipe("Q2_K")) is None


@pytest.mark.parametrize("name", ["Mixtral", "80 layers, heads grouped", "names", "rows of 96"])
def test_an_importance_matrix_changes_what_it_changes_there(name: str, tmp_path: Path, llama_quantize: Path) -> None:
    keys = {"general.type": "imatrix", "imatrix.datasets": ["c"], "imatrix.chunk_count": 1, "imatrix.chunk_size": 512}
    matrix = write_gguf(tmp_path / "i.gguf", keys, [("x.in_sum2", (32, 1), "F32"), ("x.counts", (1, 1), "F32")])
    model = UNUSUAL[name].write(tmp_path / "m.gguf")
    assert not differences(llama_quantize, model, ("--imatrix", str(matrix)), Recipe("", imatrix=True), EACH_KIND)


@pytest.mark.parametrize("model", ["Falcon, head tied", "Jamba"])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_mean_what_they_mean_there(option: str, model: str, tmp_path: Path, llama_quantize: Path) -> None:
    flags, recipe = OPTIONS[option]
    assert not differences(llama_quantize, UNUSUAL[model].write(tmp_path / "m.gguf"), flags, recipe, EACH_KIND)


def test_there_is_a_mix_for_every_file_type_but_the_one_that_llama_quantize_does_not_make() -> None:
    assert {mix.number: name for name, mix in MIXES.items()} == {n: t for n, t in FILE_TYPES.items() if t != "NVFP4"}


@pytest.mark.parametrize(
    ("typed", "meant"), [("q4_k_m", "Q4_K_M"), (" Q4_K ", "Q4_K_M"), ("15", "Q4_K_M"), ("mxfp4_moe", "MXFP4_MOE")]
)
def test_names_aliases_and_numbers_are_taken(typed: str, meant: str) -> None:
    assert quant_named(typed) == meant


@pytest.mark.parametrize("typed", ["Q4_K_XL", "", "4", "NVFP4", "UD-Q4_K_XL"])
def test_a_name_that_llama_quantize_does_not_know_is_refused_with_those_it_knows(typed: str) -> None:
    with pytest.raises(BadInput, match="is no type that llama-quantize makes") as refused:
        quant_named(typed)
    assert "IQ4_XS" in refused.value.do[0]


def test_a_tensor_of_four_dimensions_is_refused_with_its_name(tmp_path: Path) -> None:
    # a dry run passes it, a real one aborts
    path = replace(UNUSUAL["names"], outside=(*outside(), w("v.conv", 32, 3, 3, 64))).write(tmp_path / "m.gguf")
    with pytest.raises(BadInput, match=r"v.conv.weight has four dimensions"):
        Quantizer(read_header(path)).outcome(Recipe("Q8_0"))


def test_a_type_that_was_named_outright_must_divide_the_rows(tmp_path: Path) -> None:
    # the same: the dry run passes it, the real one aborts
    path = UNUSUAL["rows of 96"].write(tmp_path / "m.gguf")
    with pytest.raises(BadInput, match=r"token_embd.weight has rows of 96, which blocks of Q3_K do not divide"):
        Quantizer(read_header(path)).outcome(Recipe("Q8_0", embedding_type="q3_k"))


def test_floats_are_no_quants_and_blocks_are() -> None:
    floats = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}
    assert {t.name for n, t in GGML_TYPES.items() if n not in QUANTIZED} == floats


def test_the_first_tensor_that_needs_an_importance_matrix_is_named(tmp_path: Path) -> None:
    model = replace(UNUSUAL["names"], block=dense, outside=outside())
    quantizer = Quantizer(read_header(model.write(tmp_path / "m.gguf")))
    assert quantizer.outcome(Recipe("IQ2_XXS")).needs_imatrix == "blk.0.attn_k.weight"
    assert quantizer.outcome(Recipe("IQ2_XXS", imatrix=True)).needs_imatrix is None
    assert quantizer.outcome(Recipe("Q4_K_M")).needs_imatrix is None
