"""A lock file: everything that makes a model the same one on another machine, and what is refused of a strange one.

It is JSON, written by one machine and read by another, which trusts nothing in it: names are names and no paths, a
repository is one of the hub at a full commit, every file has its digest, and the Modelfile names those files alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, get_args

from qwenops.errors import BadInput
from qwenops.units import human

SCHEMA: Final = "qwenops.lock/1"
MOST_BYTES: Final = 4 * 1024**2
"""A Modelfile with a licence takes some 20 KiB."""

Kind = Literal["model", "projector", "adapter", "draft"]
_MOST_FILES: Final = 16
_MOST_FILE_BYTES: Final = 1 << 50
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][\w.+() -]{0,199}", re.ASCII)
_WORDS_WITH_FILES: Final = ("model", "adapter", "draft")


@dataclass(frozen=True)
class Origin:
    """Where the hub has a file: repository, full commit, path in it."""

    repo: str
    commit: str
    file: str

    @property
    def reference(self) -> str:
        """The reference at exactly that commit."""
        return f"hf:{self.repo}@{self.commit}:{self.file}"


@dataclass(frozen=True)
class LockedFile:
    """One weights file by its digest. `origin` is None for a file that came from no hub."""

    kind: Kind
    name: str
    sha256: str
    size_bytes: int
    origin: Origin | None = None


@dataclass(frozen=True)
class Lock:
    """A model as another machine made it. The Modelfile names files by `name`; `plan` is for people to read."""

    name: str
    task: str
    files: tuple[LockedFile, ...]
    modelfile: str
    plan: Mapping[str, Any]
    made_under: Mapping[str, Any]

    def only(self, kind: Kind) -> LockedFile | None:
        """The first file of a kind."""
        return next((f for f in self.files if f.kind == kind), None)

    def as_text(self) -> str:
        """The lock file."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"


def read_lock(path: Path) -> Lock:
    """Read a lock file of whoever. Raises BadInput, naming what is wrong in it."""
    try:
        size = path.stat().st_size
        if not path.is_file() or size > MOST_BYTES:
            raise BadInput(f"{path} is no lock file: {human(size)}" if path.is_file() else f"{path} is not a file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}", do="qwenops export NAME writes one") from None
    try:
        lock = _lock(json.loads(text))
        lock.as_text().encode()  # half a surrogate pair is JSON and no text
        return lock
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} is no lock file that can be used: {error}", do="qwenops export NAME writes one"
        ) from None


def _lock(data: Any) -> Lock:
    from qwenops.runtime.names import checked_name

    table = _table(data, "the file")
    schema = table.get("schema")
    if schema != SCHEMA:
        raise ValueError(f"its schema is {str(schema)[:40]!r}, and this qwenops reads {SCHEMA}")
    files = table.get("files")
    if not isinstance(files, list) or not 0 < len(files) <= _MOST_FILES:
        raise ValueError(f"files is not a list of 1 to {_MOST_FILES}")
    locked = tuple(_file(row, f"files[{n}]") for n, row in enumerate(files))
    if len({f.name for f in locked}) < len(locked):
        raise ValueError("two files have the same name")
    if sum(f.kind == "model" for f in locked) != 1:
        raise ValueError("it must hold one model")
    name = _text(table, "name", "the file")
    try:
        checked_name(name)
        _check_modelfile(_text(table, "modelfile", "the file"), locked)
    except BadInput as error:
        raise ValueError(error.message) from None
    return Lock(
        name=name,
        task=_text(table, "task", "the file"),
        files=locked,
        modelfile=table["modelfile"],
        plan=_table(table.get("plan", {}), "plan"),
        made_under=_table(table.get("made_under", {}), "made_under"),
    )


def _file(row: Any, where: str) -> LockedFile:
    table = _table(row, where)
    kind: Any = table.get("kind")
    size = table.get("size_bytes")
    if kind not in get_args(Kind):
        raise ValueError(f"kind of {where} is none of {', '.join(get_args(Kind))}")
    if type(size) is not int or not 0 < size < _MOST_FILE_BYTES:
        raise ValueError(f"size_bytes of {where} is no size")
    origin = table.get("origin")
    return LockedFile(
        kind=kind,
        name=_matching(table, "name", where, _FILE_NAME, "a file's name without folders"),
        sha256=_matching(table, "sha256", where, _SHA256, "64 hex digits"),
        size_bytes=size,
        origin=None if origin is None else _origin(origin, f"origin of {where}"),
    )


def _origin(row: Any, where: str) -> Origin:
    table = _table(row, where)
    file = _text(table, "file", where)
    parts = PurePosixPath(file).parts
    plain = all(_FILE_NAME.fullmatch(part) for part in parts)
    if not plain or not file.lower().endswith(".gguf") or "/".join(parts) != file:
        raise ValueError(f"file of {where} is no GGUF of a repository")
    return Origin(
        _matching(table, "repo", where, _REPO, "like OWNER/REPO"),
        _matching(table, "commit", where, _COMMIT, "a full commit of 40 hex digits"),
        file,
    )


def _check_modelfile(text: str, files: tuple[LockedFile, ...]) -> None:
    """Raise ValueError where it names anything but the lock's own files: FROM can name any path or model."""
    from qwenops.modelfile.grammar import parse

    named = [c.args for c in parse(text).commands if c.name in _WORDS_WITH_FILES]
    strange = [one for one in named if one not in {f.name for f in files}]
    if strange:
        raise ValueError(f"its Modelfile names {strange[0][:80]!r}, which is none of its files")
    if sorted(named) != sorted(f.name for f in files):
        raise ValueError("its Modelfile does not name each of its files once")


def with_paths(modelfile: str, paths: Mapping[str, Path]) -> str:
    """The Modelfile with each file's place on this machine for its name."""
    from dataclasses import replace

    from qwenops.modelfile.grammar import parse, write
    from qwenops.modelfile.types import Modelfile

    return write(
        Modelfile(
            tuple(
                replace(c, args=str(paths[c.args])) if c.name in _WORDS_WITH_FILES else c
                for c in parse(modelfile).commands
            )
        )
    )


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a table")
    return value


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} of {where} is not a text")
    return value


def _matching(table: Mapping[str, Any], key: str, where: str, pattern: re.Pattern[str], what: str) -> str:
    value = _text(table, key, where)
    if not pattern.fullmatch(value):
        raise ValueError(f"{key} of {where} is not {what}")
    return value


def safe_file_name(name: str, otherwise: str) -> str:
    """A file's name as a lock may have it, or another for one that it may not."""
    return name if _FILE_NAME.fullmatch(name) else otherwise
