"""The header reader against gguf's own reader, against lies, and against damage."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput, NotAGGUF, NotAllowed
from qwenops.model.gguf_header import KEPT_ELEMENTS, NeedMore, parse_header, read_header
from qwenops.model.types import ArrayInfo, Header
from tests.model.make import ARRAY, STRING, U32, Gguf, model_file, pair, row, string, strings, text, u32

V = gguf.GGUFValueType


def same_as_gguf(path: Path) -> Header:
    """Read with both readers and compare every field."""
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    fields = {k: f for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, f in fields.items():
        value, expected = ours.metadata[key], f.contents()
        if isinstance(value, ArrayInfo):
            assert (value.type, value.length) == (int(f.types[-1]), len(expected))
        elif f.types[0] == V.ARRAY and not expected:
            assert value == []
        else:
            assert value == pytest.approx(expected, nan_ok=True) if isinstance(value, float) else value == expected
    assert ours.alignment == theirs.alignment
    assert [(t.name, t.shape, t.type, t.size_bytes, ours.data_offset + t.offset) for t in ours.tensors] == [
        (t.name, tuple(int(n) for n in t.shape), int(t.tensor_type), int(t.n_bytes), int(t.data_offset))
        for t in theirs.tensors
    ]
    return ours


def writer(path: Path, architecture: str = "llama") -> gguf.GGUFWriter:
    return gguf.GGUFWriter(path, architecture)


def finish(w: gguf.GGUFWriter) -> None:
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# what gguf writes


def test_every_value_type_is_read_as_gguf_reads_it(tmp_path: Path) -> None:
    w = writer(tmp_path / "a.gguf")
    extremes: dict[V, tuple[Any, ...]] = {
        V.UINT8: (0, 255),
        V.INT8: (-128, 127),
        V.UINT16: (0, 65535),
        V.INT16: (-32768, 32767),
        V.UINT32: (0, 2**32 - 1),
        V.INT32: (-(2**31), 2**31 - 1),
        V.FLOAT32: (0.5, float("inf"), float("nan")),
        V.BOOL: (True, False),
        V.STRING: ("", "Zürich 東京 🚀"),
        V.UINT64: (0, 2**64 - 1),
        V.INT64: (-(2**63), 2**63 - 1),
        V.FLOAT64: (1e300, -0.0),
    }
    for kind, values in extremes.items():
        for i, value in enumerate(values):
            w.add_key_value(f"k.{kind.name}.{i}", value, kind)
    arrays: tuple[list[Any], ...] = ([1, 2, 3], [1.5, 2.5], [True, False], ["a", "", "ü"])
    for array in arrays:
        w.add_array(f"k.array.{type(array[0]).__name__}", array)
    w.add_tensor("t", np.zeros((2, 3), np.float32))
    finish(w)
    same_as_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize("kind", list(gguf.GGMLQuantizationType), ids=lambda k: k.name)
def test_every_tensor_type_has_the_size_that_gguf_gives_it(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    w = writer(tmp_path / "a.gguf")
    for i, rows in enumerate((1, 3)):
        w.add_tensor(f"t{i}", np.zeros((rows, 2 * n_bytes), np.uint8), raw_dtype=kind)
    finish(w)
    header = same_as_gguf(tmp_path / "a.gguf")
    assert header.tensors[1].shape == (2 * block, 3)
    assert header.tensor_bytes == 8 * n_bytes


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_the_alignment_moves_data_and_offsets(tmp_path: Path, alignment: int) -> None:
    w = writer(tmp_path / "a.gguf")
    w.add_custom_alignment(alignment)
    for i in range(3):
        w.add_tensor(f"t{i}", np.zeros(5, np.float32))
    finish(w)
    assert same_as_gguf(tmp_path / "a.gguf").alignment == alignment


@pytest.mark.parametrize("length", [0, 1, KEPT_ELEMENTS, KEPT_ELEMENTS + 1, 5000])
def test_long_arrays_are_measured_and_short_ones_read(tmp_path: Path, length: int) -> None:
    path = model_file(tmp_path / "a.gguf", words=[f"word {i}" for i in range(length)], after=7)
    value = read_header(path).metadata["words"]
    if length > KEPT_ELEMENTS:
        assert value == ArrayInfo(STRING, length, value.offset)
        first = path.read_bytes()[value.offset : value.offset + 14]
        assert first == text("word 0")
    else:
        assert value == [f"word {i}" for i in range(length)]
    assert read_header(path).metadata["after"] == 7


@pytest.mark.parametrize("sizes", [[0], [1], [40], [41], [255], [256], [70_000], [1, 0, 41, 300], [5, 5, 5, 0]])
def test_a_vocabulary_of_any_lengths_is_walked_to_its_end(tmp_path: Path, sizes: list[int]) -> None:
    count = KEPT_ELEMENTS + 500
    words = ["x" * sizes[i % len(sizes)] for i in range(count)]
    path = model_file(tmp_path / "a.gguf", words=words, after=7)
    assert read_header(path).metadata["after"] == 7


def test_a_vocabulary_with_zero_bytes_in_its_words_is_walked_to_its_end(tmp_path: Path) -> None:
    words = ["\0" * (i % 17) for i in range(3000)]
    assert read_header(model_file(tmp_path / "a.gguf", words=words, after=7)).metadata["after"] == 7


def test_version_2_is_read_too(tmp_path: Path) -> None:
    assert read_header(Gguf(version=2).write(tmp_path / "a.gguf")).version == 2


def test_a_file_without_tensors_has_a_header(tmp_path: Path) -> None:
    header = same_as_gguf(Gguf().write(tmp_path / "a.gguf"))
    assert (header.architecture, header.tensors, header.tensor_bytes) == ("llama", (), 0)


scalars = st.one_of(
    st.tuples(st.just(V.UINT32), st.integers(0, 2**32 - 1)),
    st.tuples(st.just(V.INT64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(V.FLOAT32), st.floats(width=32)),
    st.tuples(st.just(V.BOOL), st.booleans()),
    st.tuples(st.just(V.STRING), st.text(max_size=50)),
)
names = st.text("abcdefghijklmnopqrstuvwxyz._0123456789", min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.dictionaries(names.filter(lambda n: not n.startswith("general.")), scalars, max_size=12),
    words=st.lists(st.text(max_size=60), min_size=1, max_size=30),
    shapes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), max_size=6),
)
def test_what_gguf_wrote_is_what_we_read(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: dict[str, tuple[V, Any]],
    words: list[str],
    shapes: list[list[int]],
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "a.gguf"
    w = writer(path)
    for key, (kind, value) in pairs.items():
        w.add_key_value("k." + key, value, kind)
    w.add_array("general.words", words)
    w.add_array("general.many", [w for w in words for _ in range(KEPT_ELEMENTS)])
    for i, shape in enumerate(shapes):
        w.add_tensor(f"t{i}", np.zeros(shape, np.float16))
    finish(w)
    same_as_gguf(path)


# what it costs

ONCE = """
import sys, time
from qwenops.model.gguf_header import read_header
began = time.process_time()
header = read_header(sys.argv[1])
cost_ms = (time.process_time() - began) * 1e3
status = open("/proc/self/status").read()
print(cost_ms, int(status.split("VmHWM:")[1].split()[0]) / 1024, len(header.tensors))
assert not {"gguf", "numpy"} & sys.modules.keys()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its peak memory from /proc")
def test_a_header_of_qwens_size_takes_less_than_60_ms_and_60_mib(tmp_path: Path) -> None:
    rng = random.Random(1)
    lengths = [min(120, max(1, int(rng.lognormvariate(1.85, 0.55)))) for _ in range(152_000)]
    words = ["x" * n for n in lengths]
    tensors = tuple((f"blk.{i}.w", (32,), 0) for i in range(400))
    path = model_file(tmp_path / "a.gguf", "qwen3vl", tensors, tokens=words, merges=[w + " y" for w in words])
    runs = []
    for _ in range(5):
        out = subprocess.run([sys.executable, "-c", ONCE, path], check=True, capture_output=True, text=True).stdout
        runs.append([float(figure) for figure in out.split()])
    assert runs[0][2] == 400
    assert min(ms for ms, *_ in runs) < 60
    assert max(mib for _, mib, _ in runs) < 60


# lies


def tensor(name: str | bytes = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> Gguf:
    return Gguf(rows=[row(name, shape, kind, offset)], data_bytes=4096)


def value(raw: bytes, kind: int = ARRAY) -> Gguf:
    return Gguf(pairs=[string("general.architecture", "llama"), pair("k", kind, raw)], data_bytes=4096)


LIES: dict[str, tuple[bytes | Gguf, str]] = {
    "an empty file": (b"", "the file is empty"),
    "three bytes": (b"GGU", "the magic number would end at byte 4, but the file has 3"),
    "another magic": (b"ABCD" + bytes(60), r"begins with b'ABCD', not b'GGUF'"),
    "a web page": (b"<!DOCTYPE html><html>", "is a web page"),
    "a Git LFS note": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
    "a safetensors file": (struct.pack("<Q", 20) + b'{"a":{"dtype":"F32"}}', "safetensors"),
    "a zip": (b"PK\x03\x04" + bytes(60), "zip archive"),
    "an old GGML file": (b"tjgg" + bytes(60), "the format before GGUF"),
    "zeros": (bytes(200), "holds zeros"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "version 1": (Gguf(version=1), "GGUF version 1 is not one of 2 and 3"),
    "version 4": (Gguf(version=4), "GGUF version 4 is not one of 2 and 3"),
    "version 0": (Gguf(version=0), "GGUF version 0 is not one of 2 and 3"),
    "too many tensors": (Gguf(tensor_count=2**63), "it claims 9223372036854775808 tensors"),
    "a tensor more than there is": (
        Gguf(rows=[row("t", (1,), 0, 0)], tensor_count=2, data_bytes=32),
        "the name of tensor 2 is empty",
    ),
    "too many keys": (Gguf(key_count=2**40), "1099511627776 metadata keys"),
    "an empty key": (Gguf(pairs=[u32("", 1)]), "metadata key 1 of 1 at byte 24 is empty"),
    "a key that is not text": (Gguf(pairs=[pair(b"\xff\xfe", U32, bytes(4))]), "is not text"),
    "a key twice": (Gguf(pairs=[u32("k", 1), u32("k", 2)]), "'k' appears twice"),
    "a key longer than the file": (
        Gguf(pairs=[struct.pack("<Q", 2**62) + bytes(40)]),
        "metadata key 1 of 1 would end at byte 4611686018427387936, but the file has",
    ),
    "a value of unknown type": (value(bytes(64), 13), "the value of k has the unknown type 13"),
    "a string longer than the file": (value(struct.pack("<Q", 10**9), STRING), "the value of k would end at byte"),
    "an array of arrays": (value(struct.pack("<IQIQ", ARRAY, 1, U32, 0)), "k is an array of arrays"),
    "an array of unknown type": (value(struct.pack("<IQ", 99, 1)), "k is an array of the unknown type 99"),
    "an array longer than the file": (value(struct.pack("<IQ", U32, 2**61)), "k claims 2305843009213693952 values"),
    "more strings than fit": (value(struct.pack("<IQ", STRING, 2**60)), "k claims 1152921504606846976 strings"),
    "a string in a vocabulary longer than the file": (
        value(struct.pack("<IQ", STRING, 2000) + bytes(8 * 400) + struct.pack("<Q", 2**63) + bytes(16_000)),
        "the value of k would end at byte",
    ),
    "alignment zero": (Gguf(pairs=[u32("general.alignment", 0)]), "general.alignment is 0"),
    "alignment 24": (Gguf(pairs=[u32("general.alignment", 24)]), "general.alignment is 24, which is not a power"),
    "alignment as text": (Gguf(pairs=[string("general.alignment", "32")]), "must be a 32-bit number"),
    "a tensor name of 64 bytes": (tensor("n" * 64), "has 64 bytes, more than 63"),
    "a tensor name that is not text": (tensor(b"\xc3"), "is not text"),
    "a tensor twice": (
        Gguf(rows=[row("t", (8,), 0, 0), row("t", (8,), 0, 32)], data_bytes=64),
        "tensor 't' appears twice",
    ),
    "five dimensions": (tensor(shape=(1, 1, 1, 1, 1)), "tensor t has 5 dimensions"),
    "a negative dimension": (tensor(shape=(2**64 - 1,)), "more elements than can be counted"),
    "a shape past counting": (tensor(shape=(2**40, 2**40)), "more elements than can be counted"),
    "an unknown tensor type": (tensor(kind=77), "tensor t has the unknown type 77"),
    "a removed tensor type": (tensor(kind=31), "has type Q4_0_4_4, which llama.cpp no longer reads"),
    "half a block": (tensor(shape=(48,), kind=8), "rows of 48, not a multiple of the Q8_0 block of 32"),
    "an offset that is not aligned": (tensor(offset=4), "tensor t lies at offset 4, where 0 was expected"),
    "tensors that overlap": (
        Gguf(rows=[row("a", (8,), 0, 0), row("b", (8,), 0, 0)], data_bytes=64),
        "tensor b lies at offset 0, where 32 was expected",
    ),
    "tensors beyond the file": (
        tensor(shape=(2048,)),
        r"ends at byte 8320, the file has 4224 \(4096 bytes are missing\)",
    ),
}


@pytest.mark.parametrize(("made", "why"), LIES.values(), ids=LIES.keys())
def test_a_lie_is_refused_by_name(tmp_path: Path, made: bytes | Gguf, why: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(made if isinstance(made, bytes) else made.content())
    with pytest.raises(NotAGGUF, match=why) as caught:
        read_header(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.do


def test_what_is_not_a_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(BadInput, match="is a folder"):
        read_header(tmp_path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_header("a\0b.gguf")


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """A file that its reader has no right to; root, who may read everything, steps down for a moment."""
    path = model_file(tmp_path / "a.gguf")
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield path
    if root:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_is_not_allowed(unreadable: Path) -> None:
    with pytest.raises(NotAllowed, match="permission denied"):
        read_header(unreadable)


# prefixes


def test_a_header_is_parsed_from_the_first_bytes_of_a_file_that_is_not_here(tmp_path: Path) -> None:
    path = model_file(tmp_path / "a.gguf", words=[f"w{i}" for i in range(1200)], llama__block_count=3)
    content, whole = path.read_bytes(), read_header(path)
    lengths = [1]
    parsed = None
    while parsed is None:
        try:
            parsed = parse_header(content[: lengths[-1]], len(content), path)
        except NeedMore as more:
            lengths.append(more.at_least)
    assert lengths == sorted(set(lengths))
    assert parsed == whole
    assert lengths[-1] <= whole.data_offset


def test_a_prefix_of_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    content = tensor().content()
    with pytest.raises(NotAGGUF, match="cut off"):
        parse_header(content, len(content) - 4000 - 96, tmp_path / "remote.gguf")


# damage


def healthy() -> bytes:
    g = Gguf(
        pairs=[
            string("general.architecture", "llama"),
            u32("general.alignment", 32),
            u32("llama.block_count", 2),
            strings("tokenizer.ggml.tokens", [f"t{i}" for i in range(KEPT_ELEMENTS + 80)]),
            pair("floats", ARRAY, struct.pack("<IQ4f", 6, 4, 1, 2, 3, 4)),
        ],
        rows=[row("a.weight", (32, 4), 8, 0), row("b.weight", (16,), 0, 160)],
        data_bytes=160 + 64,
    )
    return g.content()


def reads_or_refuses(content: bytes, path: Path) -> None:
    """A damaged file is either read within its bounds or refused by name, soon."""
    path.write_bytes(content)
    began = time.perf_counter()
    try:
        header = read_header(path)
    except BadInput as refused:
        message = refused.message
    else:
        message = str(path)
        assert all(header.data_offset + t.offset + t.size_bytes <= len(content) for t in header.tensors)
    assert str(path) in message
    assert time.perf_counter() - began < 2


def test_a_healthy_header_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(healthy())
    assert len(read_header(tmp_path / "a.gguf").tensors) == 2


@settings(max_examples=400, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, len(healthy()) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_never_surprise(tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]) -> None:
    content = bytearray(healthy())
    for at, byte in flips:
        content[at] = byte
    reads_or_refuses(bytes(content), tmp_path_factory.getbasetemp() / "flipped.gguf")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = healthy()
    for length in [*range(200), *range(200, len(content), 97), len(content) - 1]:
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        with pytest.raises(NotAGGUF):
            read_header(tmp_path / "cut.gguf")


@pytest.mark.parametrize("claim", [2**31, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("at", range(8, 200, 4))
def test_an_absurd_number_in_any_place_costs_nothing(tmp_path: Path, at: int, claim: int) -> None:
    content = bytearray(healthy())
    content[at : at + 8] = struct.pack("<Q", claim)
    reads_or_refuses(bytes(content), tmp_path / "absurd.gguf")


def test_a_huge_hole_that_claims_millions_of_strings_is_read_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "hole.gguf"
    path.write_bytes(Gguf(pairs=[pair("k", ARRAY, struct.pack("<IQ", STRING, 4_000_000))]).header())
    os.truncate(path, 2**36)
    began = time.perf_counter()
    header = read_header(path)
    assert header.metadata["k"].length == 4_000_000
    assert time.perf_counter() - began < 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("place", ["pipe", "device", "link"])
def test_a_pipe_or_a_device_is_refused_by_name_and_never_opened(tmp_path: Path, place: str) -> None:
    path = tmp_path / "model.gguf"
    if place == "device":
        path = Path("/dev/zero")
    elif place == "link":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    else:
        os.mkfifo(path)
    # In a process of its own: opening a pipe would wait for ever.
    code = "import sys; from qwenops.model.gguf_header import read_header; read_header(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    what = "a device" if place == "device" else "a pipe"
    assert done.stderr.splitlines()[-1] == f"qwenops.errors.BadInput: {path} is {what}, not a GGUF file"
