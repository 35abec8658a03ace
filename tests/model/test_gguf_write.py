"""A GGUF that we write is read the same by our reader and by gguf's, and takes the disk of its header."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.model.gguf_header import read_header
from qwenops.model.gguf_write import ALIGNMENT, Row, write_sparse

KEYS = {
    "general.architecture": "llama",
    "general.name": "zeros, größer",
    "llama.block_count": 2**31 + 1,
    "llama.some_scale": 0.5,
    "llama.switch": True,
    "tokenizer.ggml.tokens": ["a", "", "é"],
    "tokenizer.ggml.token_type": [1, -1, 3],
}
ROWS: list[Row] = [("a.weight", (512, 3), 12), ("b.weight", (7,), 0), ("c.weight", (32, 2, 2), 8)]


def test_our_own_reader_reads_what_was_written(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "m.gguf", KEYS, ROWS)
    header = read_header(path)
    assert {name: header.metadata[name] for name in KEYS} == KEYS
    assert [(t.name, t.shape, t.type) for t in header.tensors] == ROWS
    assert all(t.offset % ALIGNMENT == 0 for t in header.tensors)
    assert path.stat().st_size == header.data_offset + 864 + 32 + 160


def test_the_gguf_package_reads_it_too_and_every_weight_is_zero(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(write_sparse(tmp_path / "m.gguf", KEYS, ROWS))
    assert {name: reader.fields[name].contents() for name in KEYS} == KEYS
    assert [(t.name, tuple(int(n) for n in t.shape), int(t.tensor_type)) for t in reader.tensors] == ROWS
    assert not any(t.data.any() for t in reader.tensors)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_sparse(path, KEYS, ROWS)
    assert path.read_text() == "mine"


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=6))
def test_any_shapes_lie_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int]]
) -> None:
    rows: list[Row] = [(f"t{i}", (32 * a, b), 8) for i, (a, b) in enumerate(shapes)]
    header = read_header(write_sparse(tmp_path_factory.mktemp("m") / "m.gguf", KEYS, rows))
    ends = [0, *(t.offset + -(-t.size_bytes // ALIGNMENT) * ALIGNMENT for t in header.tensors)]
    assert [t.offset for t in header.tensors] == ends[:-1]
