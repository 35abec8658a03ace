"""The history for other programs: JSON Lines that another history takes in, or one table as CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from qwenops.errors import BadInput, NotAllowed, PartMissing
from qwenops.history import TABLES, Learned, LoadRow, PlanRow, Table
from qwenops.result import Result

Format = Literal["jsonl", "csv"]
FORMATS: Final[tuple[Format, ...]] = ("jsonl", "csv")

COLUMNS: Final = (
    *("table", "id", "created", "kind", "model", "quant", "test", "unit"),
    *("count", "mean", "sd", "median", "min", "max"),
    *("device", "engine", "runtime_build", "run", "ok", "predicted_bytes", "measured_bytes"),
    *("model_key", "settings_key", "samples", "settings", "machine", "evidence", "predicted", "measured", "plan"),
)
"""The columns of the CSV, the same for every table; docs/history.md says what they hold. New ones come at the end."""

_JSON: Final = ("samples", "settings", "machine", "evidence", "predicted", "measured", "plan")


def export_lines(form: Format, tables: Sequence[Table] = TABLES) -> Iterator[str]:
    """The history as text, a piece a row, read as it is written out."""
    from qwenops import history

    with history.open() as kept:
        yield from _csv(kept.everything(tables)) if form == "csv" else _jsonl(kept.everything(tables))


def export_result(path: Path, form: Format | None, tables: Sequence[Table] = TABLES) -> Result:
    """Write the history to a file, which is there whole or not at all ("qwenops.history-export/1").

    Without a form the file's name decides. Raises BadInput for a file that is there and is no such export.
    """
    form = form or ("csv" if path.suffix.lower() == ".csv" else "jsonl")
    _must_be_ours(path)
    rows = -1 if form == "csv" else 0  # the first line of a CSV is its header
    with _whole(path) as file:
        for piece in export_lines(form, tables):
            file.write(piece)
            rows += 1
    data = {
        "file": str(path),
        "format": form,
        "tables": list(tables),
        "rows": rows,
        "file_bytes": path.stat().st_size,
    }
    return Result("qwenops.history-export/1", data)


def _jsonl(rows: Iterator[Learned]) -> Iterator[str]:
    from qwenops.history.portable import to_line

    for row in rows:
        yield json.dumps(to_line(row), ensure_ascii=False, separators=(",", ":")) + "\n"


def _csv(rows: Iterator[Learned]) -> Iterator[str]:
    held = io.StringIO()
    writer = csv.DictWriter(held, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    yield held.getvalue()
    for row in rows:
        held.seek(0)
        held.truncate()
        writer.writerow(_cells(row))
        yield held.getvalue()


def _cells(row: Learned) -> dict[str, Any]:
    """A row by the names of COLUMNS; JSON as text, what is not known as nothing."""
    from qwenops.history.portable import to_line

    known = {**to_line(row), **_worked_out(row)}
    cells = {name: known[name] for name in COLUMNS if known.get(name) is not None}
    return {name: _text(value) if name in _JSON else value for name, value in cells.items()}


def _worked_out(row: Learned) -> dict[str, Any]:
    from qwenops.setup.history import device_total, summed_up, unit_of

    if isinstance(row, LoadRow):
        predicted = row.predicted.get("total_device_bytes")
        ok = None if row.ok is None else str(row.ok).lower()
        return {"predicted_bytes": predicted, "measured_bytes": device_total(row.measured), "ok": ok}
    if isinstance(row, PlanRow):
        return {}
    return {**summed_up(row), "unit": unit_of(row), "count": len(row.samples)}


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _must_be_ours(path: Path) -> None:
    """Raise BadInput where the file is there and does not begin as an export does: it may be anything of the user's."""
    from qwenops.history.portable import SCHEMA

    if path.is_dir():
        raise BadInput(f"{path} is a folder", do=f"-o {path / 'history.jsonl'}")
    if not path.exists() or not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith((f'{{"schema":"{SCHEMA}"'.encode(), ",".join(COLUMNS[:5]).encode())):
        raise BadInput(f"{path} is there and is no export of a history", do="name another with -o")


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """A file that takes its place when it is written out; one that is no regular file (a pipe) is written to."""
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    unfinished: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-", suffix=".part")
        unfinished = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(unfinished, target)
        unfinished = None
    except PermissionError as error:
        raise NotAllowed(f"{path} may not be written", do=f"ls -ld {target.parent}") from error
    except OSError as error:
        raise PartMissing(f"{path} cannot be written: {error.strerror}", do=f"df -h {target.parent}") from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
