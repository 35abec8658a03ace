"""Between a plan and its registration: what would stop it later stops it before a byte is downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput, CheckFailed, PartMissing
from qwenops.ollama.register import register
from qwenops.plan.types import Plan
from qwenops.runtime.types import Runtime
from qwenops.setup.answers import make_plan
from qwenops.setup.bring import as_downloaded, bring_chosen, foresee, pieces_away
from qwenops.setup.modelfiles import modelfile_text
from tests.ollama.support import minimal_gguf, small_disk, spec_for, store_alone
from tests.support.gguf_bytes import write_gguf
from tests.support.shapes import Dims, VisionDims, text_metadata, text_tensors, write_vision
from tests.support.web import Web, serving

SMALL = Dims("qwen3vl", 2, 512, 4, 2, 128, 1024, 32000, tied=True, deepstack=1)
EYES = VisionDims("qwen3vl_merger", 256, 2, 4, 512, 512, deepstack=(1,))
REFERENCE = "hf:maker/small"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A hub with one small model and its projector."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("QWENOPS_HOME", str(tmp_path / "home"))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    write_gguf(shelf / "Small-Q8_0.gguf", text_metadata(SMALL, "Q8_0"), text_tensors(SMALL, "Q8_0"))
    write_vision(shelf / "mmproj-F16.gguf", EYES)
    with serving() as web, serving("127.0.0.2") as cdn:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        web.repository("maker/small", {p.name: p for p in shelf.iterdir()}, cdn, true_digests=True)
        yield web


@pytest.fixture
def store(tmp_path: Path) -> Runtime:
    return store_alone(tmp_path / "store")


def planned() -> Plan:
    made, _, _ = make_plan((REFERENCE,), None, gpu="24GiB", task="chat")
    assert made.chosen is not None
    return made


def brought(made: Plan) -> tuple[Plan, dict[str, Any] | None]:
    pieces = pieces_away(made, offline=False)
    return bring_chosen(made, pieces, name="eyes", offline=False, say=lambda _: None, progress=lambda *_: None)


def foreseen(made: Plan, runtime: Runtime, **rest: Any) -> tuple[str, ...]:
    pieces = pieces_away(made, offline=False)
    return foresee(made, pieces, "eyes", runtime, **{"via": "auto", "replacing": False, **rest})


def test_a_name_that_is_somebody_elses_is_refused_before_the_download(hub: Web, store: Runtime, tmp_path: Path) -> None:
    made = planned()
    assert foreseen(made, store) == ()
    register(spec_for(minimal_gguf(tmp_path / "other.gguf")), "eyes", store)
    ours = foreseen(made, store)
    assert ours == ()
    (manifest,) = [p for p in (tmp_path / "store" / "manifests").rglob("latest") if p.is_file()]
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(BadInput, match=r"eyes.* exists in Ollama"):
        foreseen(made, store)
    assert foreseen(made, store, replacing=True) == ()


def test_a_store_on_another_disk_means_a_copy_and_that_is_said(hub: Web, tmp_path: Path) -> None:
    made = planned()
    with small_disk(tmp_path / "disk", 100 * 2**20) as disk:
        (note,) = foreseen(made, store_alone(disk))
        assert "a copy of" in note
    with small_disk(tmp_path / "tiny", 2**20) as disk, pytest.raises(PartMissing, match=r"where .* are free"):
        foreseen(made, store_alone(disk))


def test_a_modelfile_that_is_only_shown_names_the_files_and_no_headers_of_ours(hub: Web) -> None:
    text = modelfile_text(as_downloaded(planned()))
    assert [line.rpartition("/")[2] for line in text.splitlines() if line.startswith("FROM")] == [
        "Small-Q8_0.gguf",
        "mmproj-F16.gguf",
    ]
    assert "cache" not in text


def test_what_was_here_before_is_compared_with_the_hubs_digest(hub: Web, tmp_path: Path) -> None:
    made, entry = brought(planned())
    assert entry is not None
    assert entry["fetched"]
    assert made.chosen is not None
    blob = made.chosen.choice.model.path.resolve()
    again, entry = brought(planned())
    assert again.chosen is not None
    assert entry is not None
    assert not entry["fetched"]
    with blob.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(CheckFailed, match="is not what the hub has"):
        brought(planned())
