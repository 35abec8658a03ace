"""Variants that do not exist yet, held against files that llama-quantize really makes and against published ones."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.memory.closed_form import closed_form
from qwenops.memory.ghost import make_ghost
from qwenops.memory.types import LoadSettings
from qwenops.model.ggml_types import row_bytes
from qwenops.model.gguf_header import read_header
from qwenops.model.quant_mixes import MIXES
from qwenops.model.quantizer import Recipe
from qwenops.model.read import model_key, read_model
from qwenops.model.requant import Imatrix, Requantizer, check_imatrix, header_bytes, keep_header
from qwenops.model.types import Header, Model, Tensor
from qwenops.units import pad
from scripts.parts.layout import Layout
from tests.model.unusual import NAMES, UNUSUAL, Unusual, dense, outside, w
from tests.support.gguf_bytes import Row, write_gguf
from tests.support.quantize import really, write_imatrix
from tests.support.shapes import TEXT, text_model, write_text
from tests.support.tiny import TinyModel


def _small_block(layer: int) -> list[Row]:
    """Every role, few rows: the lowest types take their time. Experts, a row of ones, rows that 256 does not divide."""
    named = [(f"blk.{layer}.{name.removeprefix(f'blk.{layer}.')}", shape, t) for name, shape, t in dense(layer)]
    few = [(name, (256, 4) if len(shape) > 1 else shape, type_) for name, shape, type_ in named]
    return [*few, w(f"blk.{layer}.experts", 256, 4, 2), w(f"blk.{layer}.row", 256, 1), w(f"blk.{layer}.odd", 640, 4)]


SMALL = Unusual(
    "llama",
    3,
    _small_block,
    (*outside(width=256), *((name, (256, 4), type_) for name, shape, type_ in NAMES if shape == (2048, 64))),
    keys={"expert_count": 2, "expert_used_count": 1},
)
SMALL_ROWS = [*SMALL.outside, *(row for layer in range(SMALL.layers) for row in SMALL.block(layer))]


def source(path: Path) -> Requantizer:
    return Requantizer(read_model(path, None))


def check_against_the_real_file(source: Requantizer, quant: str, imatrix: Imatrix | None, made: Path) -> None:
    variant = source.variant(Recipe(quant), imatrix)
    real = read_header(made)
    assert replace(variant.model.header, path=made, checksum=real.checksum) == real
    assert variant.model.file_bytes == made.stat().st_size
    assert header_bytes(variant, source.source) == made.read_bytes()[: real.data_offset]


MINUTES_OF_TABLES = ("IQ1_S", "IQ1_M", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS")
"""Types for which llama-quantize first works out its grids, up to a minute each; their dry runs are compared."""


@pytest.mark.parametrize("quant", [quant for quant in MIXES if quant not in MINUTES_OF_TABLES])
def test_a_file_type_gives_the_file_that_llama_quantize_makes(quant: str, tmp_path: Path, llama_quantize: Path) -> None:
    model = source(SMALL.write(tmp_path / "small-F16.gguf"))
    made = tmp_path / "made.gguf"
    alone = really(llama_quantize, model.source.path, made, quant)
    assert alone == (model.variant(Recipe(quant)).needs_imatrix is None)
    if alone:
        check_against_the_real_file(model, quant, None, made)
    if not alone or quant in ("Q4_K_M", "Q4_0"):
        matrix = tmp_path / "i.gguf"
        imatrix = Imatrix(str(matrix), "calibration.txt", write_imatrix(matrix, model.source.header), 7)
        assert really(llama_quantize, model.source.path, made, quant, "--imatrix", str(matrix))
        check_against_the_real_file(model, quant, imatrix, made)


@pytest.mark.parametrize("quant", ["Q4_K_M", "Q8_0"])
def test_a_real_vocabulary_and_recurrent_layers_come_through(
    quant: str, tmp_path: Path, tiny_qwen35: TinyModel, llama_quantize: Path
) -> None:
    made = tmp_path / "made.gguf"
    assert really(llama_quantize, tiny_qwen35.model, made, quant)
    check_against_the_real_file(source(tiny_qwen35.model), quant, None, made)


def test_a_quant_of_a_quant_is_the_file_that_llama_quantize_makes_when_allowed_and_a_note_says_so(
    tmp_path: Path, llama_quantize: Path
) -> None:
    first, made = tmp_path / "m-Q8_0.gguf", tmp_path / "made.gguf"
    assert really(llama_quantize, SMALL.write(tmp_path / "m.gguf"), first, "Q8_0")
    assert not really(llama_quantize, first, made, "Q4_K_M")
    assert really(llama_quantize, first, made, "Q4_K_M", "--allow-requantize")
    model = source(first)
    check_against_the_real_file(model, "Q4_K_M", None, made)
    assert "--allow-requantize" in model.notes(model.variant(Recipe("Q4_K_M")))[0]


def test_a_split_source_makes_one_file_without_the_keys_of_the_split(
    tmp_path: Path, llama_quantize: Path, parts: Layout
) -> None:
    whole, made = SMALL.write(tmp_path / "whole.gguf"), tmp_path / "made.gguf"
    tool = parts.reference("llama-gguf-split")
    command = [tool, "--split", "--split-max-tensors", "20", whole, tmp_path / "m-F16"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60)
    first = min(tmp_path.glob("m-F16-00001-of-*.gguf"))
    assert really(llama_quantize, first, made, "Q5_K_M")
    model = source(first)
    assert len(model.source.shards) > 1
    check_against_the_real_file(model, "Q5_K_M", None, made)
    assert model.variant(Recipe("Q5_K_M")).model.path.name == "m-Q5_K_M.gguf"


PUBLISHED = {
    "qwen3-vl-2b": (1107409952, 1834427424),
    "qwen3-vl-4b": (2497281664, 4280406144),
    "qwen3-vl-8b": (5027784800, 8709519456),
    "qwen3-vl-30b-a3b": (18556687168, 32483932992),
    "qwen3-vl-32b": (19762150432, 34817720352),
    "qwen2.5-vl-3b": (1929901056, 3285474304),
}
"""Bytes of the Q4_K_M and the Q8_0 that Qwen and ggml-org published, made by llama-quantize without a matrix."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_apart_by_as_much_as_ours(name: str) -> None:
    """Their headers are of one length but not here, so what is compared is the data, to the byte."""
    smaller, larger = PUBLISHED[name]
    model = Requantizer(text_model(TEXT[name], "BF16"))
    q4, q8 = (model.variant(Recipe(quant)).model.file_bytes for quant in ("Q4_K_M", "Q8_0"))
    assert q8 - q4 == larger - smaller
    header_bytes = smaller - q4
    assert 5_900_000 < header_bytes < 6_000_000, "a vocabulary of 152k tokens"


def test_a_type_that_needs_an_importance_matrix_is_refused_with_the_tensor_and_the_way_out(tmp_path: Path) -> None:
    model = source(SMALL.write(tmp_path / "small.gguf"))
    variant = model.variant(Recipe("IQ2_XS"))
    with pytest.raises(BadInput, match=r"IQ2_XS needs an importance matrix: abcde would be IQ2_XS") as why:
        check_imatrix(variant)
    assert why.value.do[0].startswith("--quant IQ2_XS --imatrix")
    assert check_imatrix(model.variant(Recipe("IQ2_XS", imatrix=True))).needs_imatrix is None


def test_an_alignment_of_its_own_is_refused_since_what_would_be_made_cannot_be_read(
    tmp_path: Path, llama_quantize: Path
) -> None:
    keys = dict(read_header(SMALL.write(tmp_path / "m.gguf")).metadata) | {"general.alignment": 64}
    path = write_gguf(tmp_path / "aligned.gguf", keys, SMALL_ROWS, alignment=64)
    with pytest.raises(BadInput, match="aligned to 64 bytes"):
        source(path)
    assert really(llama_quantize, path, tmp_path / "made.gguf", "Q4_K_M")
    with pytest.raises(BadInput, match=r"where .* was expected"):
        read_header(tmp_path / "made.gguf")


@pytest.mark.parametrize(
    ("file", "made"),
    [
        ("Model-BF16.gguf", "Model-IQ4_XS.gguf"),
        ("model.f16.gguf", "model.IQ4_XS.gguf"),
        ("Model-UD-Q4_K_XL.gguf", "Model-IQ4_XS.gguf"),
        ("model.gguf", "model-IQ4_XS.gguf"),
    ],
)
def test_the_new_file_is_named_as_people_name_it(file: str, made: str, tmp_path: Path) -> None:
    model = source(SMALL.write(tmp_path / file)).variant(Recipe("iq4_xs")).model
    assert (model.path.name, model.quant) == (made, "IQ4_XS")
    assert model.source == f"{tmp_path / file} as IQ4_XS"


def test_every_variant_leaves_out_what_cannot_be_made_and_takes_a_matrix_where_one_is_needed(tmp_path: Path) -> None:
    model = source(UNUSUAL["rows of 2880"].write(tmp_path / "m.gguf"))
    made = {v.model.quant: v for v in model.every_variant()}
    assert list(made) == [quant for quant in MIXES if quant != "Q1_0"]
    assert [quant for quant, v in made.items() if v.recipe.imatrix] == []  # every row falls back to a 32-block type
    of_256 = {v.model.quant: v for v in source(SMALL.write(tmp_path / "s.gguf")).every_variant()}
    assert [quant for quant, v in of_256.items() if v.recipe.imatrix] == [
        "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "Q2_K_S", "IQ3_XXS", "IQ3_XS",
    ]  # fmt: skip


def test_rooms_below_take_a_variant_as_any_model_and_a_ghost_of_it_has_its_header_and_length(tmp_path: Path) -> None:
    model = read_model(write_text(tmp_path / "m-BF16.gguf", TEXT["qwen3-0.6b"], "BF16"), None)
    variant = Requantizer(model).variant(Recipe("IQ4_XS"))
    need = closed_form(variant.model, LoadSettings(gpu_layers=0), ())
    whole = closed_form(model, LoadSettings(gpu_layers=0), ())
    assert 0.25 < need.host.weights_bytes / whole.host.weights_bytes < 0.4
    kept = keep_header(variant, model)
    assert keep_header(variant, model) == kept
    assert model_key(kept) == model_key(variant.model) != model_key(model)
    with make_ghost(kept, tmp_path) as ghost:
        assert ghost.sparse
        seen = read_header(ghost.model)
        assert replace(variant.model.header, path=ghost.model, checksum=seen.checksum) == seen
        assert ghost.model.stat().st_size == variant.model.file_bytes


# --- laws over models that nobody made --------------------------------------------------------------------------------

_names = st.sampled_from(
    [
        *("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "attn_norm"),
        *("ffn_up", "ffn_down", "ffn_gate", "ffn_down_exps", "ssm_out"),
    ]
)
_row = st.tuples(st.integers(0, 11), _names, st.sampled_from([32, 96, 256, 320, 1024]), st.integers(1, 9))


@st.composite
def _models(draw: st.DrawFn) -> Model:
    rows = draw(st.lists(_row, min_size=1, max_size=40, unique_by=lambda r: r[:2]))
    named = [(f"blk.{layer}.{name}.weight", (width, height)) for layer, name, width, height in rows]
    named += [*draw(st.sampled_from([[], [("output.weight", (512, 7))]])), ("token_embd.weight", (512, 7))]
    tensors, offset = [], 0
    for name, shape in draw(st.permutations(named)):
        tensors.append(Tensor(name, shape, 1, offset, 2 * shape[0] * shape[1]))
        offset += pad(tensors[-1].size_bytes, 32)
    metadata = {
        "general.architecture": draw(st.sampled_from(["llama", "falcon", "qwen3", "qwen2"])),
        **{f"{a}.block_count": 12 for a in ("llama", "falcon", "qwen3", "qwen2")},
        **{f"{a}.attention.head_count": draw(st.sampled_from([8, 32])) for a in ("llama", "qwen3")},
        **{f"{a}.attention.head_count_kv": 8 for a in ("llama", "qwen3")},
        "llama.expert_count": draw(st.sampled_from([0, 2, 8])),
    }
    header = Header(Path("m.gguf"), 3, metadata, tuple(tensors), 32, 0, offset)
    parameters = sum(t.shape[0] * t.shape[1] for t in tensors)
    return Model("m", header.architecture, header, (header.path,), "F16", parameters, offset)


_quants = st.sampled_from([quant for quant in MIXES if quant not in ("Q1_0", "Q2_0")])
_laws = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(_models(), _quants, _quants)
@_laws
def test_law_a_variant_of_a_variant_is_the_variant_of_the_source(model: Model, first: str, second: str) -> None:
    direct = Requantizer(model).variant(Recipe(second, imatrix=True))
    through = Requantizer(Requantizer(model).variant(Recipe(first, imatrix=True)).model)
    assert through.variant(Recipe(second, imatrix=True)).model.header.tensors == direct.model.header.tensors


@given(_models(), _quants, st.randoms())
@_laws
def test_law_the_order_of_the_sources_tensors_does_not_matter(model: Model, quant: str, random: object) -> None:
    shuffled = list(model.header.tensors)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = replace(model, header=replace(model.header, tensors=tuple(shuffled)))
    recipe = Recipe(quant, imatrix=True)
    assert Requantizer(other).variant(recipe).model.header == Requantizer(model).variant(recipe).model.header


@given(_models(), _quants)
@_laws
def test_law_the_new_table_is_whole_packed_and_divides_its_rows(model: Model, quant: str) -> None:
    header = Requantizer(model).variant(Recipe(quant, imatrix=True)).model.header
    assert sorted(t.name for t in header.tensors) == sorted(t.name for t in model.header.tensors)
    expected = 0
    for tensor in header.tensors:
        assert tensor.offset == expected
        rows = tensor.shape[1] if len(tensor.shape) > 1 else 1
        assert tensor.size_bytes == row_bytes(tensor.type, tensor.shape[0]) * rows
        expected += pad(tensor.size_bytes, 32)
    assert header.file_bytes == header.data_offset + expected
