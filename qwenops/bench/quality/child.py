"""The side that runs in a child: read the text as the reference, or as a variant beside what was kept of it.

Each finished chunk is on the disk before the next batch is decoded, so a run that is killed loses one batch.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwenops import llama_library
from qwenops.bench.quality.base import Base, most_bytes
from qwenops.bench.quality.divergence import Kept, NotFinite, Scores, compare, joined_scores, keep
from qwenops.bench.quality.journal import Journal
from qwenops.bench.quality.reader import Reader, Stretch, system_of
from qwenops.bench.quality.windows import first_scored, scored
from qwenops.errors import BadInput, NotAllowed, PartMissing
from qwenops.units import human

_ORPHAN_S = 600.0
Emit = Callable[..., None]
Part = tuple[Kept | None, Scores]


def about_library(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The library's version and what it was built for; nothing is loaded."""
    lib = llama_library.load()
    gpu = bool(lib.llama_supports_gpu_offload())
    return {"name": "llama-cpp-python", "version": lib.version, "gpu": gpu, "system": system_of(lib)}


def reference(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Read the text with the reference and keep what it says of every scored token."""
    folder = Path(request["folder"])
    with _alone(folder):
        return _reference(Base(folder), request, emit)


def _reference(base: Base, request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    reader = Reader(llama_library.load(), request)
    try:
        tokens, chunks = _text(reader, request)
        missing = base.missing(chunks)
        if missing:
            _make_room(base, reader.vocabulary, request["ctx"], missing, emit)
            base.describe(request["about"], tokens)
        with ThreadPoolExecutor(request["threads"]) as pool:

            def score(stretch: Stretch) -> Part:
                return keep(stretch.logits, stretch.targets, pool, request["threads"])

            def finish(chunk: int, parts: list[Part], seconds: float) -> None:
                kept = Kept.joined([k for k, _ in parts if k is not None])
                base.add(chunk, kept, joined_scores([s for _, s in parts]), seconds)

            _read(reader, tokens, missing, score, finish, chunks, emit)
    except OSError as error:
        raise _no_room(error, base.folder) from error
    finally:
        reader.close()
    return {"chunks": chunks, "here": len(missing), "tokens": len(tokens)}


def variant(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Read the text with a variant and note how far it is from the reference."""
    folder = Path(request["folder"])
    with _alone(folder):
        return _variant(Base(folder), Journal(Path(request["journal"])), request, emit)


def _variant(base: Base, journal: Journal, request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    reader = Reader(llama_library.load(), request)
    try:
        tokens, chunks = _text(reader, request)
        if not np.array_equal(tokens, base.tokens()):
            raise BadInput(f"{request['file']} cuts the text into other tokens than the reference does")
        done = journal.entries()
        missing = [chunk for chunk in range(chunks) if chunk not in done]
        first = first_scored(request["ctx"])
        with ThreadPoolExecutor(request["threads"]) as pool:

            def score(stretch: Stretch) -> Part:
                low = stretch.position - first
                kept = base.kept(stretch.chunk).part(low, low + len(stretch.targets))
                return None, compare(stretch.logits, stretch.targets, kept, pool, request["threads"])

            def finish(chunk: int, parts: list[Part], seconds: float) -> None:
                journal.append(chunk, joined_scores([s for _, s in parts]).as_data(), seconds=seconds)

            _read(reader, tokens, missing, score, finish, chunks, emit)
    except OSError as error:
        raise _no_room(error, base.folder) from error
    finally:
        reader.close()
    return {"chunks": chunks, "here": len(missing), "tokens": len(tokens)}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for the child of a run that was killed: it ends with its batch, as nobody hears it any more."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".child-lock", timeout=_ORPHAN_S):
            yield
    except Timeout:
        raise PartMissing(f"another process reads into {folder}", do="wait for it, then try again") from None


def _read(
    reader: Reader,
    tokens: NDArray[np.int32],
    missing: list[int],
    score: Callable[[Stretch], Part],
    finish: Callable[[int, list[Part], float], None],
    chunks: int,
    emit: Emit,
) -> None:
    """Read the missing chunks, score what comes, and finish each chunk once its window is read in full."""
    parts: dict[int, list[Part]] = {}
    kept_before = chunks - len(missing)
    done, seconds = 0, 0.0
    emit("begin", chunks=chunks, kept=kept_before)
    calls = reader.read(tokens, missing) if missing else iter(())
    started = time.perf_counter()
    for call, stretches in calls:
        for stretch in stretches:
            try:
                parts.setdefault(stretch.chunk, []).append(score(stretch))
            except NotFinite as error:
                raise BadInput(
                    f"{reader.request['file']}: {error} (chunk {stretch.chunk + 1})",
                    do="the file is damaged, or its quant is broken on this device: try --gpu-layers 0",
                ) from None
        if not call.ends:
            continue
        took = time.perf_counter() - started
        for chunk in call.chunks:
            finish(chunk, parts.pop(chunk), took / len(call.chunks))
        done += len(call.chunks)
        # writing is part of the work: it counts for the chunks that come next, and for the last ones here
        now = time.perf_counter()
        seconds, started = seconds + now - started, now
        emit("chunks", done=kept_before + done, chunks=chunks, left_s=seconds / done * (len(missing) - done))


def _text(reader: Reader, request: Mapping[str, Any]) -> tuple[NDArray[np.int32], int]:
    """The text's tokens, and how many windows of it are read."""
    ctx = request["ctx"]
    tokens = reader.cut(request["text"])
    if len(tokens) < 2 * ctx:
        raise BadInput(
            f"{request['text_name']} has {len(tokens)} tokens, and two windows of {ctx} are the least",
            do=(f"--ctx {max(16, len(tokens) // 2)}", "or a longer --text"),
        )
    return tokens, min(request["chunks"], len(tokens) // ctx)


def _make_room(base: Base, vocabulary: int, ctx: int, missing: list[int], emit: Emit) -> None:
    """Say what will be kept at most, and refuse where the disk does not hold it."""
    need = most_bytes(vocabulary, scored(ctx)) * len(missing)
    base.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(base.folder).free
    emit("cost", most_bytes=need, free_bytes=free, folder=str(base.folder))
    if need > free:
        raise PartMissing(
            f"what is kept of the reference may take {human(need)}, and {human(free)} are free at {base.folder}",
            do=("fewer --chunks, or a smaller --ctx", "QWENOPS_HOME=/another/disk"),
        )


def _no_room(error: OSError, folder: Path) -> PartMissing:
    return NotAllowed(
        f"{error.strerror or error}: {error.filename or folder}",
        do="free some room there and run the same command again: it goes on where it was",
    )
