"""Shards joined into one file: byte for byte what llama-gguf-split --merge makes of them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.errors import BadInput, CheckFailed
from qwenops.model.join import ALIGNMENT, append, is_whole, joined, joined_name, shards_in
from qwenops.model.read import model_key, read_model
from tests.model.test_split import split_model
from tests.support.parts import layout
from tests.support.tiny import TinyModel


@pytest.fixture(scope="session")
def gguf_split() -> Path:
    tool = layout().reference("llama-gguf-split")
    if not tool.exists():
        pytest.skip(f"no {tool.name} in {layout().root} (make parts)")
    return tool


def join_all(first: Path, target: Path) -> Path:
    model = read_model(first, None)
    made = joined(model)
    for index, shard in enumerate(model.shards):
        append(target, made, index, shard)
    assert is_whole(target, made)
    return target


@pytest.mark.parametrize("how", [("--split-max-tensors", "7"), ("--split-max-tensors", "9", "--no-tensor-first-split")])
@pytest.mark.parametrize("family", ["qwen3vl", "qwen35"])
def test_shards_of_a_real_model_join_as_the_reference_tool_joins_them(
    gguf_split: Path, how: tuple[str, ...], family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tiny: TinyModel = request.getfixturevalue(f"tiny_{family}")
    subprocess.run([gguf_split, "--split", *how, tiny.model, tmp_path / "part"], check=True, capture_output=True)
    first = sorted(tmp_path.glob("part-00001-of-*.gguf"))[0]
    subprocess.run([gguf_split, "--merge", first, tmp_path / "reference.gguf"], check=True, capture_output=True)
    ours = join_all(first, tmp_path / "ours.gguf")
    assert ours.read_bytes() == (tmp_path / "reference.gguf").read_bytes()
    whole, again = read_model(tiny.model, None), read_model(ours, None)
    assert [(t.name, t.shape, t.type) for t in again.header.tensors] == [
        (t.name, t.shape, t.type) for t in whole.header.tensors
    ]


def test_a_joined_file_goes_on_with_the_first_shard_that_it_lacks(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    model = read_model(shards[0], None)
    made = joined(model)
    assert joined_name(model) == "big-Q8_0.gguf"
    target = tmp_path / "half.gguf"
    assert shards_in(target, made) == 0
    append(target, made, 0, shards[0])
    with target.open("ab") as file:
        file.write(b"some of the second, broken off")
    assert shards_in(target, made) == 1
    assert not is_whole(target, made)
    for index in (1, 2):
        append(target, made, index, shards[index])
    assert target.read_bytes() == join_all(shards[0], tmp_path / "at-once.gguf").read_bytes()
    other = replace(made, head=made.head[:-1] + b"x")
    assert shards_in(target, other) == 0
    assert model_key(read_model(target, None)) != model_key(model)


def test_a_shard_that_is_another_is_refused(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    made = joined(read_model(shards[0], None))
    append(tmp_path / "t.gguf", made, 0, shards[0])
    with pytest.raises(CheckFailed, match="is not the shard"):
        append(tmp_path / "t.gguf", made, 1, shards[2])


def test_shards_of_another_alignment_cannot_be_joined(tmp_path: Path) -> None:
    model = read_model(split_model(tmp_path)[0], None)
    odd = replace(model, header=replace(model.header, alignment=2 * ALIGNMENT))
    with pytest.raises(BadInput, match="cannot be joined"):
        joined(odd)
