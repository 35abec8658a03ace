"""One reference and its variants, each read in a child of its own; what is finished is found again by its key."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwenops.bench.quality.types import Cell, QualitySettings, Text
from qwenops.errors import BadInput, ChildDied, PartMissing
from qwenops.memory.types import KVType
from qwenops.model.quantizer import NUMBER
from qwenops.model.types import Model
from qwenops.ollama.digest import digest_file
from qwenops.ollama.types import Progress, silent
from qwenops.paths import cache_dir
from qwenops.worker import run

LIMIT_S = 7 * 86400.0
"""A large model on a slow machine takes days, and a run that is stopped goes on later."""

_FORMAT = 1
OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Reference:
    """A reference whose distributions are kept: where, of what text, and by which build of the library."""

    model: Model
    sha256: str
    text: Text
    settings: QualitySettings
    engine: Mapping[str, Any]
    folder: Path
    threads: int


def kept_folder() -> Path:
    """Where all references are kept: safe to delete at any time."""
    return cache_dir() / "quality"


def about_engine() -> dict[str, Any]:
    """The library in use. Raises PartMissing without it."""
    return run("qwenops.bench.quality.child:about_library", {}, limit_s=120)


def reference_of(model: Model, text: Text, settings: QualitySettings, *, progress: Progress = silent) -> Reference:
    """The reference's place, by its weights, the text, the window and the build; nothing is read yet but its digest."""
    from qwenops.bench.speed import physical_cores

    engine = about_engine()
    digest = model_digest(model, progress)
    key = _key(
        format=_FORMAT,
        model=digest,
        text=text.sha256,
        ctx=settings.ctx,
        build=[engine["version"], engine["system"]],
        flash_attn=settings.flash_attn,
        gpu_layers=settings.gpu_layers,
    )
    threads = settings.threads or physical_cores()
    return Reference(model, digest, text, settings, engine, kept_folder() / key, threads)


def model_digest(model: Model, progress: Progress = silent) -> str:
    """The SHA-256 of the model's file, or of those of its shards; remembered while the file stays as it is."""
    found = [digest_file(path, progress=progress).sha256 for path in model.shards]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


@contextlib.contextmanager
def held(reference: Reference) -> Iterator[None]:
    """Nobody else reads this reference meanwhile. Raises PartMissing where somebody does."""
    from filelock import FileLock, Timeout

    reference.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(reference.folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise PartMissing(
            "another qwenops reads this text with this reference", do="wait for it, then run the same command again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a run, or the child of one that was killed, is at work in a kept reference."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0), FileLock(folder / ".child-lock", timeout=0):
            return False
    except (Timeout, OSError):
        return True


def read_reference(reference: Reference, *, on_event: OnEvent | None = None) -> Cell:
    """Read what is missing of the reference. Raises PartMissing where the disk does not hold it."""
    about = {
        "model": reference.model.name,
        "file": str(reference.model.path),
        "sha256": reference.sha256,
        "text": reference.text.name,
        "ctx": reference.settings.ctx,
        "engine": dict(reference.engine),
    }
    answer = _call("reference", reference, reference.model, "f16", {"about": about}, on_event)
    return _reference_cell(reference, answer["chunks"], answer["here"])


def read_variant(
    reference: Reference, model: Model, kv_type: KVType, *, on_event: OnEvent | None = None, progress: Progress = silent
) -> Cell:
    """Read a variant beside the reference.

    Raises BadInput where it is no variant of it or cannot be loaded, ChildDied where the library aborts.
    """
    check_same_kind(reference.model, model)
    journal = _journal_path(reference, model, kv_type, progress)
    answer = _call("variant", reference, model, kv_type, {"journal": str(journal)}, on_event)
    cell = variant_so_far(reference, model, kv_type, answer["chunks"], answer["here"])
    assert cell is not None
    return cell


def variant_so_far(reference: Reference, model: Model, kv_type: KVType, chunks: int, here: int) -> Cell | None:
    """What is finished of a variant, be it all or not; None where nothing is."""
    from qwenops.bench.quality.divergence import Scores
    from qwenops.bench.quality.figures import figures, samples
    from qwenops.bench.quality.journal import Journal

    entries = Journal(_journal_path(reference, model, kv_type, silent)).entries()
    done = [entries[chunk] for chunk in range(chunks) if chunk in entries]
    if not done:
        return None
    parts = [Scores(**entry["arrays"]) for entry in done]
    seconds = sum(float(entry["seconds"]) for entry in done)
    tokens = len(done) * reference.settings.ctx
    return Cell(figures(parts), len(done), here, tokens, seconds, samples(parts), reference.engine)


def check_same_kind(reference: Model, model: Model) -> None:
    """Raise BadInput, saying what differs, where a model is no variant of the reference."""
    if model.architecture != reference.architecture:
        raise BadInput(
            f"it is another model: architecture {model.architecture}, the reference's {reference.architecture}"
        )
    theirs, ours = (_vocabulary(m) for m in (reference, model))
    if theirs and ours and theirs != ours:
        raise BadInput(f"it is another model: {ours} tokens in its vocabulary, {theirs} in the reference's")


def _reference_cell(reference: Reference, chunks: int, here: int) -> Cell:
    from qwenops.bench.quality.base import Base
    from qwenops.bench.quality.figures import figures, samples

    base = Base(reference.folder)
    parts = [base.scores(chunk) for chunk in range(chunks)]
    seconds = sum(base.seconds(chunk) for chunk in range(chunks))
    tokens = chunks * reference.settings.ctx
    return Cell(figures(parts), chunks, here, tokens, seconds, samples(parts), reference.engine)


def _call(
    step: str, reference: Reference, model: Model, kv_type: KVType, more: Mapping[str, Any], on_event: OnEvent | None
) -> dict[str, Any]:
    request = {
        **asdict(reference.settings),
        "threads": reference.threads,
        "file": str(model.path),
        "text": reference.text.content,
        "text_name": reference.text.name,
        "folder": str(reference.folder),
        "kv_type": kv_type,
        "kv_type_number": NUMBER[kv_type.upper()],
        **more,
    }
    try:
        return run(f"qwenops.bench.quality.child:{step}", request, limit_s=LIMIT_S, on_event=on_event)
    except ChildDied as error:
        if "SIGKILL" in error.message and not error.do:
            raise ChildDied(f"{error.message} (out of memory?)", do="a smaller --batch") from None
        raise


def _journal_path(reference: Reference, model: Model, kv_type: KVType, progress: Progress) -> Path:
    digest = model_digest(model, progress)
    key = _key(model=digest, kv=kv_type, ubatch=reference.settings.ubatch, batch=reference.settings.batch)
    return reference.folder / "variants" / f"{key}.jsonl"


def _vocabulary(model: Model) -> int:
    tokens = model.header.metadata.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, list) else int(getattr(tokens, "length", 0))


def _key(**values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]
