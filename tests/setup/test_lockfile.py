"""A lock file of a stranger: what is read back as it was written, and what is refused before anything is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput
from qwenops.setup.lockfile import MOST_BYTES, Lock, LockedFile, Origin, read_lock, with_paths

ORIGIN = Origin("maker/Eyes-GGUF", "a" * 40, "Q4_K_M/Eyes-Q4_K_M.gguf")
LOCK = Lock(
    name="eyes:latest",
    task="ocr",
    files=(
        LockedFile("model", "Eyes-Q4_K_M.gguf", "1" * 64, 5_000_000_000, ORIGIN),
        LockedFile("projector", "mmproj-F16.gguf", "2" * 64, 1_000_000_000),
    ),
    modelfile='FROM Eyes-Q4_K_M.gguf\nFROM mmproj-F16.gguf\nPARAMETER num_ctx 8192\nSYSTEM """Say "yes"."""\n',
    plan={"choice": {"num_ctx": 8192}},
    made_under={"ollama": "0.32.14"},
)


def test_a_lock_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "eyes.lock.json"
    path.write_text(LOCK.as_text(), encoding="utf-8")
    assert read_lock(path) == LOCK


def test_the_files_of_this_machine_take_the_place_of_their_names() -> None:
    text = with_paths(LOCK.modelfile, {f.name: Path("/models of mine") / f.name for f in LOCK.files})
    assert text.splitlines()[0] == "FROM /models of mine/Eyes-Q4_K_M.gguf"
    assert "PARAMETER num_ctx 8192" in text


Edit = Callable[[dict[str, Any]], object]
REFUSED: dict[str, tuple[Edit, str]] = {
    "another schema": (lambda d: d.update(schema="qwenops.lock/2"), "reads qwenops.lock/1"),
    "no schema": (lambda d: d.pop("schema"), "schema"),
    "no files": (lambda d: d.update(files=[]), "files is not a list"),
    "too many files": (lambda d: d.update(files=d["files"] * 9), "files is not a list"),
    "a file twice": (lambda d: d.update(files=[*d["files"], d["files"][1]]), "same name"),
    "two models": (lambda d: d["files"][1].update(kind="model"), "one model"),
    "an unknown kind": (lambda d: d["files"][0].update(kind="script"), "kind of files"),
    "a name that leaves the folder": (lambda d: d["files"][0].update(name="../../.bashrc"), "without folders"),
    "an absolute name": (lambda d: d["files"][0].update(name="/etc/passwd"), "without folders"),
    "a name with a line break": (lambda d: d["files"][0].update(name="a\nFROM b"), "without folders"),
    "a short digest": (lambda d: d["files"][0].update(sha256="12"), "64 hex"),
    "a digest that is a path": (lambda d: d["files"][0].update(sha256="../" * 21 + "a"), "64 hex"),
    "a digest that is a number": (lambda d: d["files"][0].update(sha256=1), "not a text"),
    "a size that is a truth": (lambda d: d["files"][0].update(size_bytes=True), "no size"),
    "a size below nothing": (lambda d: d["files"][0].update(size_bytes=-1), "no size"),
    "a size beyond all disks": (lambda d: d["files"][0].update(size_bytes=1 << 60), "no size"),
    "a branch for a commit": (lambda d: d["files"][0]["origin"].update(commit="main"), "full commit"),
    "a repository elsewhere": (lambda d: d["files"][0]["origin"].update(repo="https://evil/x"), "OWNER/REPO"),
    "a repository's file that leaves it": (
        lambda d: d["files"][0]["origin"].update(file="../../x.gguf"),
        "no GGUF of a repository",
    ),
    "a repository's file that is no model": (lambda d: d["files"][0]["origin"].update(file="run.sh"), "no GGUF"),
    "a Modelfile with a path": (lambda d: d.update(modelfile=d["modelfile"] + "FROM /etc/passwd\n"), "none of its"),
    "a Modelfile with another model": (lambda d: d.update(modelfile="FROM llama3\n"), "none of its files"),
    "a Modelfile with an adapter": (lambda d: d.update(modelfile=d["modelfile"] + "ADAPTER ./a\n"), "none of its"),
    "a Modelfile without its projector": (
        lambda d: d.update(modelfile="FROM Eyes-Q4_K_M.gguf\n"),
        "each of its files once",
    ),
    "a Modelfile that is none": (lambda d: d.update(modelfile="RUN rm -rf /\n"), "unknown word"),
    "a name that Ollama does not take": (lambda d: d.update(name="../x"), "name"),
    "a plan that is a list": (lambda d: d.update(plan=[1]), "plan is not a table"),
}


@pytest.mark.parametrize(("edit", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_lock_may_not_say_is_refused_by_name(tmp_path: Path, edit: Edit, why: str) -> None:
    data = json.loads(LOCK.as_text())
    edit(data)
    path = tmp_path / "strange.lock.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BadInput, match="no lock file that can be used") as refused:
        read_lock(path)
    assert why in refused.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b"FROM x", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * (MOST_BYTES + 1)],
    ids=["nothing", "a Modelfile", "a list", "no text", "depth", "size"],
)
def test_what_is_no_lock_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        read_lock(path)
    with pytest.raises(BadInput):
        read_lock(tmp_path)
    with pytest.raises(BadInput):
        read_lock(tmp_path / "nothing")


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    file = LockedFile("model", "a.gguf", "a" * 64, 9)
    path = tmp_path / "half.lock.json"
    text = Lock("eyes", "TASK", (file,), "FROM a.gguf\n", {}, {}).as_text()
    path.write_text(text.replace("TASK", "\\ud800"))
    with pytest.raises(BadInput, match="surrogates not allowed"):
        read_lock(path)
