"""The history: what was planned, loaded, measured and made on this machine. Rows in, frozen dataclasses out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from qwenops.errors import BadInput
from qwenops.history.columns import (
    load_columns,
    load_of,
    made_of,
    plan_columns,
    plan_of,
    recipe_of,
    result_columns,
    result_of,
    to_json,
    to_text,
)
from qwenops.history.file import BUSY_SECONDS, HistoryFile, now
from qwenops.history.rows import (
    TABLES,
    Learned,
    LoadRow,
    MadeKind,
    MadeRow,
    Outcome,
    PlanRow,
    RecipeRow,
    ResultKind,
    ResultRow,
    Table,
)
from qwenops.paths import data_dir

if TYPE_CHECKING:
    from sqlite3 import Connection

_Row = TypeVar("_Row")
_KINDS = ("model", "file", "setting")
_PAGE = 200


_READ: Mapping[Table, Callable[[Any], Learned]] = {"plans": plan_of, "loads": load_of, "results": result_of}
_TABLE_OF: Mapping[type, Table] = {PlanRow: "plans", LoadRow: "loads", ResultRow: "results"}


def history_path() -> Path:
    """Where the history lies."""
    return data_dir() / "history.sqlite3"


def open(path: Path | None = None, *, busy_seconds: float = BUSY_SECONDS) -> History:
    """The history at `path`, or the user's own; `busy_seconds` is how long to wait for other writers.

    Makes nothing: a history that does not exist reads as empty, and its file is made by the first write. Any use may
    raise NotAllowed (rights), PartMissing (written by a newer qwenops) or QwenopsError (broken, held, disk full).
    """
    return History(path or history_path(), busy_seconds)


def key_of(values: Mapping[str, Any]) -> str:
    """A short key for settings: equal for equal JSON values, whatever their order."""
    import hashlib

    return hashlib.sha256(to_json(values).encode()).hexdigest()[:32]


class History(AbstractContextManager["History"]):
    """The tables, each with a way in and a way out. Safe to use from several processes at once."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self._file = HistoryFile(path, busy_seconds)

    @property
    def path(self) -> Path:
        """The file, whether it exists yet or not."""
        return self._file.path

    def close(self) -> None:
        """Close the file; using the history again opens it again."""
        self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- plans

    def record_plan(self, model_key: str, plan: Mapping[str, Any]) -> int:
        """Keep a plan as it was shown; returns its id."""
        return self._insert("plans", model_key=model_key, plan=to_json(plan))

    def plans(self, model_key: str | None = None) -> tuple[PlanRow, ...]:
        """Plans, oldest first; those of one model, or all."""
        return self._rows("plans", plan_of, model_key=model_key)

    def forget_plans(self, ids: Sequence[int]) -> int:
        """Forget plans by their ids; returns how many there were."""
        if not ids:
            return 0
        with self._file.writing() as db:
            marks = ", ".join("?" * len(ids))
            return int(db.execute(f"delete from plans where id in ({marks})", tuple(ids)).rowcount)

    # --- loads

    def record_load(
        self,
        model_key: str,
        settings_key: str,
        runtime_build: str,
        device: str,
        predicted: Mapping[str, Any],
        measured: Mapping[str, Any] | None = None,
        ok: bool | None = None,
    ) -> int:
        """Keep a load; returns its id.

        Call it before the load with the prediction alone, then `finish_load`: a prediction that is stored first
        cannot be bent to the measurement.
        """
        return self._insert(
            "loads",
            model_key=model_key,
            settings_key=settings_key,
            runtime_build=runtime_build,
            device=device,
            predicted=to_json(predicted),
            measured=None if measured is None else to_json(measured),
            ok=None if ok is None else int(ok),
        )

    def finish_load(self, load_id: int, measured: Mapping[str, Any] | None, ok: bool) -> None:
        """Add what was measured to a recorded load. Raises BadInput when there is no such load or it was finished."""
        with self._file.writing() as db:
            changed = db.execute(
                "update loads set measured = ?, ok = ? where id = ? and ok is null",
                (None if measured is None else to_json(measured), int(ok), load_id),
            ).rowcount
            if not changed:
                raise BadInput(f"the history has no unfinished load {load_id}")

    def measured_loads(self, model_key: str, settings_key: str, runtime_build: str, device: str) -> tuple[LoadRow, ...]:
        """Loads of exactly this model, settings, runtime and device that ended well and were measured, oldest first."""
        return tuple(
            row
            for row in self.loads(
                model_key=model_key, settings_key=settings_key, runtime_build=runtime_build, device=device
            )
            if row.ok and row.measured is not None
        )

    def loads(
        self,
        *,
        model_key: str | None = None,
        settings_key: str | None = None,
        runtime_build: str | None = None,
        device: str | None = None,
        newest: int | None = None,
    ) -> tuple[LoadRow, ...]:
        """Loads, oldest first, the failed and unfinished ones too; what is not None must be equal.

        `newest` leaves out all but so many of the last ones.
        """
        return self._rows(
            "loads",
            load_of,
            newest=newest,
            model_key=model_key,
            settings_key=settings_key,
            runtime_build=runtime_build,
            device=device,
        )

    # --- results

    def record_results(self, outcomes: Iterable[Outcome], *, created: datetime | None = None) -> tuple[int, ...]:
        """Keep benchmark results, all or none; returns their ids. `created` is for those that come from elsewhere."""
        rows = [result_columns(outcome) for outcome in outcomes]
        when = now() if created is None else to_text(created)
        with self._file.writing() as db:
            return tuple(_insert_row(db, "results", {"created": when, **row}) for row in rows)

    def record_result(self, outcome: Outcome) -> int:
        """Keep one benchmark result; returns its id."""
        return self.record_results((outcome,))[0]

    def results(
        self,
        *,
        kind: ResultKind | None = None,
        model: str | None = None,
        model_key: str | None = None,
        test: str | None = None,
        run: str | None = None,
        newest: int | None = None,
    ) -> tuple[ResultRow, ...]:
        """Benchmark results, oldest first; what is not None must be equal. `newest` keeps only the last ones."""
        return self._rows(
            "results", result_of, newest=newest, kind=kind, model=model, model_key=model_key, test=test, run=run
        )

    # --- what qwenops made

    def record_made(self, kind: MadeKind, name: str, location: str, details: Mapping[str, Any] | None = None) -> int:
        """Note a thing that qwenops made, so that uninstall finds it; returns its id.

        Making the same thing again keeps the one entry and renews its details. Raises BadInput for another kind.
        """
        if kind not in _KINDS:
            raise BadInput(f"{kind!r} is no kind of thing that qwenops makes", do=f"one of {', '.join(_KINDS)}")
        same = (kind, name, location)
        with self._file.writing() as db:
            standing = db.execute(
                "select id from made where kind = ? and name = ? and location = ? and removed is null", same
            ).fetchone()
            if standing:
                db.execute("update made set details = ? where id = ?", (to_json(details or {}), standing["id"]))
                return int(standing["id"])
            added = db.execute(
                "insert into made (created, kind, name, location, details) values (?, ?, ?, ?, ?)",
                (now(), *same, to_json(details or {})),
            )
            return int(added.lastrowid or 0)

    def made(self, kind: MadeKind | None = None, *, removed: bool = False) -> tuple[MadeRow, ...]:
        """What qwenops made and is still there, oldest first; with `removed`, also what was taken away again."""
        rows = self._rows("made", made_of, kind=kind)
        return rows if removed else tuple(row for row in rows if row.removed is None)

    def mark_removed(self, made_id: int) -> None:
        """Note that a made thing was taken away. Raises BadInput when no such thing stands."""
        with self._file.writing() as db:
            changed = db.execute(
                "update made set removed = ? where id = ? and removed is null", (now(), made_id)
            ).rowcount
            if not changed:
                raise BadInput(f"the history has nothing standing with the number {made_id}")

    # --- how registered models were made

    def record_recipe(self, name: str, place: str, recipe: Mapping[str, Any]) -> None:
        """Keep how a model was made, in place of what was known of one of that name."""
        with self._file.writing() as db:
            db.execute(
                "insert or replace into recipes (created, name, place, recipe) values (?, ?, ?, ?)",
                (now(), name, place, to_json(recipe)),
            )

    def recipes(self, name: str | None = None, place: str | None = None) -> tuple[RecipeRow, ...]:
        """How models were made, oldest first; of one name or place, or all."""
        return self._rows("recipes", recipe_of, name=name, place=place)

    def forget_recipe(self, name: str, place: str) -> None:
        """The model is gone."""
        with self._file.writing() as db:
            db.execute("delete from recipes where name = ? and place = ?", (name, place))

    # --- all of it

    def everything(self, tables: Sequence[Table] = TABLES) -> Iterator[Learned]:
        """Every row of what was learned, table by table, oldest first; read in pages, so that any length will do."""
        for table in tables:
            yield from self._pages(table)

    def take_in(self, rows: Iterable[Learned]) -> tuple[int, int]:
        """Keep rows that come from elsewhere, all or none, under their own times and new ids.

        Returns how many were new, and how many the history had already to the letter.
        """
        wanted = [(_TABLE_OF[type(row)], _all_columns(row)) for row in rows]
        new = 0
        with self._file.writing() as db:
            for table, columns in wanted:
                same = " and ".join(f"{column} is ?" for column in columns)
                if db.execute(f"select 1 from {table} where {same}", tuple(columns.values())).fetchone() is None:
                    _insert_row(db, table, columns)
                    new += 1
        return new, len(wanted) - new

    def count(self) -> dict[str, int]:
        """How many rows each table of what was learned has."""
        with self._file.reading() as db:
            if db is None:
                return dict.fromkeys(TABLES, 0)
            return {table: int(db.execute(f"select count(*) from {table}").fetchone()[0]) for table in TABLES}

    def clear(self) -> dict[str, int]:
        """Forget plans, loads and results; returns how many of each. What was made stays, for uninstall to find."""
        gone: dict[str, int] = {}
        with self._file.reading() as db:
            if db is None:
                return dict.fromkeys(TABLES, 0)
        with self._file.writing() as db:
            for table in TABLES:
                gone[table] = db.execute(f"delete from {table}").rowcount
        return gone

    def delete_files(self) -> tuple[Path, ...]:
        """Delete the file and its companions, with everything that was noted; returns what was deleted."""
        self.close()
        gone = []
        for suffix in ("", "-wal", "-shm"):
            path = self.path.with_name(self.path.name + suffix)
            if path.exists():
                path.unlink()
                gone.append(path)
        return tuple(gone)

    def _pages(self, table: Table) -> Iterator[Learned]:
        """The rows of one table; others may write between two pages."""
        last = 0
        while True:
            with self._file.reading() as db:
                if db is None:
                    return
                found = db.execute(f"select * from {table} where id > ? order by id limit ?", (last, _PAGE))
                page = [_READ[table](row) for row in found]
            if not page:
                return
            yield from page
            last = page[-1].id

    def _insert(self, table: str, **values: Any) -> int:
        with self._file.writing() as db:
            return _insert_row(db, table, {"created": now(), **values})

    def _rows(
        self, table: str, read: Callable[[Any], _Row], newest: int | None = None, **wanted: str | None
    ) -> tuple[_Row, ...]:
        """The rows whose columns are as wanted (None: any), each turned into its value while the file is at hand."""
        asked = {column: value for column, value in wanted.items() if value is not None}
        where = " and ".join(f"{column} = ?" for column in asked)
        with self._file.reading() as db:
            if db is None:
                return ()
            found = db.execute(
                f"select * from {table}{' where ' + where if where else ''} order by id desc limit ?",
                (*asked.values(), -1 if newest is None else newest),
            )
            return tuple(read(row) for row in found)[::-1]


def _insert_row(db: Connection, table: str, values: Mapping[str, Any]) -> int:
    added = db.execute(
        f"insert into {table} ({', '.join(values)}) values ({', '.join('?' * len(values))})", tuple(values.values())
    )
    return int(added.lastrowid or 0)


def _all_columns(row: Learned) -> dict[str, Any]:
    if isinstance(row, PlanRow):
        return plan_columns(row)
    if isinstance(row, LoadRow):
        return load_columns(row)
    return {"created": to_text(row.created), **result_columns(row)}
