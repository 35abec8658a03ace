"""Quants are made as llama-quantize makes them, and what cannot be made is refused before anything is written."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwenops.model.gguf_header import read_header
from qwenops.model.quant_mixes import MIXES
from qwenops.model.read import read_model
from scripts.parts.layout import Layout
from tests.support.cli import qwenops
from tests.support.quantize import really, write_imatrix
from tests.support.shapes import TEXT, write_text
from tests.support.tiny import TinyModel

pytestmark = pytest.mark.library


@pytest.fixture
def source(tmp_path: Path, tiny_qwen35: TinyModel) -> Path:
    """A small F16 model in a folder of its own."""
    path = tmp_path / "tiny-F16.gguf"
    os.link(tiny_qwen35.model, path) if _same_disk(tiny_qwen35.model, tmp_path) else path.write_bytes(
        tiny_qwen35.model.read_bytes()
    )
    return path


def _same_disk(file: Path, folder: Path) -> bool:
    return file.stat().st_dev == folder.stat().st_dev


def _others(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("tiny-F16.gguf", "qwenops-home"))


@pytest.mark.parametrize(
    ("quant", "options", "theirs"),
    [
        ("Q4_K_M", (), ()),
        ("IQ4_XS", (), ()),
        ("Q8_0", ("--pure",), ("--pure",)),
        ("Q5_K_M", ("--output-type", "q8_0"), ("--output-tensor-type", "q8_0")),
        ("Q3_K_M", ("--embedding-type", "Q4_0"), ("--token-embedding-type", "q4_0")),
        ("Q4_0", ("--leave-output",), ("--leave-output-tensor",)),
        ("Q4_0", ("--tensor-type", "ffn_down=q6_k"), ("--tensor-type", "ffn_down=q6_k")),
    ],
)
def test_a_file_is_the_one_that_llama_quantize_makes(
    tmp_path: Path,
    source: Path,
    llama_quantize: Path,
    quant: str,
    options: tuple[str, ...],
    theirs: tuple[str, ...],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    said = qwenops("quants", "make", source, quant, *options, "-o", out, "--dry-run", "--json").data["files"][0]
    assert list(out.iterdir()) == []
    made = qwenops("quants", "make", source, quant, *options, "-o", out, "--json")
    assert made.code == 0, made.err
    file = made.data["files"][0]
    other = tmp_path / "other.gguf"
    assert really(llama_quantize, source, other, quant, *theirs)
    assert Path(file["file"]).read_bytes() == other.read_bytes()
    assert file["file_bytes"] == file["predicted_bytes"] == said["predicted_bytes"] == other.stat().st_size
    assert file["types"] == said["types"]
    assert Path(file["file"]).name == f"tiny-{quant}.gguf"


@pytest.mark.parametrize("form", ["gguf", "plain"])
def test_an_importance_matrix_of_either_form_is_used_and_named_in_the_file(
    tmp_path: Path, source: Path, form: str
) -> None:
    matrix = tmp_path / "m.imatrix"
    header = read_header(source)
    if form == "gguf":
        entries = write_imatrix(matrix, header)
    else:
        entries = _write_plain(matrix, source)
    made = qwenops("quants", "make", source, "IQ2_XXS", "q2_k_s", "--imatrix", matrix, "--json")
    assert made.code == 0, made.err
    for file in made.data["files"]:
        assert file["file_bytes"] == file["predicted_bytes"]
        keys = read_header(file["file"]).metadata
        assert keys["quantize.imatrix.file"] == "m.imatrix"
        assert keys["quantize.imatrix.dataset"] == "calibration.txt"
        assert keys["quantize.imatrix.entries_count"] == entries
        assert keys["quantize.imatrix.chunks_count"] == 7
    assert not [note for note in made.data["notes"] if "otherwise" in note]


def _write_plain(path: Path, source: Path, cut: int = 0) -> int:
    entries = [t for t in read_header(source).tensors if len(t.shape) > 1]
    out = struct.pack("<i", len(entries))
    for tensor in entries:
        count = tensor.shape[0] * (tensor.shape[2] if len(tensor.shape) > 2 else 1)
        name = tensor.name.encode()
        out += struct.pack("<i", len(name)) + name + struct.pack("<ii", 3, count) + struct.pack("<f", 6) * count
    name = b"calibration.txt"
    out += struct.pack("<ii", 7, len(name)) + name
    path.write_bytes(out[: len(out) - cut])
    return len(entries)


def test_what_cannot_be_made_is_refused_before_anything_is_written(
    tmp_path: Path, source: Path, tiny_qwen35: TinyModel, smollm: Path
) -> None:
    there = tmp_path / "tiny-Q6_K.gguf"
    there.write_bytes(b"mine")
    noise = tmp_path / "noise.imatrix"
    noise.write_bytes(b"\x07" * 400)
    cut = tmp_path / "cut.imatrix"
    _write_plain(cut, source, cut=3000)
    foreign = tmp_path / "foreign.imatrix"
    _write_plain(foreign, smollm)
    (tmp_path / "ghosts").mkdir()
    ghost = write_text(tmp_path / "ghosts" / "m-Q4_K_M.gguf", TEXT["qwen3-0.6b"], "Q4_K_M")
    before = _others(tmp_path)
    for asked, said in [
        ((source, "Q4_K_M", "IQ1_S", "IQ2_M"), "IQ1_S, IQ2_M need an importance matrix"),
        ((source, "Q4_Q"), "is no type that llama-quantize makes"),
        ((source, "Q4_0", "Q6_K"), "is there already"),
        ((source, "F16"), "is the source itself"),
        ((source, "Q4_0", "-o", tmp_path / "none"), "no such folder"),
        ((source, "IQ2_XXS", "--imatrix", noise), "no importance matrix"),
        ((source, "IQ2_XXS", "--imatrix", cut), "cut off"),
        ((source, "IQ2_XXS", "--imatrix", foreign), "foreign.imatrix has"),
        ((source, "IQ2_XXS", "--imatrix", source), "no importance matrix"),
        ((source, "IQ2_XXS", "--imatrix", tmp_path / "none"), "cannot be read"),
        ((source, "Q4_0", "--tensor-type", "ffn_down"), "NAME=TYPE"),
        ((source, "Q4_0", "--tensor-type", "ffn_down=Q9"), "'Q9' is no tensor type"),
        ((source, "Q4_0", "--output-type", "Q9"), "'Q9' is no tensor type"),
        ((tiny_qwen35.projector, "Q8_0"), "is a projector"),
        ((ghost, "Q4_0"), "quantized already (Q4_K_M): a quant of it loses twice"),
        (("hf:maker/m-GGUF:F16", "Q4_0"), "is not here"),
        ((tmp_path / "none.gguf", "Q4_0"), "none.gguf"),
    ]:
        told = qwenops("quants", "make", *asked)
        assert told.code == 2, told
        assert said in told.err
        assert "Traceback" not in told.err
    assert _others(tmp_path) == before
    assert there.read_bytes() == b"mine"
    assert qwenops("quants", "make", source, "Q6_K", "--replace").code == 0
    assert read_model(there, None).quant == "Q6_K"


def test_shards_are_sent_to_the_tool_that_joins_them(tmp_path: Path, source: Path, parts: Layout) -> None:
    split = parts.reference("llama-gguf-split")
    if not split.exists():
        pytest.skip(f"no {split.name} in {parts.root} (make parts)")
    done = subprocess.run([split, "--split-max-tensors", "20", source, tmp_path / "m"], capture_output=True, text=True)
    shards = sorted(tmp_path.glob("m-0*.gguf"))
    assert len(shards) > 1, done.stderr
    told = qwenops("quants", "make", shards[0], "Q8_0")
    assert (told.code, f"one of {len(shards)} shards" in told.err) == (2, True), told.err
    assert "llama-gguf-split --merge" in told.err


def test_a_quant_of_a_quant_is_made_where_that_is_allowed(tmp_path: Path, smollm: Path) -> None:
    made = qwenops("quants", "make", smollm, "Q4_0", "--allow-requantize", "-o", tmp_path, "--json")
    assert made.code == 0, made.err
    assert any("lost twice" in note for note in made.data["notes"])
    file = made.data["files"][0]
    assert file["file_bytes"] == file["predicted_bytes"]
    shown = qwenops("quants", "make", smollm, "Q5_0", "--allow-requantize", "--dry-run")
    assert "would take" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_a_file_that_the_library_cannot_read_leaves_nothing(tmp_path: Path, source: Path) -> None:
    odd = tmp_path / "odd-F16.gguf"
    odd.write_bytes(source.read_bytes().replace(b"general.architecture", b"general.architekture", 1))
    told = qwenops("quants", "make", odd, "Q8_0")
    assert told.code != 0
    assert _others(tmp_path) == ["odd-F16.gguf"]


def test_stopped_or_killed_there_is_no_half_file_and_the_next_run_sweeps(tmp_path: Path, smollm: Path) -> None:
    command = [sys.executable, "-m", "qwenops", "quants", "make", str(smollm), "IQ4_NL"]
    command += ["--allow-requantize", "--threads", "1", "-o", str(tmp_path)]
    for number in (signal.SIGINT, signal.SIGKILL):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while not (halves := list(tmp_path.glob(".*.part-*"))):
            assert time.monotonic() < end
            time.sleep(0.01)
        child.send_signal(number)
        child.wait(timeout=60)
        assert not list(tmp_path.glob("*.gguf"))
        if number is signal.SIGINT:
            assert child.returncode == 130
            assert not list(tmp_path.glob(".*.part-*"))
    done = qwenops("quants", "make", smollm, "IQ4_NL", "--allow-requantize", "-o", tmp_path, "--json")
    assert done.code == 0, done.err
    assert not list(tmp_path.glob(".*.part-*")), halves
    assert [p.name for p in tmp_path.glob("*.gguf")] == [Path(done.data["files"][0]["file"]).name]


def test_quants_without_a_part_is_the_listing(source: Path) -> None:
    old = qwenops("quants", source, "--gpu", "8GiB", "--json")
    new = qwenops("quants", "list", source, "--gpu", "8GiB", "--json")
    assert old.code == new.code == 0
    assert old.data == new.data
    assert {row["quant"] for row in new.data["quants"]} <= set(MIXES)
    assert "Did you mean 'make'?" in qwenops("quants", "mke", source).err
