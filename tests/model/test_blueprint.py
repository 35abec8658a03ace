"""A model by its published dimensions is the published file, to the byte, where llama-quantize made it alone."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from qwenops.machine.spec import parse_spec
from qwenops.memory.closed_form import closed_form
from qwenops.memory.types import LoadSettings
from qwenops.model.blueprint import blueprint
from qwenops.model.catalog import Entry, catalog
from qwenops.model.quantizer import Recipe
from qwenops.model.requant import Requantizer
from qwenops.model.types import Header, Model
from tests.support.shapes import TEXT, VISION, text_model, vision_projector

ENTRIES = catalog()

# what stands before the tensors: the vocabulary of 152k or 248k tokens, its merges, the chat template, the table
HEADERS = {151936: (5_950_000, 5_980_000), 152064: (5_950_000, 5_980_000), 248320: (10_950_000, 11_020_000)}
OF_PLAIN_QUANTIZE = [
    (id_, quant)
    for id_, entry in ENTRIES.items()
    for quant in entry.model_bytes
    # the publisher of the 3.5 files and later has mixes of its own below Q8_0; the dimensions of the 72B are unverified
    if (quant == "Q8_0" or entry.family in ("qwen3-vl", "qwen2.5-vl")) and id_ != "qwen2.5-vl-72b"
]


def whole(id_: str) -> Model:
    model = blueprint(ENTRIES[id_])
    assert model is not None
    return model


def tensor_end(header: Header) -> int:
    last = header.tensors[-1]
    return last.offset + last.size_bytes


@pytest.mark.parametrize(("id_", "quant"), OF_PLAIN_QUANTIZE)
def test_a_published_file_is_its_header_longer(id_: str, quant: str) -> None:
    entry = ENTRIES[id_]
    model = Requantizer(whole(id_)).variant(Recipe(quant)).model
    assert entry.shape is not None
    least, most = HEADERS[entry.shape["vocabulary"]]
    assert least < entry.model_bytes[quant] - tensor_end(model.header) < most


@pytest.mark.parametrize("id_", [i for i, e in ENTRIES.items() if e.family == "qwen3-vl" and len(e.model_bytes) > 1])
def test_quants_of_one_model_have_one_header(id_: str) -> None:
    requantizer = Requantizer(whole(id_))
    headers = {
        published - tensor_end(requantizer.variant(Recipe(quant)).model.header)
        for quant, published in ENTRIES[id_].model_bytes.items()
    }
    assert len(headers) == 1


@pytest.mark.parametrize("id_", [i for i, e in ENTRIES.items() if "F16" in e.projector_bytes])
def test_a_published_projector_is_its_header_longer(id_: str) -> None:
    projector = whole(id_).projector
    assert projector is not None
    assert 10_000 < ENTRIES[id_].projector_bytes["F16"] - projector.file_bytes < 40_000


@pytest.mark.parametrize("entry", [e for e in ENTRIES.values() if e.parameters], ids=lambda e: e.id)
def test_the_parameters_are_those_of_the_card(entry: Entry) -> None:
    model = whole(entry.id)
    assert model.projector is not None
    parameters = model.parameters + sum(prod(t.shape) for t in model.projector.header.tensors)
    assert entry.parameters is not None
    # the cards round to a million; those of 3.6 and 3.8 count a draft layer that these files leave out
    short = 0.025 if entry.family in ("qwen3.6", "qwen3.8") else 0.0003
    assert -short < parameters / entry.parameters - 1 < 0.0003


@pytest.mark.parametrize(
    ("id_", "shape"),
    [
        ("qwen3-vl-8b-instruct", "qwen3-vl-8b"),
        ("qwen3-vl-30b-a3b-thinking", "qwen3-vl-30b-a3b"),
        ("qwen2.5-vl-7b", "qwen2.5-vl-7b"),
        ("qwen3.5-9b", "qwen3.5-9b"),
        ("qwen3.6-35b-a3b", "qwen3.6-35b-a3b"),
    ],
)
def test_it_needs_what_a_file_of_the_shape_needs(id_: str, shape: str) -> None:
    (device,) = parse_spec("48GiB")
    settings = LoadSettings(num_ctx=16384)
    ours = closed_form(replace(whole(id_), projector=None), settings, (device,))
    theirs = closed_form(text_model(TEXT[shape], "F16"), settings, (device,))
    assert ours.devices == theirs.devices


@pytest.mark.parametrize(
    ("id_", "shape"), [("qwen3-vl-8b-instruct", "qwen3-vl-8b"), ("qwen2.5-vl-7b", "qwen2.5-vl-7b")]
)
def test_its_encoder_needs_what_a_projector_of_the_shape_needs(id_: str, shape: str) -> None:
    (device,) = parse_spec("48GiB")
    model = whole(id_)
    ours = closed_form(model, LoadSettings(), (device,)).devices[0]
    theirs = closed_form(replace(model, projector=vision_projector(VISION[shape])), LoadSettings(), (device,)).devices[
        0
    ]
    assert ours.encoder_bytes == theirs.encoder_bytes
    # the test's projector keeps the two patch convolutions in F32
    assert 0 <= theirs.projector_bytes - ours.projector_bytes < 4 * 2**20


def test_without_dimensions_there_is_none() -> None:
    assert blueprint(replace(ENTRIES["qwen3-vl-8b-instruct"], shape=None)) is None
