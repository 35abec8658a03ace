"""When a plan is stale: what changed since it was made, in words; and what is kept of how a model was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwenops import history
from qwenops.machine.types import Device, Host, Machine
from qwenops.runtime.types import Runtime
from qwenops.setup.recipe import Recipe, as_given, forget, keep, known_recipes, stale
from qwenops.units import GIB, MIB

CARD = Device("CUDA0", "cuda", "NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB, driver="580.1")
OTHER = replace(CARD, description="NVIDIA GeForce RTX 4090", total_bytes=24 * GIB)
HOST = Host(32 * GIB, 30 * GIB, 8, 16, "linux", "x86_64")
THERE = Runtime("local", "http://127.0.0.1:11434", version="0.32.14", llama_server_build="b10434")
MADE = Recipe(
    "eyes:latest",
    THERE.url,
    ("qwen3-vl:8b",),
    "ocr",
    ollama="0.32.14",
    llama_server_build="b10434",
    devices=({"description": CARD.description, "total_bytes": CARD.total_bytes, "driver": "580.1"},),
)

CHANGES = {
    "nothing": ((CARD,), THERE, ()),
    "less is free": ((replace(CARD, free_bytes=GIB),), THERE, ()),
    "a little less in all": ((replace(CARD, total_bytes=12 * GIB - 20 * MIB),), THERE, ()),
    "another Ollama": ((CARD,), replace(THERE, version="0.33.0"), ("made under Ollama 0.32.14, now 0.33.0",)),
    "another llama-server": (
        (CARD,),
        replace(THERE, llama_server_build="b11000"),
        ("made under llama-server b10434, now b11000",),
    ),
    "a server that is silent now": ((CARD,), replace(THERE, version=None), ()),
    "another driver": ((replace(CARD, driver="590.2"),), THERE, ("made under driver 580.1, now 590.2",)),
    "another card": (
        (OTHER,),
        THERE,
        ("made for NVIDIA GeForce RTX 3060, now there is NVIDIA GeForce RTX 4090",),
    ),
    "a second card": (
        (CARD, OTHER),
        THERE,
        ("made for NVIDIA GeForce RTX 3060, now there is NVIDIA GeForce RTX 3060, NVIDIA GeForce RTX 4090",),
    ),
    "no card": ((), THERE, ("made for NVIDIA GeForce RTX 3060, now there is no device",)),
    "less memory on the card": (
        (replace(CARD, total_bytes=6 * GIB),),
        THERE,
        ("NVIDIA GeForce RTX 3060 had 12.00 GiB in all when it was made, now 6.00 GiB",),
    ),
    "everything": (
        (OTHER,),
        replace(THERE, version="0.33.0"),
        (
            "made under Ollama 0.32.14, now 0.33.0",
            "made for NVIDIA GeForce RTX 3060, now there is NVIDIA GeForce RTX 4090",
        ),
    ),
}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENOPS_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(("devices", "runtime", "reasons"), CHANGES.values(), ids=CHANGES.keys())
def test_a_plan_is_stale_where_what_it_rests_on_changed(
    devices: tuple[Device, ...], runtime: Runtime, reasons: tuple[str, ...]
) -> None:
    assert stale(MADE, Machine(devices, HOST), runtime) == reasons


def test_cards_are_told_apart_by_what_they_are_and_not_by_their_order() -> None:
    both = tuple({"description": d.description, "total_bytes": d.total_bytes, "driver": "580.1"} for d in (CARD, OTHER))
    assert stale(replace(MADE, devices=both), Machine((OTHER, CARD), HOST), THERE) == ()


def test_a_recipe_comes_back_as_it_was_kept_and_a_newer_one_takes_its_place() -> None:
    keep(MADE)
    keep(replace(MADE, task="chat"))
    keep(replace(MADE, name="elsewhere", place="/another/store"))
    (found,) = known_recipes(THERE).values()
    assert found.made is not None
    assert replace(found, made=None) == replace(MADE, task="chat")
    forget(THERE, MADE.name)
    assert known_recipes(THERE) == {}


def test_what_another_version_kept_is_read_as_far_as_it_is_known() -> None:
    with history.open() as kept:
        kept.record_recipe("old", THERE.url, {"asked": ["a.gguf"], "task": "ocr", "unheard_of": 1})
        kept.record_recipe("odd", THERE.url, {"asked": ["a.gguf"]})
    found = known_recipes(THERE)
    assert (found["old"].asked, found["old"].task) == (("a.gguf",), "ocr")
    assert found["odd"].asked == ()


def test_a_path_comes_back_as_a_path_and_a_name_as_text() -> None:
    assert as_given("/models/a.gguf") == Path("/models/a.gguf")
    assert as_given("hf:owner/repo:Q4_K_M") == "hf:owner/repo:Q4_K_M"
    assert as_given("qwen3-vl:8b") == "qwen3-vl:8b"
