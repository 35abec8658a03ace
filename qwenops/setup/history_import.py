"""Rows from elsewhere into the history: our own JSON Lines, and what llama-bench prints. All of them, or none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from qwenops.errors import BadInput, NotAllowed, QwenopsError
from qwenops.history import Learned, ResultRow
from qwenops.result import Result
from qwenops.units import human

STDIN: Final = Path("-")
MOST_BYTES: Final = 256 * 1024**2
"""All rows of a file are looked at before the first is kept, and so held in memory."""

_WANTED: Final = "a file of: qwenops history export --format jsonl, llama-bench -o jsonl, llama-bench -o json"


def import_result(files: Sequence[Path], *, here: bool = False) -> Result:
    """Keep the rows of all files, those that are known already once ("qwenops.history-import/1").

    `here` says that llama-bench ran on this machine: its rows then count for plans on it. Raises BadInput, naming file
    and line, where anything in them cannot be used; then nothing is kept.
    """
    from qwenops import history

    machine = _this_machine() if here else None
    rows: list[Learned] = []
    entries = []
    for file in files:
        found = list(rows_of(file, machine))
        rows += found
        entries.append({"file": str(file), "rows": len(found)})
    if not rows:
        raise BadInput(f"there are no rows in {', '.join(map(str, files))}", do=f"give {_WANTED}")
    with history.open() as kept:
        new, known = kept.take_in(rows)
        path = str(kept.path)
    return Result("qwenops.history-import/1", {"files": entries, "new": new, "known": known, "path": path})


def rows_of(file: Path, machine: Mapping[str, Any] | None = None) -> Iterator[Learned]:
    """The rows of one file, each looked at. Raises BadInput, naming the line."""
    text = _text_of(file)
    if text.lstrip().startswith("["):
        for number, value in enumerate(_array(file, text), 1):
            yield _row(f"{file} entry {number}", value, machine)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{file} line {number}"
            yield _row(place, _parsed(place, line), machine)


def _text_of(file: Path) -> str:
    try:
        if file == STDIN:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{file} is not there", do=f"give {_WANTED}") from None
    except IsADirectoryError:
        raise BadInput(f"{file} is a folder", do=f"give {_WANTED}") from None
    except PermissionError:
        raise NotAllowed(f"{file} may not be read", do=f"ls -l {file}") from None
    if len(data) > MOST_BYTES:
        raise BadInput(f"{file} is larger than {human(MOST_BYTES)}", do=f"split -n l/8 {file}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file} line {line} is not UTF-8 text (byte {error.start})", do=f"give {_WANTED}") from None


def _array(file: Path, text: str) -> list[Any]:
    """The rows of one JSON list, as llama-bench prints with -o json."""
    try:
        values = _loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise BadInput(f"{file} line {line} is cut off or no JSON: {error}", do=f"give {_WANTED}") from None
    return list(values)


def _parsed(place: str, line: str) -> Any:
    try:
        return _loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place} is cut off or no JSON: {error}", do=f"give {_WANTED}") from None


def _loads(text: str) -> Any:
    value = json.loads(text, parse_constant=_no_number)
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is text to Python alone
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no figure")


def _row(place: str, value: Any, machine: Mapping[str, Any] | None) -> Learned:
    from qwenops.bench.llama_bench import from_llama_bench, is_llama_bench
    from qwenops.history.portable import from_line, is_line

    try:
        if isinstance(value, Mapping) and is_line(value):
            return from_line(value)
        if isinstance(value, Mapping) and is_llama_bench(value):
            row = from_llama_bench(value, machine)
            return row if machine is None else _of_a_file_here(row, value)
    except QwenopsError as error:
        raise BadInput(f"{place}: {error.message}", do=error.do) from None
    raise BadInput(f"{place} is neither a row of a history nor one of llama-bench", do=f"give {_WANTED}")


def _of_a_file_here(row: ResultRow, said: Mapping[str, Any]) -> ResultRow:
    """The row with its exact model, where the file that llama-bench read is still there, with as many bytes."""
    from qwenops.model.read import model_key, read_variants

    file = Path(said["model_filename"])
    if not file.is_file():
        return row
    try:
        (model,) = read_variants((file,), None)
    except QwenopsError:
        return row
    if model.header.tensor_bytes != said.get("model_size"):
        return row
    return replace(row, model=model.name, quant=model.quant, model_key=model_key(model))


def _this_machine() -> dict[str, Any]:
    from qwenops.machine.detect import detect

    return detect().as_data()
