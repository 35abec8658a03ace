"""Making a quant: written under another name beside its place, looked at, then named; nothing half-made stays.

What is made is held against what `requant` said before: length to the byte and every tensor's type.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwenops.errors import BadInput, CheckFailed, ChildDied, NotAGGUF, PartMissing
from qwenops.model.ggml_types import type_name
from qwenops.model.gguf_header import read_header
from qwenops.model.quant_mixes import MIXES
from qwenops.model.quantizer import NUMBER
from qwenops.model.requant import Variant
from qwenops.model.types import Header, Model
from qwenops.worker import run

LIMIT_S = 2 * 86400.0
OnTensor = Callable[[int, int], None]
"""Called with the tensors done and those in all."""


@dataclass(frozen=True)
class Made:
    """A file that was made: its length in bytes, how many tensors have each type, seconds, and what differs from what
    was said before."""

    path: Path
    file_bytes: int
    types: dict[str, int]
    seconds: float
    differs: tuple[str, ...]
    engine: str


def make_quant(
    variant: Variant,
    source: Model,
    target: Path,
    *,
    imatrix: Path | None = None,
    threads: int = 0,
    allow_requantize: bool = False,
    replace: bool = False,
    on_tensor: OnTensor | None = None,
) -> Made:
    """Make `variant` of `source` at `target` (0 threads: all).

    Raises BadInput where the quantizer refuses, ChildDied where it aborts, CheckFailed for a file that is not whole,
    PartMissing where it cannot be written; in all cases, and when interrupted, `target` is as it was.
    """
    remove_left_behind(target)
    half = target.with_name(f".{target.name}.part-{os.getpid()}")
    recipe = variant.recipe
    request = {
        "source": str(source.path),
        "target": str(half),
        "ftype": MIXES[recipe.quant].number,
        "threads": threads,
        "allow_requantize": allow_requantize,
        "pure": recipe.pure,
        "leave_output": recipe.leave_output,
        "output_type": NUMBER[recipe.output_type.upper()] if recipe.output_type else None,
        "embedding_type": NUMBER[recipe.embedding_type.upper()] if recipe.embedding_type else None,
        "overrides": [(pattern.lower(), NUMBER[type_.upper()]) for pattern, type_ in recipe.overrides],
        "imatrix": str(imatrix) if imatrix else None,
    }
    started = time.monotonic()
    try:
        answer = run(
            "qwenops.model.make_quant_child:quantize",
            request,
            limit_s=LIMIT_S,
            on_event=lambda event: on_tensor(event["done"], event["of"]) if on_tensor else None,
        )
        header = _whole(half)
        _keep(half, target, replace=replace)
    except ChildDied as error:
        raise ChildDied(f"{error.message}; nothing was written to {target}", do=error.do) from None
    except OSError as error:
        raise PartMissing(f"{error.strerror or error}: {target}", do=f"ls -ld {target.parent}") from None
    finally:
        half.unlink(missing_ok=True)
    engine = f"{answer['engine']['name']} {answer['engine']['version']}"
    seconds = time.monotonic() - started
    return Made(target, header.file_bytes, types_of(header), seconds, _differs(variant.model.header, header), engine)


def types_of(header: Header) -> dict[str, int]:
    """How many tensors have each type, the most frequent first."""
    return dict(Counter(type_name(t.type) for t in header.tensors).most_common())


def remove_left_behind(target: Path) -> None:
    """Take away what a killed run of an earlier process has left of this file."""
    import psutil

    for path in target.parent.glob(f".{_glob(target.name)}.part-*"):
        pid = path.name.rsplit("-", 1)[-1]
        if pid.isdigit() and int(pid) != os.getpid() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(OSError):
                path.unlink()


def _glob(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _whole(path: Path) -> Header:
    """The header of a file that is whole: a disk that was full leaves one whose data ends too early."""
    try:
        header = read_header(path)
    except NotAGGUF as error:
        raise CheckFailed(f"what was written is no whole file: {error.message}", do=f"df -h {path.parent}") from None
    last = max((t.offset + t.size_bytes for t in header.tensors), default=0)
    if header.data_offset + last > path.stat().st_size:
        raise CheckFailed(f"what was written ends before its data does ({path.stat().st_size} bytes)")
    return header


def _keep(half: Path, target: Path, *, replace: bool) -> None:
    """Give the finished file its name, once it is on the disk; another that came meanwhile is not overwritten."""
    with half.open("rb") as file:
        os.fsync(file.fileno())
    if replace:
        half.replace(target)
        return
    try:
        os.link(half, target)
    except FileExistsError:
        raise BadInput(f"{target} came into being meanwhile", do="--replace") from None
    except OSError:  # a disk without hard links
        if target.exists():
            raise BadInput(f"{target} came into being meanwhile", do="--replace") from None
        half.rename(target)


def _differs(said: Header, made: Header) -> tuple[str, ...]:
    """What of a file is not as it was said before; a newer library may have other rules."""
    types = {t.name: t.type for t in said.tensors}
    other = [t for t in made.tensors if types.get(t.name) != t.type]
    found = []
    if made.file_bytes != said.file_bytes:
        found.append(f"{made.file_bytes} bytes, and {said.file_bytes} were said")
    if other:
        found.append(f"{other[0].name} is {type_name(other[0].type)} ({len(other)} tensors of another type than said)")
    return tuple(found)
