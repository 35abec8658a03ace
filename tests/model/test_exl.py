"""EXL2 and EXL3 models are read by their headers, here and in a repository, and what cannot be is refused."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.memory.exl_weights import bits_of
from qwenops.model.exl import is_exl, read_exl
from qwenops.model.safetensors_header import read_header, read_safetensors
from qwenops.units import MIB
from tests.model.elsewhere import QUICK
from tests.support.exl import QWEN3_VL_8B, QWEN25_VL_7B, Dims, config, ghost, tensors, write, write_raw
from tests.support.web import Request, Web, drip

REPO = "maker/Eyes-8B-exl3"
SMALL = {"exl2": Dims(architecture="Qwen2_5_VLForConditionalGeneration"), "exl3": Dims()}


def made(folder: Path, engine: str = "exl3", **rest: Any) -> Path:
    dims = SMALL[engine]
    return write(folder, tensors(dims, engine), config(dims, engine, 4.0), **rest)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("engine", ["exl2", "exl3"])
def test_what_the_library_wrote_is_read_as_the_library_reads_it(tmp_path: Path, engine: str, shards: int) -> None:
    from safetensors import safe_open

    model = read_exl(made(tmp_path / "model", engine, shards=shards))
    assert model.format == engine
    theirs = {}
    for file in (tmp_path / "model").glob("*.safetensors"):
        with safe_open(file, framework="numpy") as opened:
            theirs |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    assert {t.name: (t.shape, t.size_bytes) for t in model.tensors} == {
        name: (value.shape, value.nbytes) for name, value in theirs.items()
    }
    assert model.file_bytes == sum(f.stat().st_size for f in (tmp_path / "model").glob("*.safetensors"))


@pytest.mark.parametrize(("dims", "engine"), [(QWEN3_VL_8B, "exl3"), (QWEN25_VL_7B, "exl2")])
def test_a_model_of_true_size_is_opened_by_the_library_and_read_in_no_time(
    tmp_path: Path, dims: Dims, engine: str
) -> None:
    from safetensors import safe_open

    folder = ghost(tmp_path / "model", tensors(dims, engine), config(dims, engine, 4.0))
    began = time.process_time()
    model = read_exl(folder)
    assert time.process_time() - began < 1
    with safe_open(folder / "model.safetensors", framework="numpy") as opened:
        assert set(opened.keys()) == {t.name for t in model.tensors}
    bits = bits_of(model)
    assert bits.layers is not None
    assert bits.head is not None
    assert 4 < bits.layers < 4.2
    assert 6 < bits.head < 6.2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("exl3:maker/Eyes", True),
        ("hf:maker/Eyes-8B-EXL2@4.0bpw", True),
        ("hf:maker/Eyes-8B@exl3", True),
        ("hf:maker/Eyes-8B-GGUF", False),
        ("hf:maker/exl3-to-GGUF", False),
        ("ollama:exl3", False),
        (Path("nowhere-exl3"), False),
    ],
)
def test_a_model_is_known_by_how_it_is_named(given: Path | str, expected: bool) -> None:
    assert is_exl(given) == expected


def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "model")
    assert is_exl(folder)
    (folder / "x.gguf").touch()
    assert not is_exl(folder)


def repository(web: Web, cdn: Web, folder: Path, repo: str = REPO, **rest: Any) -> None:
    web.repository(repo, {f.name: f for f in folder.iterdir()}, cdn, **rest)


@pytest.mark.usefixtures("own_environment")
class TestElsewhere:
    """A repository of the hub."""

    @pytest.fixture(autouse=True)
    def at(self, host: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", host.url)

    @pytest.mark.parametrize("engine", ["exl2", "exl3"])
    def test_it_is_the_same_model_for_a_few_bytes(self, host: Web, cdn: Web, tmp_path: Path, engine: str) -> None:
        dims = QWEN3_VL_8B if engine == "exl3" else QWEN25_VL_7B
        folder = ghost(tmp_path / "model", tensors(dims, engine), config(dims, engine, 4.0))
        # the made-up digests of the listing keep the hole unread
        repository(host, cdn, folder)
        there, here = read_exl(f"{engine}:{REPO}"), read_exl(folder)
        for field in ("tensors", "config", "file_bytes", "most_image_tokens", "format", "architecture"):
            assert getattr(there, field) == getattr(here, field), field
        assert host.sent_bytes + cdn.sent_bytes < 2 * MIB
        seen = len(cdn.requests)
        assert read_exl(f"hf:{REPO}", offline=True).tensors == here.tensors
        assert read_exl(f"hf:{REPO}").tensors == here.tensors
        assert len(cdn.requests) == seen

    def test_a_revision_is_asked_for_by_its_name(self, host: Web, cdn: Web, tmp_path: Path) -> None:
        commit = "c" * 40
        repository(host, cdn, made(tmp_path / "model"), commit=commit)
        model = read_exl(f"exl3:{REPO}@{commit}")
        assert model.name == f"Eyes-8B-exl3@{commit}"
        assert host.requests[0].path.startswith(f"/api/models/{REPO}/revision/{commit}")

    def test_what_is_not_there_says_how_it_is_named(self, host: Web, cdn: Web, tmp_path: Path) -> None:
        (tmp_path / "README.md").touch()
        repository(host, cdn, tmp_path)
        with pytest.raises(BadInput, match="holds no EXL model"):
            read_exl(f"exl3:{REPO}")
        with pytest.raises(BadInput) as caught:
            read_exl(f"exl3:{REPO}:4.0bpw")
        assert caught.value.do == (f"give the revision instead: exl3:{REPO}@4.0bpw",)

    def test_without_the_network_what_was_not_read_is_missing(self) -> None:
        with pytest.raises(PartMissing, match="not read before"):
            read_exl(f"exl3:{REPO}", offline=True)

    @pytest.mark.parametrize(
        ("lie", "said"),
        [
            ("length", "cannot be"),
            ("endless", "past its end"),
            ("drip", "did not finish"),
            ("html", "web page"),
        ],
    )
    def test_a_server_that_lies_costs_little(self, host: Web, cdn: Web, tmp_path: Path, lie: str, said: str) -> None:
        folder = made(tmp_path / "model")
        repository(host, cdn, folder)
        size = (folder / "model.safetensors").stat().st_size

        def bad(web: Web, handler: Any, request: Request) -> bool:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
            if not asked or not request.path.startswith("/blobs/"):
                return False
            first, last = int(asked[1]), min(int(asked[2]), size - 1)
            length = {"length": 1 << 60, "endless": 31 * MIB}.get(lie, 4096)
            whole = b"<html>".ljust(size) if lie == "html" else length.to_bytes(8, "little") + b" " * (size - 8)
            body = whole[first : last + 1]
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            if lie == "drip":
                drip(handler, body[:200], 0.05)
            else:
                handler.wfile.write(body)
                request.sent_bytes += len(body)
            return True

        cdn.bad = bad
        began = time.monotonic()
        with pytest.raises(QwenopsError, match=said):
            read_exl(f"exl3:{REPO}", limits=QUICK)
        assert time.monotonic() - began < 30
        assert cdn.sent_bytes < 2 * MIB


A_TENSOR = {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}


def row(**changes: Any) -> dict[str, Any]:
    return A_TENSOR | changes


HOSTILE = {
    "no JSON": b"not JSON",
    "no table": b"[1, 2]",
    "a name twice": b"{%s,%s}" % ((b'"a":' + json.dumps(A_TENSOR).encode(),) * 2),
    "a key twice": b'{"a":{"dtype":"F16","dtype":"F16","shape":[4],"data_offsets":[0,8]}}',
    "nested without end": b"[" * 100_000,
    "a number without end": b'{"a":' + b"9" * 100_000 + b"}",
    "not UTF-8": b'{"\xff": 1}',
    "a shape that overflows": json.dumps({"a": row(shape=[1 << 62, 1 << 62])}).encode(),
    "a shape of nothing but zeros and a size": json.dumps({"a": row(shape=[0, 1 << 62])}).encode(),
    "a negative shape": json.dumps({"a": row(shape=[-2, -2])}).encode(),
    "a shape of truths": json.dumps({"a": row(shape=[True, 4])}).encode(),
    "a shape of fractions": json.dumps({"a": row(shape=[2.0, 2])}).encode(),
    "a thousand dimensions": json.dumps({"a": row(shape=[1] * 1000 + [4])}).encode(),
    "an unknown type": json.dumps({"a": row(dtype="F17")}).encode(),
    "a type that is a list": json.dumps({"a": row(dtype=["F16"])}).encode(),
    "a size that is not the shape's": json.dumps({"a": row(data_offsets=[0, 6])}).encode(),
    "offsets the wrong way round": json.dumps({"a": row(data_offsets=[8, 0])}).encode(),
    "offsets before the data": json.dumps({"a": row(data_offsets=[-8, 0])}).encode(),
    "three offsets": json.dumps({"a": row(data_offsets=[0, 4, 8])}).encode(),
    "a hole": json.dumps({"a": row(data_offsets=[8, 16])}).encode(),
    "an overlap": json.dumps({"a": row(), "b": row(data_offsets=[4, 12])}).encode(),
    "data past the end": json.dumps({"a": row(), "b": row(data_offsets=[8, 16])}).encode(),
    "metadata that are no texts": json.dumps({"__metadata__": {"a": 1}, "a": row()}).encode(),
    "a tensor that is a number": json.dumps({"a": 3}).encode(),
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, header: bytes) -> None:
    file = write_raw(tmp_path / "x.safetensors", header, 8)
    with pytest.raises(BadInput) as caught:
        read_safetensors(file)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "much",
    [
        b'{"a":[' + b"[]," * 9_000_000 + b"[]]}",
        b'{"a":[' + b"1," * 9_000_000 + b"1]}",
        b'{"":{}' + b',"":{}' * 5_000_000 + b"}",
    ],
    ids=["lists", "numbers", "tables"],
)
def test_a_header_that_would_fill_the_memory_is_not_parsed(tmp_path: Path, much: bytes) -> None:
    file = write_raw(tmp_path / "x.safetensors", much, 0)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="more than 300000 tensors"):
            read_safetensors(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * len(much)


@pytest.mark.parametrize("length", [0, 1, 1 << 25, 1 << 63, (1 << 64) - 1])
def test_a_length_that_cannot_be_is_refused_unread(tmp_path: Path, length: int) -> None:
    file = write_raw(tmp_path / "x.safetensors", b"{}", 1 << 36, length)
    began = time.process_time()
    with pytest.raises(BadInput, match="cannot be"):
        read_safetensors(file)
    assert time.process_time() - began < 0.5


def test_a_note_of_git_lfs_is_known_for_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(BadInput, match="Git LFS") as caught:
        read_safetensors(file)
    assert caught.value.do == ("git lfs pull",)


@pytest.mark.parametrize("n_bytes", [0, 7, 8, 9, 40])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, n_bytes: int) -> None:
    whole = made(tmp_path / "model") / "model.safetensors"
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:n_bytes])
    with pytest.raises(BadInput):
        read_safetensors(cut)


_NUMBERS = st.lists(st.integers(-4, 64) | st.booleans() | st.floats(allow_nan=False), max_size=3) | st.integers(0, 9)
_ROW = st.fixed_dictionaries(
    {},
    optional={"dtype": st.sampled_from(["F16", "I32", "F17", 7]), "shape": _NUMBERS, "data_offsets": _NUMBERS},
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=4), _ROW | st.none(), max_size=4), st.binary(max_size=16))
def test_no_header_does_more_than_be_refused(header: dict[str, Any], noise: bytes) -> None:
    raw = json.dumps(header).encode() + noise
    data = len(raw).to_bytes(8, "little") + raw

    def fill(into: bytearray, up_to: int) -> None:
        into += data[len(into) : up_to]

    try:
        read = read_header(fill, len(data), "x")
    except BadInput:
        return
    assert read.file_bytes == len(data)


def _config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _index(folder: Path, placed: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a shard is not there": (lambda f: (f / "model-00002-of-00003.safetensors").unlink(), "1 are not there"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no model"),
    "a config that is no JSON": (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
    "a config that is a list": (lambda f: (f / "config.json").write_text("[]"), "no table"),
    "a config of 5 MiB": (lambda f: (f / "config.json").write_text(" " * 5 * MIB), "longer than"),
    "no architecture": (lambda f: _config(f, architectures=[]), "names no architecture"),
    "a tensor in two files": (
        lambda f: (f / "other.safetensors").write_bytes((f / "model-00001-of-00003.safetensors").read_bytes()),
        "twice",
    ),
    "an index that places a tensor elsewhere": (
        lambda f: _index(f, {"nothing": "model-00001-of-00003.safetensors"}),
        "not where it says",
    ),
    "a shard of none": (
        lambda f: (f / "model-00009-of-00003.safetensors").symlink_to(f / "model-00001-of-00003.safetensors"),
        "no shard of 3",
    ),
}


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, change: Callable[[Path], Any], said: str) -> None:
    folder = made(tmp_path / "model", shards=3)
    change(folder)
    with pytest.raises(BadInput, match=said):
        read_exl(folder)


def test_the_index_that_exl2s_converter_copies_is_passed_over_with_a_note(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "exl2")
    _index(folder, {"model.norm.weight": "model-00001-of-00005.safetensors"})
    (note,) = read_exl(folder).notes
    assert "that of the unquantized model" in note


def test_safetensors_without_exl_layers_are_refused_with_their_method(tmp_path: Path) -> None:
    dims = SMALL["exl3"]
    plain = {name: value for name, value in tensors(dims, "exl3").items() if name.endswith(".weight")}
    settings = config(dims, "exl3", 4.0) | {"quantization_config": {"quant_method": "awq"}}
    with pytest.raises(BadInput, match="quant_method awq"):
        read_exl(write(tmp_path / "awq", plain, settings))
    both = tensors(dims, "exl3") | tensors(replace(dims, layers=1), "exl2")
    with pytest.raises(BadInput, match="both EXL2 and EXL3"):
        read_exl(write(tmp_path / "both", both, settings))


def test_the_generation_that_was_named_must_be_the_files_own(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "exl2")
    with pytest.raises(BadInput, match="EXL2, not EXL3"):
        read_exl(f"exl3:{folder}")
    assert read_exl(f"exl2:{folder}").format == "exl2"
