"""Split models, written by gguf's own splitter."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from qwenops.errors import BadInput, NotAGGUF
from qwenops.model.gguf_header import read_header
from qwenops.model.read import read_model
from qwenops.model.split import first_shard, merged_header, shard_stem
from tests.model.make import Gguf, pair, row, string, u32


def split_model(folder: Path, tensors: int = 7, per_shard: int = 3) -> list[Path]:
    w = gguf.GGUFWriter(folder / "big-Q8_0.gguf", "qwen3", split_max_tensors=per_shard)
    w.add_name("Big")
    w.add_uint32("qwen3.block_count", 2)
    for i in range(tensors):
        w.add_tensor(f"blk.{i}.w", np.zeros((2, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return sorted(folder.glob("*.gguf"))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_shard_leads_to_the_whole_model(tmp_path: Path, which: int) -> None:
    shards = split_model(tmp_path)
    model = read_model(shards[which])
    assert model.shards == tuple(shards)
    assert model.path == shards[0]
    assert (model.name, model.quant, model.parameters) == ("Big", "Q8_0", 7 * 64)
    assert model.file_bytes == sum(s.stat().st_size for s in shards)
    assert [(t.name, t.shard) for t in model.header.tensors] == [(f"blk.{i}.w", i // 3) for i in range(7)]
    assert model.header.metadata == read_header(shards[0]).metadata


def test_a_plain_file_is_its_own_only_shard(tmp_path: Path) -> None:
    path = Gguf(rows=[row("t", (8,), 0, 0)], data_bytes=32).write(tmp_path / "plain.gguf")
    header, shards = merged_header(path)
    assert shards == (path,)
    assert header == read_header(path)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    shards[1].unlink()
    with pytest.raises(BadInput, match=r"1 of them are not in .*: big-Q8_0-00002-of-00003\.gguf"):
        merged_header(shards[2])


def test_a_renamed_shard_says_which_name_it_needs(tmp_path: Path) -> None:
    shard = split_model(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(BadInput, match="is one of 3 shards, but its name does not say so") as caught:
        merged_header(shard)
    assert "00001-of-00003.gguf" in caught.value.do[0]


def test_shards_in_each_others_place_are_refused(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    shards[1].rename(tmp_path / "x")
    shards[2].rename(shards[1])
    (tmp_path / "x").rename(shards[2])
    with pytest.raises(NotAGGUF, match=r"split\.no is 2, expected 1"):
        merged_header(shards[0])


def test_a_shard_of_another_model_is_refused(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    foreign = Gguf(
        pairs=[
            string("general.architecture", "llama"),
            pair("split.no", 2, b"\1\0"),
            pair("split.count", 2, b"\3\0"),
        ]
    )
    foreign.write(shards[1])
    with pytest.raises(NotAGGUF, match=r"general\.architecture is 'llama', expected 'qwen3'"):
        merged_header(shards[0])


def test_a_lost_tensor_is_noticed(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    Gguf(pairs=[pair("split.no", 2, b"\2\0"), pair("split.count", 2, b"\3\0")]).write(shards[2])
    with pytest.raises(NotAGGUF, match=r"hold 6 tensors, split\.tensors\.count says 7"):
        merged_header(shards[0])


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    shards = split_model(tmp_path)
    again = [pair("split.no", 2, b"\2\0"), pair("split.count", 2, b"\3\0")]
    Gguf(pairs=again, rows=[row("blk.0.w", (32, 2), 8, 0)], data_bytes=68).write(shards[2])
    with pytest.raises(NotAGGUF, match=r"blk\.0\.w is in two shards"):
        merged_header(shards[0])


def test_a_count_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = Gguf(pairs=[string("general.architecture", "llama"), string("split.count", "3")]).write(tmp_path / "a.gguf")
    with pytest.raises(NotAGGUF, match=r"split\.count is '3'"):
        merged_header(path)


def test_an_absurd_count_is_refused_at_once(tmp_path: Path) -> None:
    path = Gguf(pairs=[u32("split.count", 2**32 - 1)]).write(tmp_path / "a-00001-of-00002.gguf")
    with pytest.raises(BadInput, match="is one of 4294967295 shards"):
        merged_header(path)


@pytest.mark.parametrize(
    ("name", "stem", "first"),
    [
        ("m-Q4_K_M-00002-of-00003.gguf", "m-Q4_K_M", "m-Q4_K_M-00001-of-00003.gguf"),
        ("m-[x]-00003-of-00003.gguf", "m-[x]", "m-[x]-00001-of-00003.gguf"),
        ("m-2-of-3.gguf", None, "m-2-of-3.gguf"),
        ("m.gguf", None, "m.gguf"),
    ],
)
def test_a_shard_is_known_by_its_name(name: str, stem: str | None, first: str) -> None:
    assert shard_stem(Path(name)) == stem
    assert first_shard(Path("d") / name) == Path("d") / first
