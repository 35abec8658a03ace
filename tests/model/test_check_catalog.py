"""The script that holds the catalogue against the hub finds what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.model.catalog import Entry, Repo, catalog
from scripts.check_catalog import differences_of
from tests.support.web import Web

REPO = "maker/Eyes-8B-GGUF"  # the one that the local hub serves
TRUE = Repo(REPO, "Eyes-8B-{quant}.gguf", "mmproj-{type}.gguf", quants=("Q4_K_M", "Q8_0"))


def entry(repo: Repo, **sizes: int) -> Entry:
    known = catalog()["qwen3-vl-8b-instruct"]
    return replace(known, repos=(repo,), model_bytes=sizes, projector_bytes={}, ollama=None)


def test_what_is_true_differs_in_nothing(hub: Web, shelf: Path) -> None:
    true = entry(TRUE, Q8_0=(shelf / "Eyes-8B-Q8_0.gguf").stat().st_size)
    assert list(differences_of(true)) == []


@pytest.mark.parametrize(
    ("repo", "said"),
    [
        (replace(TRUE, model="Ears-8B-{quant}.gguf"), "no file like Ears-8B-{quant}.gguf"),
        (replace(TRUE, quants=("Q4_K_M", "IQ4_XS")), "has no IQ4_XS"),
        (replace(TRUE, projector="vision-{type}.gguf"), "no projector like vision-{type}.gguf"),
        (replace(TRUE, repo="maker/gone"), "maker/gone"),
    ],
)
def test_what_is_not_as_the_hub_has_it_is_said(hub: Web, repo: Repo, said: str) -> None:
    (line,) = differences_of(entry(repo))
    assert said in line


def test_a_size_that_changed_is_said(hub: Web) -> None:
    (line,) = differences_of(entry(TRUE, Q8_0=17))
    assert "no file of 17 bytes" in line


def test_a_tag_that_the_library_has_no_more_is_said(
    hub: Web, cdn: Web, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWENOPS_REGISTRY", hub.url)
    hub.registry("library/eyes", "8b", {"model": shelf / "Eyes-8B-Q8_0.gguf"}, cdn)
    assert list(differences_of(replace(entry(TRUE), ollama="eyes:8b"))) == []
    (line,) = differences_of(replace(entry(TRUE), ollama="eyes:9b"))
    assert line.startswith("Ollama's library: ollama:eyes:9b is not there")
