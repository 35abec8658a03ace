"""gc as a whole: what it finds of everything that qwenops makes, what it only offers, and what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from qwenops import history, paths
from qwenops.memory import probe_cache
from qwenops.model import header_cache
from qwenops.ollama import ledger
from qwenops.ollama.digest import digest_file
from qwenops.ollama.register import register
from qwenops.ollama.remove import remove_model
from qwenops.ollama.types import Spec
from qwenops.runtime.client import Client
from qwenops.runtime.store import list_manifests
from qwenops.setup.gc_models import note_download, note_modelfile, stores_in_reach
from tests.ollama.support import as_user, is_root, minimal_gguf, runtime_of, second_user, spec_for, store_alone
from tests.support.cli import Answer, qwenops
from tests.support.server import OllamaServer, start_ollama
from tests.support.tiny import TinyModel
from tests.support.web import Request, Web, serving

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tmp", "hf"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path))


def gc(*args: str, **env: str) -> Answer:
    return qwenops("gc", "--json", *args, env=env)


def kinds(answer: Answer) -> list[str]:
    return [thing["kind"] for thing in answer.data["things"]]


def orphan(tmp_path: Path, *, source: Path | None = None, store: str = "store", name: str = "model") -> Path:
    """A link in a store whose manifest was deleted by hand; returns the blob."""
    folder = tmp_path / store
    folder.mkdir(exist_ok=True)
    file = source or minimal_gguf(tmp_path / f"{name}.gguf")
    done = register(spec_for(file), name, store_alone(folder))
    assert done.manifest
    done.manifest.unlink()
    return folder / "blobs" / f"sha256-{hashlib.sha256(file.read_bytes()).hexdigest()}"


def downloaded(tmp_path: Path, repo: str = "owner/model-GGUF") -> tuple[Path, Path]:
    """A file in the hub's cache as huggingface_hub lays it out; returns the blob and its name in the snapshot."""
    data = minimal_gguf(tmp_path / "made.gguf").read_bytes()
    folder = tmp_path / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(data)
    name = folder / "snapshots" / "c0ffee" / "model.gguf"
    name.parent.mkdir(parents=True)
    name.symlink_to(os.path.relpath(blob, name.parent))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c0ffee")
    return blob, name


def test_a_dry_run_shows_each_thing_with_its_reason_and_changes_nothing(tmp_path: Path) -> None:
    blob = orphan(tmp_path)
    answer = gc("--dry-run")
    assert answer.code == 0, answer.err
    assert answer.data["schema"] == "qwenops.gc/1"
    (thing,) = answer.data["things"]
    assert (thing["kind"], thing["path"], thing["frees_bytes"], thing["taken"]) == ("link", str(blob), 0, False)
    assert thing["why"].endswith(str(tmp_path / "model.gguf"))
    assert blob.exists()
    shown = qwenops("gc", "--dry-run")
    assert "frees nothing" in shown.out.replace("\n ", "")
    assert "Would take away 1 thing: 0 B come free" in shown.out


def test_nothing_goes_without_yes_where_nobody_can_be_asked(tmp_path: Path) -> None:
    blob = orphan(tmp_path)
    for args in ((), ("--json",)):
        answer = qwenops("gc", *args)
        assert (answer.code, answer.out) == (2, "")
        assert "add --yes" in answer.err
    assert blob.exists()
    assert gc("--yes").data["things"][0]["taken"]
    assert not blob.exists()
    assert (tmp_path / "model.gguf").exists()
    assert gc("--yes").data["things"] == []


@pytest.mark.parametrize(("typed", "code", "there"), [(b"n\n", 130, True), (b"y\n", 0, False)])
def test_on_a_terminal_it_shows_and_asks(tmp_path: Path, typed: bytes, code: int, there: bool) -> None:
    blob = orphan(tmp_path)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "qwenops", "gc"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OLLAMA_HOST": "127.0.0.1:9"},
    )
    os.write(ours, typed)
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code, out
    assert out.index(b"Would take away") < out.index(b"Take this away? [y/N]")
    assert blob.exists() == there


def test_a_store_on_another_machine_is_explained(tmp_path: Path) -> None:
    blob = orphan(tmp_path)
    answer = gc("--yes", OLLAMA_HOST="http://192.0.2.1:11434", NO_PROXY="*", no_proxy="*")
    assert answer.code == 3
    assert "on another machine" in answer.data["stores"][0]["why"]
    assert blob.exists()


def test_a_store_with_a_broken_manifest_is_left_alone_and_the_rest_goes(tmp_path: Path) -> None:
    blob = orphan(tmp_path)
    other = orphan(tmp_path, store="second", name="other")
    (tmp_path / "store" / "manifests" / "broken").write_text("{")
    answer = gc("--yes")
    assert answer.code == 1
    looked_at = {Path(store["path"]).name: store["looked_at"] for store in answer.data["stores"]}
    assert (looked_at["store"], looked_at["second"]) == (False, True)
    assert blob.exists()
    assert not other.exists()
    assert "Left alone:" in qwenops("gc", "--dry-run").out


@pytest.mark.skipif(not is_root(), reason="needs root and a second user")
def test_a_store_that_this_user_cannot_reach_is_explained() -> None:
    with second_user() as user:
        hidden = user.folder / "hidden"
        (hidden / "store").mkdir(parents=True)
        hidden.chmod(0o700)

        def look() -> str:
            os.environ["QWENOPS_HOME"] = str(user.folder / "home")
            runtime = store_alone(hidden / "store")
            (seen,) = stores_in_reach(runtime)
            return f"{seen.exit_code} {seen.why}"

        assert as_user(user, look) == f"3 {hidden / 'store'} cannot be reached: Permission denied"


def test_half_downloads_go_but_for_one_that_goes_on(tmp_path: Path) -> None:
    blob, _ = downloaded(tmp_path)
    stopped, going, foreign = (blob.with_name(f"{c * 64}{end}") for c, end in zip("abc", _ENDS, strict=True))
    for part in (stopped, going, foreign):
        part.write_bytes(b"x" * 5000)
    with FileLock(f"{going}.lock"):
        answer = gc("--yes")
    (thing,) = answer.data["things"]
    assert (thing["kind"], thing["path"], thing["taken"]) == ("part", str(stopped), True)
    assert thing["frees_bytes"] >= 5000
    assert "owner/model-GGUF" in thing["why"]
    assert [p.exists() for p in (stopped, going, foreign, blob)] == [False, True, True, True]


_ENDS = (".qwenops.incomplete", ".qwenops.incomplete", ".incomplete")


def test_downloads_of_removed_models_are_offered_and_go_only_when_asked_for(tmp_path: Path) -> None:
    blob, name = downloaded(tmp_path)
    note_download("hf:owner/model-GGUF:model.gguf", name, blob.name, "eyes", fetched=True)
    runtime = store_alone(tmp_path / "store")
    (tmp_path / "store").mkdir()
    assert gc("--dry-run", "--downloads").data["things"] == [], "its model was not made yet"
    register(spec_for(name), "eyes", runtime)
    assert gc("--dry-run", "--downloads").data["things"] == [], "its model is there"
    remove_model(runtime, "eyes")

    plain = gc("--dry-run")
    assert plain.data["things"] == []
    assert [offered["path"] for offered in plain.data["offered"]] == [str(blob)]
    assert plain.data["hub"]["repos"][0]["do"] == "hf cache rm model/owner/model-GGUF"
    answer = gc("--yes", "--downloads")
    assert kinds(answer) == ["download"]
    assert answer.data["frees_bytes"] >= answer.data["things"][0]["bytes"]
    assert not blob.parent.parent.exists(), "nothing of the repository is left"
    assert gc("--dry-run", "--downloads").data["things"] == []


def test_a_download_that_another_model_uses_or_another_tool_brought_is_never_offered(tmp_path: Path) -> None:
    blob, name = downloaded(tmp_path)
    note_download("hf:owner/model-GGUF:model.gguf", name, blob.name, "eyes", fetched=True)
    (tmp_path / "store").mkdir()
    runtime = store_alone(tmp_path / "store")
    register(spec_for(name), "eyes", runtime)
    register(spec_for(name), "other", runtime)
    remove_model(runtime, "eyes")
    assert gc("--dry-run", "--downloads").data["things"] == []
    remove_model(runtime, "other")
    assert kinds(gc("--dry-run", "--downloads")) == ["download"]
    foreign = blob.with_name("f" * 64)
    foreign.write_bytes(b"x")
    note_download("hf:owner/model-GGUF:other.gguf", foreign, foreign.name, "eyes", fetched=False)
    assert kinds(gc("--dry-run", "--downloads")) == ["download"]


def test_a_link_and_its_download_free_the_blocks_together(tmp_path: Path) -> None:
    blob, name = downloaded(tmp_path)
    note_download("hf:owner/model-GGUF:model.gguf", name, blob.name, "model", fetched=True)
    link = orphan(tmp_path, source=name)
    ledger.forget_model(tmp_path / "store", "model:latest")
    alone = gc("--dry-run").data
    assert [thing["frees_bytes"] for thing in alone["things"]] == [0]
    assert [row["repo"] for row in alone["hub"]["repos"]] == ["owner/model-GGUF"]
    both = gc("--dry-run", "--downloads").data
    assert [thing["frees_bytes"] > 0 for thing in both["things"]] == [False, True]
    done = gc("--yes", "--downloads").data
    assert done["frees_bytes"] == both["frees_bytes"]
    assert not link.exists()
    assert not blob.exists()


@pytest.mark.skipif(shutil.which("hf", path=str(Path(sys.executable).parent)) is None, reason="needs hf")
def test_the_command_that_is_named_is_one_that_hf_takes(tmp_path: Path) -> None:
    blob, name = downloaded(tmp_path)
    note_download("hf:owner/model-GGUF:model.gguf", name, blob.name, "model", fetched=True)
    orphan(tmp_path, source=name)
    command = gc("--dry-run").data["hub"]["repos"][0]["do"].split()
    hf = Path(sys.executable).parent / command[0]
    done = subprocess.run([hf, *command[1:], "--yes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not blob.exists()


def test_modelfiles_of_removed_models_go_and_others_stay(tmp_path: Path) -> None:
    folder = paths.data_dir() / "modelfiles"
    folder.mkdir(parents=True)
    (tmp_path / "store").mkdir()
    runtime = store_alone(tmp_path / "store")
    for name in ("gone", "by-hand", "stays", "never"):
        (folder / f"{name}.Modelfile").write_text("FROM x")
        if name != "never":
            file = minimal_gguf(tmp_path / f"{name}.gguf", seed=len(name))
            done = register(spec_for(file), name, runtime)
            with history.open() as kept:
                kept.record_recipe(f"{name}:latest", str(tmp_path / "store"), {"task": "ocr"})
            for _ in range(2):
                note_modelfile(folder / f"{name}.Modelfile", f"key of {name}", {"plan": "for ocr"})
            if name == "by-hand" and done.manifest:
                done.manifest.unlink()
    remove_model(runtime, "gone")

    answer = gc("--yes")
    went = [thing for thing in answer.data["things"] if thing["kind"] == "modelfile"]
    assert sorted(Path(thing["path"]).stem for thing in went) == ["by-hand", "gone"]
    assert all("its Modelfile and 2 plans in the history" in thing["why"] for thing in went)
    assert sorted(path.stem for path in folder.iterdir()) == ["never", "stays"]
    with history.open() as kept:
        assert [row.name for row in kept.made("file")] == ["stays.Modelfile"]
        assert [row.model_key for row in kept.plans()] == ["key of stays"] * 2
        assert [row.name for row in kept.recipes()] == ["stays:latest"]


def test_ghosts_old_headers_and_answers_of_a_gone_runtime_go(tmp_path: Path) -> None:
    ghost = tmp_path / "tmp" / "qwenops-ghost-999999999-x"
    ghost.mkdir()
    with (ghost / "model.gguf").open("wb") as file:
        file.write(b"header")
        file.truncate(10 * 2**30)
    ours = tmp_path / "tmp" / f"qwenops-ghost-{os.getpid()}-x"
    ours.mkdir()
    for url, days in (("https://old", 31), ("https://new", 2)):
        header_cache.keep_listing(url, ["a"])
        (listing,) = [f for f in header_cache.folder().glob("*/listing.json") if time.time() - f.stat().st_mtime < DAY]
        os.utime(listing, (time.time() - days * DAY,) * 2)
    server = tmp_path / "llama-server"
    probe_cache.folder().mkdir(parents=True)
    server.write_text("build 1")
    status = server.stat()
    stamp = {"path": str(server), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    for key, asked in (("true", stamp), ("replaced", {**stamp, "size": 1}), ("older", None)):
        (probe_cache.folder() / f"{key}.json").write_text(json.dumps({"server": asked}))

    answer = gc("--yes")
    assert sorted(kinds(answer)) == ["ghost", "header", "probe"]
    sparse = next(thing for thing in answer.data["things"] if thing["kind"] == "ghost")
    assert sparse["bytes"] > 10 * 2**30 - 1 > 2**20 > sparse["frees_bytes"] > 0
    assert [ghost.exists(), ours.exists()] == [False, True]
    assert len(list(header_cache.folder().iterdir())) == 1
    assert sorted(path.stem for path in probe_cache.folder().iterdir()) == ["older", "true"]


@pytest.mark.server
def test_after_gc_the_real_server_loads_a_model_that_shares_a_blob(tmp_path: Path, smollm: Path) -> None:
    server = start_ollama(tmp_path / "server", gpu=False)
    try:
        runtime = runtime_of(server)
        file = tmp_path / "smollm.gguf"
        os.link(smollm, file) if smollm.stat().st_dev == tmp_path.stat().st_dev else shutil.copy(smollm, file)
        for name in ("first", "second", "third"):
            register(spec_for(file, parameters={"num_ctx": 256}, system=name), name, runtime)
        alone = minimal_gguf(tmp_path / "alone.gguf")
        done = register(spec_for(alone), "alone", runtime)
        assert done.manifest
        done.manifest.unlink()
        remove_model(runtime, "first")
        env = {"OLLAMA_HOST": server.host, "OLLAMA_MODELS": str(server.store)}

        answer = gc("--yes", **env)
        assert answer.code == 0, answer.err
        assert [(t["kind"], t["taken"]) for t in answer.data["things"]] == [("link", True)]
        assert sorted(tag.name for tag in Client(server.url).tags()) == ["second:latest", "third:latest"]
        for name in ("second", "third"):
            assert Client(server.url).generate(name, "Hi", options={"num_predict": 2}).tokens > 0
        remove_model(runtime, "second")
        assert gc("--yes", **env).data["things"] == []
        assert Client(server.url).generate("third", "Hi", options={"num_predict": 2}).tokens > 0
    finally:
        server.stop()


@pytest.mark.server
def test_while_the_real_server_pulls_nothing_goes_and_afterwards_it_has_what_it_found(
    start_server: Callable[..., OllamaServer], tiny_qwen3vl: TinyModel, tmp_path: Path
) -> None:
    """A pull begins by seeing that the store has one of its blobs: ours, that no model names until the pull ends."""
    server = start_server(gpu=False)
    env = {"OLLAMA_HOST": server.host, "OLLAMA_MODELS": str(server.store)}
    runtime = runtime_of(server)
    done = register(Spec(shards=(tiny_qwen3vl.model,), projectors=(tiny_qwen3vl.projector,)), "eyes", runtime)
    assert done.manifest
    done.manifest.unlink()
    blobs = {p: digest_file(p).sha256 for p in (tiny_qwen3vl.model, tiny_qwen3vl.projector)}
    model, projector = (server.store / "blobs" / f"sha256-{digest}" for digest in blobs.values())
    model.unlink()  # this one is to be fetched
    before = projector.stat().st_ino
    config = tmp_path / "config.json"
    config.write_text('{"model_format": "gguf", "model_family": "qwen3vl", "file_type": "F16"}')
    asked, go_on = threading.Event(), threading.Event()

    def hold(_: Web, __: object, request: Request) -> bool:
        if request.path.endswith(blobs[tiny_qwen3vl.model]) and "Range" in request.headers:
            asked.set()
            go_on.wait(60)
        return False

    with serving("127.0.0.2") as cdn, serving() as web:
        cdn.bad = hold
        layers = {"model": tiny_qwen3vl.model, "projector": tiny_qwen3vl.projector}
        web.registry("library/eyes", "1b", layers, cdn, config=config)
        name = f"{web.host}:{web.port}/library/eyes:1b"
        pull = threading.Thread(target=Client(server.url).pull, args=(name,), kwargs={"insecure": True})
        pull.start()
        try:
            assert asked.wait(60), server.log()[-2000:]
            answer = gc("--yes", **env)
            assert (answer.code, answer.data["things"]) == (1, [])
            assert "on its way into" in answer.data["stores"][0]["why"]
        finally:
            go_on.set()
            pull.join(120)
    assert gc("--yes", **env).data["things"] == []
    assert projector.stat().st_ino == before, "the pull took what it found"
    assert {m.name.short for m in list_manifests(runtime.store).manifests} == {name}  # type: ignore[arg-type]
