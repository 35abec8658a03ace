"""Files come from the hub once: resumed, compared with their digest, into the cache that every hub tool shares."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput, CheckFailed, PartMissing
from qwenops.model.download import bring, missing_bytes, pieces_of
from qwenops.model.types import Model
from tests.model.elsewhere import read_one
from tests.support.gguf_bytes import write_gguf
from tests.support.shapes import Dims, VisionDims, text_metadata, text_tensors, write_vision
from tests.support.web import Request, Web

REPO = "maker/Small-GGUF"
SMALL = Dims("qwen3vl", 2, 512, 4, 2, 128, 1024, 32000, tied=True, deepstack=1)
EYES = VisionDims("qwen3vl_merger", 256, 2, 4, 512, 512, deepstack=(1,))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two quants of some MiB with a projector, all of them whole files."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for quant in ("Q8_0", "F16"):
        path = write_gguf(folder / f"Small-{quant}.gguf", text_metadata(SMALL, quant), text_tensors(SMALL, quant))
        with path.open("r+b") as file:  # noise, so that a hole or a swap is seen
            file.seek(-1_000_000, 2)
            file.write(os.urandom(1_000_000))
    write_vision(folder / "mmproj-F16.gguf", EYES)
    return {p.name: p for p in folder.iterdir()}


@pytest.fixture
def small_hub(host: Web, cdn: Web, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Web:
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    host.repository(REPO, files, cdn, true_digests=True)
    return host


def model_of(quant: str = "Q8_0") -> Model:
    return read_one(f"hf:{REPO}:{quant}")


def sent(cdn: Web) -> int:
    return cdn.sent_bytes


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_comes_with_its_projector_and_nothing_else(small_hub: Web, cdn: Web, files: dict[str, Path]) -> None:
    model = model_of()
    brought = bring(model)
    assert brought.model.remote is None
    assert brought.model.path.name == "Small-Q8_0.gguf"
    assert brought.model.projector is not None
    assert brought.model.projector.path.name == "mmproj-F16.gguf"
    assert digest(brought.model.path) == digest(files["Small-Q8_0.gguf"])
    assert {p.name: d for p, d in brought.sha256.items()} == {
        name: digest(files[name]) for name in ("Small-Q8_0.gguf", "mmproj-F16.gguf")
    }
    hub_cache = Path(os.environ["HF_HOME"]) / "hub"
    assert not list(hub_cache.rglob("Small-F16*"))
    assert not list(hub_cache.rglob("*.incomplete*"))


def test_what_is_here_is_not_fetched_again(small_hub: Web, cdn: Web) -> None:
    model = model_of()
    first = bring(model)
    before = sent(cdn)
    again = bring(model)
    assert again.fetched_bytes == 0
    assert sent(cdn) == before
    assert again.model.path == first.model.path
    assert missing_bytes(pieces_of(model)) == 0


def test_what_another_tool_brought_is_taken(small_hub: Web, cdn: Web) -> None:
    from huggingface_hub import hf_hub_download

    for name in ("Small-Q8_0.gguf", "mmproj-F16.gguf"):
        hf_hub_download(REPO, name, endpoint=small_hub.url, cache_dir=Path(os.environ["HF_HOME"]) / "hub", token=False)
    model = model_of()
    before = sent(cdn)
    assert bring(model).fetched_bytes == 0
    assert sent(cdn) == before


def test_another_tool_takes_what_we_brought(small_hub: Web, cdn: Web) -> None:
    from huggingface_hub import hf_hub_download

    path = bring(model_of()).model.path
    before = sent(cdn)
    theirs = hf_hub_download(
        REPO, path.name, endpoint=small_hub.url, cache_dir=Path(os.environ["HF_HOME"]) / "hub", token=False
    )
    assert Path(theirs) == path
    assert sent(cdn) == before


def breaking(after_bytes: int, times: int) -> Any:
    """A server that hangs up in the middle of a file, some times."""
    left = [times]

    def bad(web: Web, handler: Any, request: Request) -> bool:
        path = request.path.partition("?")[0]
        file = web.files.get(path)
        if (
            not left[0]
            or file is None
            or "-" not in request.headers.get("Range", "-")
            or file.stat().st_size < 2_000_000
        ):
            return False
        asked = request.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").partition("-")[0])
        size = file.stat().st_size
        left[0] -= 1
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(size - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.end_headers()
        with file.open("rb") as source:
            source.seek(start)
            data = source.read(after_bytes)
        handler.wfile.write(data)
        request.sent_bytes += len(data)
        handler.wfile.flush()
        handler.connection.close()
        return True

    return bad


def test_a_broken_connection_goes_on_where_it_was(small_hub: Web, cdn: Web, files: dict[str, Path]) -> None:
    model = model_of()
    before = sent(cdn)
    cdn.bad = breaking(500_000, 3)
    brought = bring(model)
    assert digest(brought.model.path) == digest(files["Small-Q8_0.gguf"])
    wanted = sum(files[n].stat().st_size for n in ("Small-Q8_0.gguf", "mmproj-F16.gguf"))
    assert sent(cdn) - before < wanted + 300_000


def test_a_server_that_always_breaks_off_at_once_is_left(small_hub: Web, cdn: Web) -> None:
    model = model_of()
    cdn.bad = breaking(0, 1000)
    with pytest.raises(PartMissing):
        bring(model)


def test_a_server_without_ranges_begins_again(small_hub: Web, cdn: Web, files: dict[str, Path]) -> None:
    model = model_of()
    cdn.bad = breaking(700_000, 1)
    cdn.ranges = False
    assert digest(bring(model).model.path) == digest(files["Small-Q8_0.gguf"])


def test_a_file_that_is_not_what_was_listed_is_refused_and_not_kept(
    small_hub: Web, cdn: Web, files: dict[str, Path], tmp_path: Path
) -> None:
    model = model_of()
    other = tmp_path / "other.gguf"
    data = bytearray(files["Small-Q8_0.gguf"].read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    for path, file in cdn.files.items():
        if file == files["Small-Q8_0.gguf"]:
            cdn.files[path] = other
    with pytest.raises(CheckFailed, match="came with the digest"):
        bring(model)
    cache = Path(os.environ["HF_HOME"]) / "hub"
    assert not [p for p in cache.rglob("*") if p.is_file() and p.stat().st_size == other.stat().st_size]


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, PartMissing, "wants a login"),
        (403, PartMissing, "wants a login"),
        (404, BadInput, "is not there"),
        (429, PartMissing, "too many requests"),
        (500, PartMissing, "status 500"),
    ],
)
def test_a_refusal_says_what_it_is(small_hub: Web, status: int, error: type[Exception], said: str) -> None:
    model = model_of()
    for path in list(small_hub.pages):
        if "/resolve/" in path:
            small_hub.pages[path] = (status, {}, b"no")
    with pytest.raises(error, match=said):
        bring(model)


def test_a_gated_repository_wants_the_token_and_gets_it(
    small_hub: Web, cdn: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert bring(model_of()).fetched_bytes > 0
    assert not [r for r in cdn.requests if "Authorization" in r.headers]


def test_offline_only_what_is_here_is_used(small_hub: Web, cdn: Web, host: Web) -> None:
    model = model_of()
    with pytest.raises(PartMissing, match="the network is not to be used"):
        bring(model, offline=True)
    bring(model)
    asked = len(host.requests) + len(cdn.requests)
    assert bring(model, offline=True).fetched_bytes == 0
    assert len(host.requests) + len(cdn.requests) == asked


def test_a_model_on_another_host_is_refused_with_the_command_that_brings_it(host: Web, files: dict[str, Path]) -> None:
    model = read_one(host.file("/Small-Q8_0.gguf", files["Small-Q8_0.gguf"]))
    with pytest.raises(BadInput, match="is not on the hub") as refused:
        bring(model)
    assert refused.value.do[0].startswith("curl")


CHILD = """
import json, sys
from qwenops.model.download import bring
from qwenops.model.reference import read_references
(model,) = read_references([sys.argv[1]])
print(json.dumps({"fetched": bring(model).fetched_bytes}))
"""


def run_child(reference: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, reference], stdout=subprocess.PIPE, text=True)


def in_small_steps(web: Web, handler: Any, request: Request) -> bool:
    """Whole files, or their rest, come at some 50 MiB a second, so that a test can end them in the middle."""
    file = web.files.get(request.path.partition("?")[0])
    asked = request.headers.get("Range", "bytes=0-")
    if file is None or not asked.endswith("-"):
        return False
    start, size = int(asked.removeprefix("bytes=").rstrip("-")), file.stat().st_size
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(size - start))
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    handler.end_headers()
    with file.open("rb") as source:
        source.seek(start)
        while chunk := source.read(2**18):
            handler.wfile.write(chunk)
            request.sent_bytes += len(chunk)
            time.sleep(0.005)
    return True


def test_killed_at_any_point_and_run_again_it_fetches_only_the_rest(
    small_hub: Web, cdn: Web, files: dict[str, Path]
) -> None:
    cdn.bad = in_small_steps
    cache = Path(os.environ["HF_HOME"]) / "hub"
    size = sum(files[n].stat().st_size for n in ("Small-F16.gguf", "mmproj-F16.gguf"))
    for share in (0.05, 0.3, 0.7):
        child = run_child(f"hf:{REPO}:F16")
        while child.poll() is None and used(cache) < share * size:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
    there = used(cache)
    assert 0.6 * size < there < size
    out, _ = run_child(f"hf:{REPO}:F16").communicate(timeout=60)
    assert json.loads(out)["fetched"] == size - there
    assert used(cache) == size


def used(cache: Path) -> int:
    """Bytes of whole files and of those that have begun to come."""
    return sum(p.stat().st_size for p in cache.rglob("blobs/*") if p.is_file())


def test_two_at_once_fetch_it_once(small_hub: Web, cdn: Web, files: dict[str, Path]) -> None:
    children = [run_child(f"hf:{REPO}:F16") for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    size = sum(files[n].stat().st_size for n in ("Small-F16.gguf", "mmproj-F16.gguf"))
    assert sent(cdn) < 1.3 * size


def test_ctrl_c_ends_a_fetch_that_a_server_keeps_waiting_and_leaves_the_part(small_hub: Web, cdn: Web) -> None:
    cdn.bad = stalling
    child = run_child(f"hf:{REPO}:F16")
    cache = Path(os.environ["HF_HOME"]) / "hub"
    while child.poll() is None and not used(cache):
        time.sleep(0.01)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=15) != 0
    assert time.monotonic() - began < 5
    assert list(cache.rglob("*.qwenops.incomplete"))


def stalling(web: Web, handler: Any, request: Request) -> bool:
    """The beginning of a file, and then nothing for as long as anybody waits."""
    file = web.files.get(request.path.partition("?")[0])
    if file is None or request.headers.get("Range", "bytes=0-") != "bytes=0-":
        return False
    handler.send_response(200)
    handler.send_header("Content-Length", str(file.stat().st_size))
    handler.end_headers()
    handler.wfile.write(file.read_bytes()[:2_000_000])
    handler.wfile.flush()
    handler.connection.recv(1)
    return True


def test_ctrl_c_ends_the_wait_for_another_process(small_hub: Web, cdn: Web) -> None:
    from filelock import FileLock

    model = model_of("F16")
    (piece, *_) = pieces_of(model)
    folder = Path(os.environ["HF_HOME"]) / "hub" / "models--maker--Small-GGUF" / "blobs"
    folder.mkdir(parents=True)
    with FileLock(folder / f"{piece.sha256}.qwenops.incomplete.lock"):
        child = run_child(f"hf:{REPO}:F16")
        while child.poll() is None and not list(folder.glob("[0-9a-f]" * 64)):
            time.sleep(0.01)  # the projector has come; the model waits
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=5) != 0


def test_a_file_that_is_shorter_than_listed_is_given_up(
    small_hub: Web, cdn: Web, files: dict[str, Path], tmp_path: Path
) -> None:
    model = model_of()
    short = tmp_path / "short.gguf"
    short.write_bytes(files["Small-Q8_0.gguf"].read_bytes()[:-1000])

    def serve_short(web: Web, handler: Any, request: Request) -> bool:
        if web.files.get(request.path.partition("?")[0]) != files["Small-Q8_0.gguf"]:
            return False
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= short.stat().st_size:
            handler.answer(request, 416, {}, b"")
        else:
            handler.answer(request, 200, {}, short.read_bytes())
        return True

    cdn.bad = serve_short
    with pytest.raises(PartMissing, match="no more than"):
        bring(model)


def test_a_listing_without_sizes_is_enough(small_hub: Web, cdn: Web, files: dict[str, Path]) -> None:
    page = f"/api/models/{REPO}"
    listing = json.loads(small_hub.pages[page][2])
    for sibling in listing["siblings"]:
        del sibling["size"], sibling["lfs"]["size"]
    small_hub.json(page, listing)
    brought = bring(model_of())
    assert digest(brought.model.path) == digest(files["Small-Q8_0.gguf"])
    assert missing_bytes(pieces_of(model_of())) == 0


def test_a_projector_of_any_name_comes_too(small_hub: Web, cdn: Web, files: dict[str, Path]) -> None:
    shelf = files["mmproj-F16.gguf"].parent
    eyes = files["mmproj-F16.gguf"].rename(shelf / "vision-tower.gguf")
    names = {"Small-Q8_0.gguf": files["Small-Q8_0.gguf"], "vision-tower.gguf": eyes}
    small_hub.repository(REPO, names, cdn, true_digests=True)
    model = read_one(f"hf:{REPO}:Small-Q8_0.gguf", mmproj=f"hf:{REPO}:vision-tower.gguf")
    projector = bring(model).model.projector
    assert projector is not None
    assert projector.path.name == "vision-tower.gguf"


def test_a_projector_that_is_here_stays_where_it_is(small_hub: Web, cdn: Web, files: dict[str, Path]) -> None:
    eyes = files["mmproj-F16.gguf"]
    brought = bring(read_one(f"hf:{REPO}:Q8_0", mmproj=eyes))
    assert brought.model.projector is not None
    assert brought.model.projector.path == eyes
    assert not list((Path(os.environ["HF_HOME"]) / "hub").rglob("mmproj*"))


def test_the_environments_word_for_offline_holds_for_downloads_too(
    small_hub: Web, cdn: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    bring(model)
    asked = len(small_hub.requests) + len(cdn.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert bring(model).fetched_bytes == 0
    assert missing_bytes(pieces_of(model)) == 0
    assert len(small_hub.requests) + len(cdn.requests) == asked


def test_without_symbolic_links_there_is_one_copy_all_the_same(small_hub: Web, cdn: Web) -> None:
    """HF_HUB_DISABLE_SYMLINKS stands for Windows without developer mode."""
    env = {**os.environ, "HF_HUB_DISABLE_SYMLINKS": "1"}
    command = [sys.executable, "-c", CHILD, f"hf:{REPO}:Q8_0"]
    fetched = [
        json.loads(subprocess.run(command, env=env, capture_output=True, check=True).stdout)["fetched"]
        for _ in range(2)
    ]
    assert fetched[0] > 0
    assert fetched[1] == 0
    named = [p for p in (Path(os.environ["HF_HOME"]) / "hub").rglob("snapshots/*/*") if p.is_file()]
    assert len(named) == 2
    for path in named:
        assert path.is_symlink() or path.stat().st_nlink == 2


def test_shards_come_all(host: Web, cdn: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = text_tensors(SMALL, "Q8_0")
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        keys = {"split.no": number, "split.count": 2, "split.tensors.count": len(rows)}
        more = text_metadata(SMALL, "Q8_0") if number == 0 else {}
        write_gguf(folder / f"Small-Q8_0-0000{number + 1}-of-00002.gguf", {**more, **keys}, part)
    host.repository("maker/shards", {f"Q8_0/{p.name}": p for p in folder.iterdir()}, cdn, true_digests=True)
    brought = bring(read_one("hf:maker/shards:Q8_0"))
    assert [p.name[-19:] for p in brought.model.shards] == ["-00001-of-00002.gguf"[-19:], "-00002-of-00002.gguf"[-19:]]
    assert all(p.exists() for p in brought.model.shards)


def pushed(small_hub: Web, cdn: Web, files: dict[str, Path], tmp_path: Path) -> None:
    """Another file under the same name, as a push makes it; the earlier commit stays."""
    newer = tmp_path / "newer.gguf"
    newer.write_bytes(files["Small-Q8_0.gguf"].read_bytes()[:-64] + os.urandom(64))
    small_hub.repository(REPO, {**files, "Small-Q8_0.gguf": newer}, cdn, true_digests=True, commit="1" * 40)


def test_what_was_listed_is_brought_whatever_is_pushed_meanwhile(
    small_hub: Web, cdn: Web, files: dict[str, Path], tmp_path: Path
) -> None:
    model = model_of()
    pieces = pieces_of(model)
    pushed(small_hub, cdn, files, tmp_path)
    brought = bring(model, pieces=pieces)
    assert digest(brought.model.path) == digest(files["Small-Q8_0.gguf"])
    assert brought.model.path.parent.name == "0" * 40
    refs = brought.model.path.parents[2] / "refs" / "main"
    assert refs.read_text() == "0" * 40
    newer = bring(model_of())
    assert newer.model.path.parent.name == refs.read_text() == "1" * 40
    assert digest(newer.model.path) != digest(files["Small-Q8_0.gguf"])


def test_offline_takes_a_file_that_an_earlier_commit_brought(
    small_hub: Web, cdn: Web, files: dict[str, Path], tmp_path: Path
) -> None:
    before = bring(model_of("F16")).model.path
    pushed(small_hub, cdn, files, tmp_path)
    model_of("F16")  # lists the newer commit, which has the same file
    asked = len(small_hub.requests)
    assert bring(read_one(f"hf:{REPO}:F16", offline=True), offline=True).model.path == before
    assert len(small_hub.requests) == asked
