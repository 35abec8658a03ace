"""The catalogue: every fact has a source, every usual spelling is understood, a wrong name gets the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.model.blueprint import blueprint
from qwenops.model.catalog import Entry, catalog, find_named, looks_like_name, matching, named
from qwenops.tables import load_table

ENTRIES = list(catalog().values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.id)
def test_an_entry_says_where_its_facts_are_from(entry: Entry) -> None:
    assert entry.sources
    assert entry.licence
    assert entry.repos
    assert all(r.sources or r.seen for r in entry.repos)


def test_dimensions_have_sources_too() -> None:
    for name, shape in load_table("qwenops.model", "catalog.toml")["shapes"].items():
        assert shape["sources"], name


def test_no_two_entries_share_a_name() -> None:
    names = [name for e in ENTRIES for name in (e.id, *e.names)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("typed", "id_", "quant"),
    [
        ("qwen3-vl:8b", "qwen3-vl-8b-instruct", None),
        ("Qwen3-VL:8B", "qwen3-vl-8b-instruct", None),
        ("qwen3vl:8b", "qwen3-vl-8b-instruct", None),
        ("qwen3-vl:8b-instruct", "qwen3-vl-8b-instruct", None),
        ("qwen3-vl:8b-thinking", "qwen3-vl-8b-thinking", None),
        ("qwen3-vl-8b-instruct", "qwen3-vl-8b-instruct", None),
        ("Qwen3-VL 8B Instruct", "qwen3-vl-8b-instruct", None),
        ("qwen3-vl:8b-instruct-q8_0", "qwen3-vl-8b-instruct", "Q8_0"),
        ("qwen3-vl:8b-q4_K_M", "qwen3-vl-8b-instruct", "Q4_K_M"),
        ("qwen3.6:27b-UD-Q4_K_XL", "qwen3.6-27b", "UD-Q4_K_XL"),
        ("qwen2.5vl:7b", "qwen2.5-vl-7b", None),
        ("qwen2.5-vl:7b", "qwen2.5-vl-7b", None),
        ("qwen3.5:9b", "qwen3.5-9b", None),
        ("qwen3.5:35b", "qwen3.5-35b-a3b", None),
        ("qwen3.6:35b-a3b", "qwen3.6-35b-a3b", None),
        ("qwen3.8:27b", "qwen3.8-27b", None),
    ],
)
def test_usual_spellings_are_understood(typed: str, id_: str, quant: str | None) -> None:
    found = find_named(typed)
    assert found is not None
    assert (found.entry.id, found.quant) == (id_, quant)


def test_a_quant_narrows_the_references() -> None:
    assert named("qwen3-vl:8b-q4_K_M").references == (
        "hf:Qwen/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M",
        "hf:unsloth/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M",
    )


@pytest.mark.parametrize("wrong", ["qwen3-vl", "qwen3-vl:7b", "qwen3-vl:8b-q4_K_M-extra", "llama3.2:1b", "q8_0", ""])
def test_what_is_no_name_is_none(wrong: str) -> None:
    assert find_named(wrong) is None


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(BadInput) as refused:
        named("qwen3-vl:7b")
    assert "qwenops plan qwen3-vl:8b" in refused.value.do


@given(st.sampled_from([(e.id, name) for e in ENTRIES for name in (e.id, *e.names)]), st.data())
def test_case_spaces_and_hyphens_make_no_difference(row: tuple[str, str], data: st.DataObject) -> None:
    id_, name = row
    typed = "".join(
        data.draw(st.sampled_from(["", "-", " ", "_", ":"]))
        if c in "-: _"
        else data.draw(st.sampled_from([c, c.upper()]))
        for c in name
    )
    found = find_named(typed)
    assert found is not None
    assert found.entry.id == id_


@pytest.mark.parametrize(
    ("typed", "is_name"),
    [("qwen3-vl:8b", True), ("model.gguf", False), ("models/x", False), (r"c:\x", False), ("x.GGUF", False)],
)
def test_a_file_is_no_name(typed: str, is_name: bool) -> None:
    assert looks_like_name(typed) is is_name


@pytest.mark.parametrize(
    ("query", "some"),
    [
        (("thinking", "8b"), ["qwen3-vl-8b-thinking"]),
        (("unsloth", "qwen3.8"), ["qwen3.8-27b"]),
        (("non-commercial",), ["qwen2.5-vl-3b"]),
        (("nothing like it",), []),
    ],
)
def test_a_query_narrows_the_list(query: tuple[str, ...], some: list[str]) -> None:
    assert [e.id for e in matching(query)] == some


def test_every_family_has_its_modelfile_facts() -> None:
    assert {e.family for e in ENTRIES} <= set(load_table("qwenops.modelfile", "families.toml"))


OWN = """
[models.mine]
title = "My fine-tune"
family = "qwen3-vl"
shape = "qwen3-vl-8b"
names = ["mine:8b"]
[[models.mine.repos]]
repo = "me/Mine-8B-GGUF"
model = "Mine-8B-{quant}.gguf"
"""


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QWENOPS_HOME", str(tmp_path))
    (tmp_path / "config").mkdir()
    return tmp_path / "config" / "catalog.toml"


def test_a_users_own_entry_is_found_by_its_name(own_file: Path) -> None:
    own_file.write_text(OWN)
    found = named("mine:8b").entry
    assert found.own
    assert found.references == ("hf:me/Mine-8B-GGUF",)
    assert found.shape is not None
    assert found.shape["layers"] == 36


def test_a_users_own_entry_replaces_one_of_the_same_id(own_file: Path) -> None:
    own_file.write_text(OWN.replace("mine", "qwen3-vl-8b-instruct"))
    assert named("qwen3-vl-8b-instruct").references == ("hf:me/Mine-8B-GGUF",)


ROW = "[models.x]\nrepos = [{repo = 'me/X-GGUF', model = 'X-{quant}.gguf'"


def test_dimensions_of_a_users_own_that_are_not_whole_are_named(own_file: Path) -> None:
    own_file.write_text(f"{ROW}}}]\n[shapes.x]\narchitecture = 'qwen3vl'\n")
    with pytest.raises(BadInput, match="the dimensions of x are not whole"):
        blueprint(catalog()["x"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[models", "is not a catalogue"),
        ("[models.x]\ntitle = 'x'", "names no repository"),
        ("[models.x]\nrepo = 'x'", "has no repo"),
        ("[models.x]\n[[models.x.repos]]\nname = 'x'", "needs repo"),
        ("[models.x]\nrepos = 'x'", "names no repository"),
        (f"{ROW}, typo = 1}}]", "a repository has no typo"),
        ("[models.x]\nrepos = [{repo = 5, model = 'x'}]", "repo of .* is not text"),
        ("[models.x]\nrepos = [{repo = 'nonsense', model = 'x'}]", "needs repo"),
        (f"{ROW}}}]\nnames = 'abc'", "names of .* is not a list of texts"),
        (f"{ROW}}}]\nmode = 'sometimes'", "mode of .* is none of instruct, thinking, both"),
        (f"{ROW}}}]\nparameters = '8B'", "parameters of .* is not a number"),
        (f"{ROW}}}]\ntitle = 5", "title of .* is not text"),
        (f"{ROW}}}]\nlicence = ['x']", "licence of .* is not text"),
        (f"{ROW}}}]\nshape = 'qwen9'", "there is no shape 'qwen9'"),
        ("models = 3", "is not a catalogue"),
        ("[models]\nx = 3", "is not a catalogue"),
    ],
)
def test_a_users_file_with_mistakes_is_refused_by_name(own_file: Path, text: str, why: str) -> None:
    own_file.write_text(text)
    with pytest.raises(BadInput, match=why) as refused:
        catalog()
    assert str(own_file) in refused.value.message
