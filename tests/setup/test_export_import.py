"""A model goes to another machine by its lock file: the same digests, the same settings, and nothing fetched twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.setup.lockfile import Lock, LockedFile, Origin
from tests.support.cli import qwenops
from tests.support.dims import TEXT
from tests.support.server import OllamaServer
from tests.support.shapes import write_text
from tests.support.tiny import TinyModel
from tests.support.web import Web, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]

REPO = "maker/tiny-GGUF"


@pytest.fixture
def cdn() -> Iterator[Web]:
    with serving("127.0.0.2") as web:
        yield web


@pytest.fixture
def hub(cdn: Web, tiny_qwen3vl: TinyModel) -> Iterator[Web]:
    with serving() as web:
        files = {p.name: p for p in (tiny_qwen3vl.model, tiny_qwen3vl.projector)}
        web.repository(REPO, files, cdn, true_digests=True)
        yield web


Machine = Callable[[str], Mapping[str, str]]


@pytest.fixture
def machine(hub: Web, tmp_path: Path, start_server: Callable[..., OllamaServer]) -> Machine:
    """A machine of its own by name: home, hub cache, store and server; nothing of another's."""

    def made(name: str) -> Mapping[str, str]:
        server = start_server(gpu=False)
        return {
            "OLLAMA_HOST": server.url,
            "OLLAMA_MODELS": str(server.store),
            "QWENOPS_HOME": str(tmp_path / name / "home"),
            "HF_HOME": str(tmp_path / name / "hf"),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "",
        }

    return made


def exported(env: Mapping[str, str], tmp_path: Path) -> Path:
    up = ("up", f"hf:{REPO}", "--for", "ocr", "--ctx", 4096, "--images", 1, "--name", "eyes", "--no-load")
    done = qwenops(*up, env=env)
    assert done.code == 0, done.err
    lock = tmp_path / "eyes.lock.json"
    done = qwenops("export", "eyes", "-o", lock, env=env)
    assert done.code == 0, done.err
    return lock


def digests(env: Mapping[str, str], name: str) -> Any:
    shown = qwenops("show", name, "--json", env=env).data
    return [f["digest"] for f in shown["files"]], shown["parameters"], shown["template"], shown["system"]


def test_a_second_machine_gets_the_same_model_and_fetches_each_file_once(
    machine: Machine, hub: Web, cdn: Web, tiny_qwen3vl: TinyModel, tmp_path: Path
) -> None:
    first = machine("first")
    lock = exported(first, tmp_path)
    said = json.loads(lock.read_text())
    assert {f["origin"]["commit"] for f in said["files"]} == {"0" * 40}
    assert str(tmp_path) not in lock.read_text(), "no path of the first machine"

    # what is pushed later is not what the lock names
    newer = tmp_path / "newer.gguf"
    newer.write_bytes(tiny_qwen3vl.model.read_bytes()[:-64] + b"x" * 64)
    files = {tiny_qwen3vl.model.name: newer, tiny_qwen3vl.projector.name: tiny_qwen3vl.projector}
    hub.repository(REPO, files, cdn, true_digests=True, commit="1" * 40)

    second = machine("second")
    look = qwenops("import", lock, "--dry-run", env=second)
    assert look.code == 0, look.err
    assert "fits this machine" in look.out
    assert "Nothing was changed" in look.out
    done = qwenops("import", lock, "--json", env=second)
    assert done.code == 0, done.err
    assert done.data["verified"]["ok"]
    assert done.data["registered"]["bytes_copied"] == 0
    assert digests(second, "eyes") == digests(first, "eyes")
    listed = qwenops("list", "--json", env=second).data["models"]
    assert [(m["name"], m["plan"]["task"]) for m in listed] == [("eyes:latest", "ocr")]

    asked = len(hub.requests), cdn.sent_bytes
    again = qwenops("import", lock, "--name", "twin", "--no-load", "--json", env=second)
    assert again.code == 0, again.err
    assert (len(hub.requests), cdn.sent_bytes) == asked, "what is here by its digest is used in place"


def test_with_the_files_in_a_folder_nothing_is_asked_over_a_network(
    machine: Machine, hub: Web, cdn: Web, tiny_qwen3vl: TinyModel, tmp_path: Path
) -> None:
    lock = exported(machine("first"), tmp_path)
    second = machine("second")
    alone = qwenops("import", lock, "--offline", "--no-load", env=second)
    assert alone.code == 3
    asked = len(hub.requests), cdn.sent_bytes
    folder = tiny_qwen3vl.model.parent
    done = qwenops("import", lock, "--offline", "--from", folder, "--no-load", "--json", env=second)
    assert done.code == 0, done.err
    assert (len(hub.requests), cdn.sent_bytes) == asked


def test_a_lock_that_names_another_digest_fetches_and_registers_nothing(
    machine: Machine, hub: Web, cdn: Web, tmp_path: Path
) -> None:
    lock = exported(machine("first"), tmp_path)
    said = json.loads(lock.read_text())
    said["files"][0]["sha256"] = "f" * 64
    lock.write_text(json.dumps(said))
    second = machine("second")
    sent = cdn.sent_bytes
    answer = qwenops("import", lock, env=second)
    assert answer.code == 1
    assert "is another file on the hub" in answer.err
    assert cdn.sent_bytes == sent
    assert qwenops("list", "--json", env=second).data["models"] == []


def test_what_does_not_fit_is_said_before_anything_is_fetched(
    machine: Machine, hub: Web, cdn: Web, tmp_path: Path
) -> None:
    giant = write_text(tmp_path / "Giant-F16.gguf", replace(TEXT["qwen3-vl-32b"], layers=400), "F16")
    size = giant.stat().st_size
    hub.repository("maker/giant-GGUF", {giant.name: giant}, cdn)
    (listed,) = json.loads(hub.pages["/api/models/maker/giant-GGUF"][2])["siblings"]
    origin = Origin("maker/giant-GGUF", "0" * 40, giant.name)
    file = LockedFile("model", giant.name, listed["lfs"]["sha256"], size, origin)
    lock = tmp_path / "giant.lock.json"
    lock.write_text(Lock("giant", "ocr", (file,), f"FROM {giant.name}\nPARAMETER num_ctx 8192\n", {}, {}).as_text())
    env = machine("small")
    answer = qwenops("import", lock, "--no-load", env=env)
    assert answer.code == 1, answer.err
    assert "does not fit" in answer.out
    assert "qwenops up hf:maker/giant-GGUF --for ocr" in answer.out
    assert cdn.sent_bytes < 64 * 2**20 < size, "its header alone was read"
    assert not (Path(env["HF_HOME"]) / "hub").exists()


def test_a_model_of_that_name_that_is_not_ours_is_kept_and_nothing_is_fetched(
    machine: Machine, cdn: Web, tiny_qwen35: TinyModel, tmp_path: Path
) -> None:
    lock = exported(machine("first"), tmp_path)
    second = machine("second")
    theirs = tmp_path / "Modelfile"
    theirs.write_text(f"FROM {tiny_qwen35.model}\n")
    assert qwenops("register", "eyes", "-f", theirs, "--no-check", env=second).code == 0
    shutil.rmtree(Path(second["QWENOPS_HOME"]) / "data")  # as if another tool had made it
    sent = cdn.sent_bytes
    for more in ((), ("--dry-run",)):
        refused = qwenops("import", lock, *more, env=second)
        assert refused.code != 0
        assert "--replace" in refused.err
    assert cdn.sent_bytes == sent
    done = qwenops("import", lock, "--replace", "--no-load", env=second)
    assert done.code == 0, done.err


def test_wrong_use_is_named(machine: Machine, tmp_path: Path) -> None:
    env = machine("first")
    assert qwenops("export", "nobody", env=env).code == 2
    assert qwenops("import", tmp_path / "nothing.json", env=env).code == 2
