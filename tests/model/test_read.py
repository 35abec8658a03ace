"""From paths to models: one file, variants in a folder, the key of a model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from qwenops.errors import BadInput, NotAGGUF
from qwenops.model.read import model_key, read_model, read_variants
from tests.model.make import Gguf, model_file, string
from tests.model.test_projector import projector
from tests.model.test_split import split_model

WEIGHTS = (("token_embd.weight", (64, 8), 0),)


def variant(folder: Path, quant: str, name: str = "Qwen3 VL 2B", **keys: int | str) -> Path:
    kinds = {"F16": 1, "Q8_0": 8, "Q4_0": 2}
    stem = name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    return model_file(
        folder / f"{stem}-{quant}.gguf",
        str(keys.pop("architecture", "qwen3vl")),
        (("token_embd.weight", (64, 8), kinds.get(quant, 2)),),
        general__name=name,
        qwen3vl__embedding_length=64,
        qwen3vl__block_count=2,
        **keys,
    )


def test_a_real_model_is_read_as_gguf_reads_it(smollm: Path) -> None:
    model, reader = read_model(smollm), gguf.GGUFReader(smollm)
    assert (model.architecture, model.quant, model.projector) == ("llama", "Q4_1", None)
    assert model.parameters == sum(int(t.n_elements) for t in reader.tensors) == 134_515_008
    assert model.header.tensor_bytes == sum(int(t.n_bytes) for t in reader.tensors)
    assert model.file_bytes == smollm.stat().st_size
    assert model.hparam("block_count") == 30
    assert not model.inline_vision


def test_the_home_folder_may_be_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant(tmp_path, "Q8_0")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_model("~/Qwen3-VL-2B-Q8_0.gguf").path == tmp_path / "Qwen3-VL-2B-Q8_0.gguf"


@pytest.mark.parametrize(
    ("file", "keys", "name"),
    [
        ("a-Q4_0.gguf", {"general__name": "The Name"}, "The Name"),
        ("Some-Model-Q4_0.gguf", {"general__name": " "}, "Some-Model"),
        ("Some-Model.Q4_0.gguf", {}, "Some-Model"),
        ("plain.gguf", {"general__name": 5}, "plain"),
    ],
)
def test_a_model_has_a_name(tmp_path: Path, file: str, keys: dict[str, int | str], name: str) -> None:
    assert read_model(model_file(tmp_path / file, **keys)).name == name  # type: ignore[arg-type]


def test_vision_inside_the_file_is_noticed_and_no_projector_is_looked_for(tmp_path: Path) -> None:
    projector(tmp_path, "qwen3vl_merger", 64)
    path = model_file(
        tmp_path / "library.gguf",
        "qwen3vl",
        (*WEIGHTS, ("v.blk.0.attn_qkv.weight", (8, 8), 0)),
        qwen3vl__embedding_length=64,
    )
    model = read_model(path)
    assert model.inline_vision
    assert model.projector is None


@pytest.mark.parametrize("mmproj", [None, "auto"])
def test_a_projector_is_looked_for_only_when_asked(tmp_path: Path, mmproj: None) -> None:
    path = variant(tmp_path, "Q8_0")
    projector(tmp_path, "qwen3vl_merger", 64)
    assert (read_model(path, mmproj).projector is None) == (mmproj is None)


@pytest.mark.parametrize(
    ("made", "error", "why"),
    [
        (Gguf(pairs=[string("general.architecture", "clip")]), BadInput, "is a projector, not a model"),
        (Gguf(pairs=[]), NotAGGUF, "does not say its architecture"),
        (Gguf(pairs=[string("general.architecture", "")]), NotAGGUF, "does not say its architecture"),
        (
            Gguf(pairs=[string("general.architecture", "llama"), string("general.type", "adapter")]),
            BadInput,
            "is of the type 'adapter', not a model",
        ),
        (Gguf(), BadInput, "holds no weights"),
    ],
)
def test_what_is_no_text_model_is_refused(tmp_path: Path, made: Gguf, error: type[BadInput], why: str) -> None:
    with pytest.raises(error, match=why):
        read_model(made.write(tmp_path / "a.gguf"))


def test_a_folder_is_not_one_model(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder; give one file in it"):
        read_model(tmp_path)


# variants


def test_the_quants_of_a_folder_are_read_best_first(tmp_path: Path) -> None:
    for quant in ("Q4_0", "F16", "Q8_0"):
        variant(tmp_path, quant)
    projector(tmp_path, "qwen3vl_merger", 64)
    models = read_variants(tmp_path)
    assert [m.quant for m in models] == ["F16", "Q8_0", "Q4_0"]
    assert all(m.projector and m.projector.path.name == "mmproj-F16.gguf" for m in models)


def test_what_lies_beside_the_quants_is_passed_over_in_a_folder_and_refused_when_named(tmp_path: Path) -> None:
    variant(tmp_path, "Q8_0")
    matrix = Gguf(pairs=[string("general.type", "imatrix")]).write(tmp_path / "imatrix.gguf")
    adapter = Gguf(pairs=[string("general.architecture", "qwen3vl"), string("general.type", "adapter")])
    adapter.write(tmp_path / "lora.gguf")
    assert [m.quant for m in read_variants(tmp_path)] == ["Q8_0"]
    with pytest.raises(BadInput, match="imatrix"):
        read_variants([tmp_path / "Qwen3-VL-2B-Q8_0.gguf", matrix])


def test_a_broken_quant_in_a_folder_is_named(tmp_path: Path) -> None:
    variant(tmp_path, "Q8_0")
    broken = variant(tmp_path, "Q4_0")
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(NotAGGUF, match=f"{broken.name} .* bytes are missing"):
        read_variants(tmp_path)


def test_quants_in_folders_of_their_own_are_found(tmp_path: Path) -> None:
    variant(tmp_path, "Q4_0")
    variant(tmp_path / "Q8_0", "Q8_0")
    variant(tmp_path / "other", "F16")
    assert [m.quant for m in read_variants(tmp_path)] == ["Q8_0", "Q4_0"]


def test_a_split_quant_is_one_variant_and_a_link_is_none_of_its_own(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    (tmp_path / "again-Q8_0.gguf").symlink_to(shards[0])
    models = read_variants([shards[1], shards[0], *shards[2:]])
    assert [m.shards for m in models] == [tuple(shards)]
    plain = variant(tmp_path / "Q4_0", "Q4_0")
    (plain.parent / "link-Q4_0.gguf").symlink_to(plain)
    assert len(read_variants(plain.parent)) == 1


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Qwen3 VL 2B Thinking", {}),
        ("Qwen3 VL 2B", {"architecture": "qwen3vlmoe"}),
        ("Qwen3 VL 2B", {"qwen3vl__feed_forward_length": 99}),
    ],
)
def test_the_file_of_another_model_is_named(tmp_path: Path, name: str, keys: dict[str, int | str]) -> None:
    same = [variant(tmp_path, "Q4_0"), variant(tmp_path, "F16")]
    odd = variant(tmp_path / "Q8_0", "Q8_0", name, **keys)
    with pytest.raises(BadInput, match=f"^{odd.name} .* is not a quant of Qwen3 VL 2B"):
        read_variants([odd, *same])


def test_a_name_may_be_spelt_differently_by_two_makers(tmp_path: Path) -> None:
    variant(tmp_path, "Q4_0", "Qwen3 VL 2B")
    variant(tmp_path, "Q8_0", "Qwen3-Vl-2B")
    assert len(read_variants(tmp_path)) == 2


def test_an_empty_folder_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no model in"):
        read_variants(tmp_path)


# keys


def test_a_model_keeps_its_key_where_it_moves(tmp_path: Path) -> None:
    path = variant(tmp_path, "Q8_0")
    key = model_key(read_model(path))
    assert len(key) == 32
    moved = shutil.copy(path, tmp_path / "elsewhere.gguf")
    assert model_key(read_model(moved)) == key


@pytest.mark.parametrize("change", ["quant", "name", "size", "projector"])
def test_another_model_has_another_key(tmp_path: Path, change: str) -> None:
    path = variant(tmp_path, "Q8_0")
    key = model_key(read_model(path))
    other = path
    if change == "quant":
        other = variant(tmp_path, "Q4_0")
    elif change == "name":
        other = variant(tmp_path / "b", "Q8_0", "Qwen3 VL 2X")
    elif change == "size":
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        projector(tmp_path, "qwen3vl_merger", 64)
    assert model_key(read_model(other)) != key


def test_two_models_that_differ_in_one_word_of_the_vocabulary_have_two_keys(tmp_path: Path) -> None:
    a = model_file(tmp_path / "a.gguf", words=["a"] * 2000, tail=1)
    b = model_file(tmp_path / "b.gguf", words=["a"] * 1999 + ["b"], tail=1)
    assert model_key(read_model(a)) != model_key(read_model(b))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_in_a_models_folder_is_passed_over(tmp_path: Path) -> None:
    model_file(tmp_path / "model-Q4_0.gguf")
    os.mkfifo(tmp_path / "model-Q8_0.gguf")
    os.mkfifo(tmp_path / "mmproj.gguf")
    # In a process of its own: opening a pipe would wait for ever.
    code = "import sys; from qwenops.model.read import read_variants; print(len(read_variants(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")
