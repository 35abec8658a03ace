"""What qwenops put into model stores: each link with the state its file had then; each model is in the history."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwenops import paths
from qwenops.history import store as history
from qwenops.history.file import explained
from qwenops.ollama.digest import Stamp

_BUSY_SECONDS = 10.0
_TABLE = """
CREATE TABLE IF NOT EXISTS links (
    store TEXT, sha256 TEXT, how TEXT, source TEXT, device TEXT, inode TEXT,
    size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, recorded_at REAL, PRIMARY KEY (store, sha256))
"""


@dataclass(frozen=True)
class Link:
    """One weights blob that qwenops placed, the file it came from, and its stamp when it was known to be right."""

    sha256: str
    how: str
    source: Path
    stamp: Stamp


@contextlib.contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    path = paths.data_dir() / "links.db"
    with explained(path, "list of links", busy_seconds=_BUSY_SECONDS):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS)
        try:
            with connection:
                connection.execute(_TABLE)
                yield connection
        finally:
            connection.close()


def record_link(store: Path, link: Link) -> None:
    """Note a link, or a new state of one that was read again and found right."""
    stamp = link.stamp
    with _open() as ledger:
        ledger.execute(
            "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(store),
                link.sha256,
                link.how,
                str(link.source),
                str(stamp.device),
                str(stamp.inode),
                stamp.size,
                stamp.mtime_ns,
                stamp.ctime_ns,
                time.time(),
            ),
        )


def link_of(store: Path, sha256: str) -> Link | None:
    """The recorded link of a blob, or None where qwenops did not place it."""
    if not (paths.data_dir() / "links.db").exists():
        return None
    with _open() as ledger:
        row = ledger.execute(
            "SELECT how, source, device, inode, size, mtime_ns, ctime_ns FROM links WHERE store = ? AND sha256 = ?",
            (str(store), sha256),
        ).fetchone()
    if row is None:
        return None
    how, source, device, inode, size, mtime_ns, ctime_ns = row
    return Link(sha256, how, Path(source), Stamp(int(device), int(inode), size, mtime_ns, ctime_ns))


def links_of(store: Path) -> tuple[Link, ...]:
    """Every link that is recorded for a store, whether it is still there or not."""
    if not (paths.data_dir() / "links.db").exists():
        return ()
    with _open() as ledger:
        rows = ledger.execute(
            "SELECT sha256, how, source, device, inode, size, mtime_ns, ctime_ns FROM links WHERE store = ?"
            " ORDER BY sha256",
            (str(store),),
        ).fetchall()
    return tuple(
        Link(sha256, how, Path(source), Stamp(int(device), int(inode), size, mtime_ns, ctime_ns))
        for sha256, how, source, device, inode, size, mtime_ns, ctime_ns in rows
    )


def stores() -> tuple[Path, ...]:
    """Every store that a link is recorded for."""
    if not (paths.data_dir() / "links.db").exists():
        return ()
    with _open() as ledger:
        return tuple(Path(row[0]) for row in ledger.execute("SELECT DISTINCT store FROM links ORDER BY store"))


def forget_link(store: Path, sha256: str) -> None:
    """Drop a link whose blob was removed."""
    with _open() as ledger:
        ledger.execute("DELETE FROM links WHERE store = ? AND sha256 = ?", (str(store), sha256))


@dataclass(frozen=True)
class Made:
    """A model that qwenops made: the digest it had then (as /api/tags shows it) and what it was made from."""

    digest: str
    spec: str


def record_model(place: Path | str, name: str, digest: str, spec: str = "") -> None:
    """Note that qwenops made this model; `place` is the store, or the server's address where the API made it."""
    with history.open() as known:
        known.record_made("model", name, str(place), {"digest": digest, "spec": spec})


def made_here(place: Path | str, name: str) -> Made | None:
    """What was noted when qwenops made this model, or None."""
    with history.open() as known:
        for row in known.made("model"):
            if (row.name, row.location) == (name, str(place)):
                return Made(str(row.details.get("digest", "")), str(row.details.get("spec", "")))
    return None


def forget_model(place: Path | str, name: str) -> None:
    """Note that a model was taken away."""
    with history.open() as known:
        for row in known.made("model"):
            if (row.name, row.location) == (name, str(place)):
                known.mark_removed(row.id)
