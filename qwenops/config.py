"""The user's settings: config.toml in the configuration folder, read where it is there, edited line by line.

A table a command holds defaults for its options; [defaults] holds those that several commands share, and [catalog] the
further files of the catalogue. Which options there are is the command line's own knowledge (cli/settings.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, NotAllowed, PartMissing
from qwenops.paths import config_dir

Value = str | int | float | bool | list[str] | list[int]

_HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_.\-\s]+?)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


@dataclass(frozen=True)
class ConfigFile:
    """A configuration as it was written: its text, and its tables with a dotted name for each ("server.write")."""

    path: Path
    text: str
    tables: Mapping[str, Mapping[str, Any]]

    def where(self, table: str, key: str | None = None) -> str:
        """'FILE:LINE' of a key or of a table's header; the file alone where the line cannot be told."""
        line = _line_of(self.text, table, key)
        return f"{self.path}:{line}" if line else str(self.path)


def config_path() -> Path:
    """Where the settings are, whether the file is there or not."""
    return config_dir() / "config.toml"


def read_config() -> ConfigFile | None:
    """The settings, or None where there are none. Raises BadInput, naming file and line, for what is no TOML."""
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not text in UTF-8", do="qwenops config edit") from None
    except OSError as error:
        raise NotAllowed(f"{path} cannot be read: {error.strerror}", do=f"ls -l {path}") from None
    return ConfigFile(path, text, dict(_tables(path, _parsed(path, text))))


def extra_catalogs() -> tuple[Path, ...]:
    """The catalogue files that [catalog] files names, in their order. Raises BadInput where it is no list of texts."""
    config = read_config()
    if config is None:
        return ()
    files = config.tables.get("catalog", {}).get("files", [])
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise BadInput(f"{config.where('catalog', 'files')}: catalog.files is not a list of files", do=_MEND)
    return tuple((config.path.parent / Path(file).expanduser()) for file in files)


def with_value(text: str, table: str, key: str, value: Value | None) -> str:
    """A configuration's text with one value set, or taken out where it is None; comments and order stay.

    The result is read again: it must differ in this one value alone. Raises BadInput where the file is written in a way
    that an edit of lines cannot follow (inline tables, quoted keys).
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    span = _span(lines, table, key)
    if span:
        start, end = span
        lines[start:end] = [] if value is None else [_replaced(lines[start:end], key, value)]
    elif value is not None:
        new = f"{key} = {toml_value(value)}\n"
        end_of_table = _end_of_table(lines, table)
        if end_of_table is None:
            lines += ["\n"] * bool(lines and lines[-1].strip()) + [f"[{table}]\n", new]
        else:
            lines.insert(end_of_table, new)
    edited = "".join(lines)
    if not _reads_as(edited, _wanted(_loads(text), table, key, value)):
        raise BadInput(
            f"[{table}] {key} is written in a way that cannot be edited line by line", do="qwenops config edit"
        )
    return edited


def write_config(text: str) -> Path:
    """Put the settings down in one step; a link is followed, and a file that was there keeps its mode."""
    path = Path(os.path.realpath(config_path()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(unfinished, mode)
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise
    except PermissionError:
        raise NotAllowed(f"{path} may not be written", do=f"ls -ld {path.parent}") from None
    except OSError as error:
        raise PartMissing(f"{path} cannot be written: {error.strerror}", do=f"df -h {path.parent}") from None
    return path


def toml_value(value: Value) -> str:
    """A value as TOML writes it. Raises BadInput for text that is not Unicode."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadInput(f"{value!r} is not text", do="write it in UTF-8") from None
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    return repr(value)


_MEND = "qwenops config edit"


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return _loads(text)
    except ValueError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = f":{found[1] if found else max(1, len(text.splitlines()))}"
        raise BadInput(f"{path}{line}: {str(error).partition(' (at ')[0]}", do=_MEND) from None


def _loads(text: str) -> dict[str, Any]:
    from qwenops.tables import parse_table

    return parse_table(text)


def _tables(path: Path, tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every table by its dotted name, with the values in it that are no tables."""
    for name, below in tree.items():
        if not isinstance(below, dict):
            if not above:
                raise BadInput(f"{path}: {name} stands in no table", do=f"write it below [defaults]; {_MEND}")
            continue
        dotted = f"{above}.{name}" if above else name
        yield dotted, {key: value for key, value in below.items() if not isinstance(value, dict)}
        yield from _tables(path, {k: v for k, v in below.items() if isinstance(v, dict)}, dotted)


def _reads_as(text: str, wanted: Mapping[str, Any]) -> bool:
    with contextlib.suppress(ValueError):
        return _loads(text) == wanted
    return False


def _wanted(tree: dict[str, Any], table: str, key: str, value: Value | None) -> dict[str, Any]:
    """The tables as they must read after the edit; an empty table that is left is the same as it was."""
    here = tree
    for name in table.split("."):
        below = here.setdefault(name, {})
        if not isinstance(below, dict):
            raise BadInput(f"{name} is a value and no table", do=_MEND)
        here = below
    if value is None:
        here.pop(key, None)
    else:
        here[key] = value
    return tree


def _line_of(text: str, table: str, key: str | None) -> int | None:
    """The line, from 1 on, of a key or of its table's header."""
    lines = text.splitlines(keepends=True)
    if key is not None:
        span = _span(lines, table, key)
        return span[0] + 1 if span else _line_of(text, table, None)
    return next((number + 1 for number, name in _headers(lines) if name == table), None)


def _headers(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    for number, _, name in _outline(lines):
        if name is not None:
            yield number, name


def _outline(lines: Sequence[str]) -> Iterator[tuple[int, int, str | None]]:
    """(first line, line after the last, table's name or None) of each header and each value, in their order.

    A value ends with the first line up to which it can be read: that holds for lists and texts over several lines.
    """
    number = 0
    while number < len(lines):
        end = number + 1
        header = _HEADER.match(lines[number].rstrip("\r\n"))
        if header:
            yield number, end, re.sub(r"\s", "", header[1])
        elif _KEY.match(lines[number]):
            end = next((e for e in range(number + 1, len(lines) + 1) if _reads(lines[number:e])), number + 1)
            yield number, end, None
        number = end


def _reads(lines: Sequence[str]) -> bool:
    with contextlib.suppress(ValueError):
        _loads("".join(lines))
        return True
    return False


def _span(lines: Sequence[str], table: str, key: str) -> tuple[int, int] | None:
    """The lines of a value: from the first to the one after the last."""
    here = None
    for number, end, name in _outline(lines):
        if name is not None:
            here = name
            continue
        found = _KEY.match(lines[number])
        if here == table and found and found[1] == key:
            return number, end
    return None


def _end_of_table(lines: Sequence[str], table: str) -> int | None:
    """Where a further value of a table goes: behind its last one, or its header; None where there is no such table."""
    here, last = None, None
    for _, end, name in _outline(lines):
        here = name if name is not None else here
        if here == table:
            last = end
    return last


def _replaced(lines: Sequence[str], key: str, value: Value) -> str:
    """A value's line with another value, indented as it was and with the comment that stood behind it."""
    old = "".join(lines)
    indent = old[: len(old) - len(old.lstrip())]
    last = lines[-1].rstrip("\r\n")
    before = "".join(lines[:-1])
    comment = ""
    for place, letter in enumerate(last):
        if letter == "#" and _reads([before, last[:place]]):
            gap = len(last[:place]) - len(last[:place].rstrip())
            comment = last[place - gap :]
            break
    return f"{indent}{key} = {toml_value(value)}{comment}\n"
