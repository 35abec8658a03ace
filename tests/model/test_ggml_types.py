"""Our type table against gguf's own."""

from __future__ import annotations

import gguf
import pytest

from qwenops.model.ggml_types import FILE_TYPES, GGML_TYPES, REMOVED_TYPES, row_bytes, type_name

NEWER_THAN_GGUF = {42: "Q2_0"}
NEWER_FILE_TYPES = {41: "Q2_0"}


@pytest.mark.parametrize("kind", list(gguf.GGMLQuantizationType), ids=lambda k: k.name)
def test_every_type_of_gguf_has_its_name_and_sizes(kind: gguf.GGMLQuantizationType) -> None:
    ours = GGML_TYPES[int(kind)]
    assert (ours.name, (ours.block, ours.bytes)) == (kind.name, gguf.GGML_QUANT_SIZES[kind])


def test_we_know_no_type_that_gguf_does_not_but_the_newest() -> None:
    known = {int(k) for k in gguf.GGMLQuantizationType}
    assert {n: t.name for n, t in GGML_TYPES.items() if n not in known}.items() <= NEWER_THAN_GGUF.items()


@pytest.mark.parametrize(
    "kind", [f for f in gguf.LlamaFileType if f is not gguf.LlamaFileType.GUESSED], ids=lambda f: f.name
)
def test_every_file_type_of_gguf_has_its_name(kind: gguf.LlamaFileType) -> None:
    assert FILE_TYPES[int(kind)] == kind.name.removeprefix("ALL_").removeprefix("MOSTLY_")


def test_we_know_no_file_type_that_gguf_does_not_but_the_newest() -> None:
    known = {int(f) for f in gguf.LlamaFileType}
    assert {n: t for n, t in FILE_TYPES.items() if n not in known}.items() <= NEWER_FILE_TYPES.items()


def test_a_removed_type_is_no_living_one() -> None:
    assert not REMOVED_TYPES.keys() & GGML_TYPES.keys()


@pytest.mark.parametrize(("number", "name"), [(12, "Q4_K"), (31, "Q4_0_4_4"), (999, "type 999")])
def test_a_type_is_named(number: int, name: str) -> None:
    assert type_name(number) == name


@pytest.mark.parametrize(("number", "elements", "n_bytes"), [(0, 5, 20), (8, 64, 68), (12, 512, 288), (39, 32, 17)])
def test_a_row_takes_whole_blocks(number: int, elements: int, n_bytes: int) -> None:
    assert row_bytes(number, elements) == n_bytes
