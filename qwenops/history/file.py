"""The file under the history: opened late, brought up to date, shared by several processes, explained when broken."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from qwenops.errors import NotAllowed, PartMissing, QwenopsError
from qwenops.history import migrations

if TYPE_CHECKING:
    from sqlite3 import Connection

# Writes take milliseconds; whoever holds the file longer than this has stopped.
BUSY_SECONDS = 30.0


class HistoryFile:
    """One SQLite file in WAL mode (which stays with a file once it is set).

    Nothing is made before the first write, so that reading a history that does not exist leaves no trace. A process
    that was forked opens the file anew: SQLite connections do not survive a fork.
    """

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._db: Connection | None = None
        self._writable = False
        self._owner = 0

    @contextmanager
    def reading(self) -> Iterator[Connection | None]:
        """The connection, or None when there is no history yet."""
        with self._explained():
            yield self._connection() if self._exists() else None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection inside one transaction that no other writer can interleave; undone when the block raises."""
        with self._explained():
            if not self._exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
            db = self._connection()
            if not self._writable:
                raise self._not_allowed("this user may not write it")
            with _transaction(db):
                yield db

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._db is not None and self._owner == os.getpid():
            self._db.close()
        self._db = None

    def _exists(self) -> bool:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self.close()  # deleted while it was open: what is written there now would be lost
            return False
        return True

    def _connection(self) -> Connection:
        if self._db is None or self._owner != os.getpid():
            self._db = self._open()
            self._owner = os.getpid()
        return self._db

    def _open(self) -> Connection:
        import sqlite3

        folder_writable = _may_write(self.path.parent)
        self._writable = folder_writable and (not self.path.exists() or _may_write(self.path))
        # Reading a WAL file writes its -shm companion; where the folder forbids that, the file is read as it stands.
        mode = "" if self._writable else ("?mode=ro" if folder_writable else "?mode=ro&immutable=1")
        db = sqlite3.connect(
            self.path.absolute().as_uri() + mode, uri=True, timeout=self._busy_seconds, isolation_level=None
        )
        try:
            db.row_factory = sqlite3.Row
            self._bring_up_to_date(db)
        except BaseException:
            db.close()
            raise
        return db

    def _bring_up_to_date(self, db: Connection) -> None:
        """Take the steps that this file lacks; refuse a file of a newer qwenops or of another program."""
        taken = self._taken(db)
        if taken == migrations.names():
            return
        if not self._writable:
            raise self._not_allowed("it must be brought up to date, and this user may not write it")
        _use_wal(db, self._busy_seconds)
        with _transaction(db):
            taken = self._taken(db)  # again, now that nobody else can change it
            if not taken:
                db.execute("create table if not exists migrations (name text primary key, taken text not null)")
            for function in migrations.STEPS[len(taken) :]:
                function(db)
                db.execute("insert into migrations values (?, ?)", (function.__name__, now()))

    def _taken(self, db: Connection) -> list[str]:
        """The steps this file has, checked to be a beginning of those this version knows."""
        tables = {row[0] for row in db.execute("select name from sqlite_master where type = 'table'")}
        if "migrations" not in tables:
            if tables:
                raise QwenopsError(
                    f"{self.path} is another program's database: it has no list of qwenops's steps",
                    do=self._aside("other"),
                )
            return []
        taken = [row[0] for row in db.execute("select name from migrations order by name")]
        known = migrations.names()
        unknown = [name for name in taken if name not in known]
        if unknown:
            raise PartMissing(
                f"{self.path} was written by a newer qwenops (its step {unknown[-1]} is not known here)",
                do=("pip install --upgrade qwenops", self._aside("newer")),
            )
        if taken != known[: len(taken)]:
            raise QwenopsError(f"{self.path} lacks a step of its schema in between", do=self._aside("broken"))
        return taken

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.path, busy_seconds=self._busy_seconds)

    def _not_allowed(self, cause: str) -> NotAllowed:
        return _not_allowed(self.path, "history", cause)

    def _aside(self, suffix: str) -> str:
        return _aside(self.path, suffix)


@contextmanager
def explained(path: Path, what: str = "history", *, busy_seconds: float = BUSY_SECONDS) -> Iterator[None]:
    """Turn what SQLite and the system say of one of our files into errors that name the cause and the next command."""
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise QwenopsError(
                f"{path} was held by another process for {busy_seconds:.0f} s", do=f"fuser -v {path}"
            ) from error
        if "readonly" in text or "unable to open" in text:
            raise _not_allowed(path, what, text) from error
        if "full" in text or "disk I/O" in text:
            raise _no_room(path, what, text) from error
        raise _broken(path, what, text) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise _broken(path, what, str(error)) from error
    except PermissionError as error:
        raise _not_allowed(path, what, error.strerror or "no permission") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(path, what, str(error.strerror)) from error
        raise QwenopsError(f"{path} could not be used: {error.strerror}", do=f"ls -ld {path.parent}") from error


def _broken(path: Path, what: str, cause: str) -> QwenopsError:
    return QwenopsError(f"the {what} {path} cannot be read: {cause}", do=_aside(path, "broken"))


def _not_allowed(path: Path, what: str, cause: str) -> NotAllowed:
    return NotAllowed(f"the {what} {path} cannot be used: {cause}", do=f"ls -ld {path.parent} {path}")


def _no_room(path: Path, what: str, cause: str) -> PartMissing:
    return PartMissing(
        f"the {what} {path} could not be written: {cause}",
        do=(f"df -h {_nearest(path)}", "make room there, or set QWENOPS_HOME to a folder on another disk"),
    )


def _nearest(path: Path) -> Path:
    """The nearest folder above a path that is there: df knows no other."""
    return next((p for p in path.parents if p.is_dir()), Path())


def _aside(path: Path, suffix: str) -> str:
    return f"mv {path} {path}.{suffix}"


def _may_write(path: Path) -> bool:
    """Whether this user may write `path`; by the rights in force, which sudo and setuid change."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def now() -> str:
    """This moment, in UTC, as text that sorts by time."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


@contextmanager
def _transaction(db: Connection) -> Iterator[None]:
    """A write transaction from its first moment, so that it waits its turn instead of failing half-way."""
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise
    db.execute("commit")


def _use_wal(db: Connection, busy_seconds: float) -> None:
    """Switch to WAL. SQLite does not wait for others in this one step, so we do; it stays on once switched."""
    import sqlite3

    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            db.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
