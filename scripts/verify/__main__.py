"""Hold what qwenops says against real loads, and write docs/memory-verified.md and docs/dry-load-verified.md.

    python -m scripts.verify loads [--only TEXT] [--sample N] [--keep FOLDER] [--no-write]
    python -m scripts.verify dry-load [--only TEXT] [--sample N] [--keep FOLDER] [--no-write]

Exits 1 if a row breaks the bar. Models are ghosts of published shapes: true headers, no data, true buffers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from scripts.verify import dry_load, page
from scripts.verify.cases import grid
from scripts.verify.sweep import Sweep

DOCS = Path(__file__).resolve().parents[2] / "docs"
T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, load, compare; write the page unless told not to, or unless only a part was asked for."""
    asked = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="qwenops-verify-") as scratch, _home(Path(scratch) / "home"):
        keep = Path(asked.keep) if asked.keep else Path(scratch) / "kept"
        return _loads(asked, keep) if asked.what == "loads" else _dry_loads(asked, keep)


@contextlib.contextmanager
def _home(folder: Path) -> Iterator[None]:
    """A home of the run's own: answers that were kept elsewhere say nothing about the code as it is."""
    before = os.environ.get("QWENOPS_HOME")
    os.environ["QWENOPS_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["QWENOPS_HOME"]
        else:
            os.environ["QWENOPS_HOME"] = before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.verify", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("loads", "dry-load"))
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose description contains this")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only N cases, spread over the grid")
    parser.add_argument("--keep", metavar="FOLDER", help="keep rows there, and go on from those that are there")
    parser.add_argument("--formula", action="store_true", help="ask the closed form again for rows that were kept")
    parser.add_argument("--broken", action="store_true", help="load again what was kept and breaks a bar")
    parser.add_argument("--no-write", action="store_true", help="leave the page as it is")
    return parser


def _loads(asked: argparse.Namespace, keep: Path) -> int:
    cases = spread([c for c in grid() if asked.only in str(c)], asked.sample)
    started = time.monotonic()
    rows = list(Sweep(keep, ask_formula_again=asked.formula, load_broken_again=asked.broken).rows(cases))
    bad = [row for row in rows if row.faults()]
    print(f"{len(rows)} loads, {len(bad)} break the bar, {time.monotonic() - started:.0f} s", file=sys.stderr)
    if _writes(asked):
        (DOCS / "memory-verified.md").write_text(page.page(rows), "utf-8")
    return 1 if bad or not rows else 0


def _dry_loads(asked: argparse.Namespace, keep: Path) -> int:
    jobs = spread([job for job in dry_load.jobs() if asked.only in job.name], asked.sample)
    keep.mkdir(parents=True, exist_ok=True)
    models = dry_load.verify(jobs, keep / "dry-loads.jsonl")
    rows = [row for model in models for row in model.rows]
    within = sum(row.within for row in rows)
    print(f"{within} of {len(rows)} rows within the bar")
    if _writes(asked):
        (DOCS / "dry-load-verified.md").write_text(dry_load.page(models), "utf-8")
    return 1 if within < len(rows) or any(model.refused for model in models) or not rows else 0


def _writes(asked: argparse.Namespace) -> bool:
    return not (asked.no_write or asked.only or asked.sample)


def spread(cases: Sequence[T], wanted: int) -> list[T]:
    """As many of them as are wanted (0: all), at even distances."""
    if not 0 < wanted < len(cases):
        return list(cases)
    return [cases[i * len(cases) // wanted] for i in range(wanted)]


if __name__ == "__main__":
    sys.exit(main())
