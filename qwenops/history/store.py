"""The history: what was planned, loaded, measured and made on this machine. Rows in, frozen dataclasses out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from qwenops.errors import BadInput
from qwenops.history.file import BUSY_SECONDS, HistoryFile, now
from qwenops.history.rows import LoadRow, MadeKind, MadeRow, Outcome, PlanRow, RecipeRow, ResultKind, ResultRow
from qwenops.paths import data_dir

if TYPE_CHECKING:
    from sqlite3 import Connection

_Row = TypeVar("_Row")
_KINDS = ("model", "file", "setting")
_WORDS = ("kind", "model", "test", "quant", "model_key", "unit", "run", "engine", "device")
_MAPPINGS = ("settings", "machine", "evidence")


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

    return hashlib.sha256(_json(values).encode()).hexdigest()[:32]


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
        return self._insert("plans", model_key=model_key, plan=_json(plan))

    def plans(self, model_key: str | None = None) -> tuple[PlanRow, ...]:
        """Plans, oldest first; those of one model, or all."""
        return self._rows("plans", _plan, model_key=model_key)

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
            predicted=_json(predicted),
            measured=None if measured is None else _json(measured),
            ok=None if ok is None else int(ok),
        )

    def finish_load(self, load_id: int, measured: Mapping[str, Any] | None, ok: bool) -> None:
        """Add what was measured to a recorded load. Raises BadInput when there is no such load or it was finished."""
        with self._file.writing() as db:
            changed = db.execute(
                "update loads set measured = ?, ok = ? where id = ? and ok is null",
                (None if measured is None else _json(measured), int(ok), load_id),
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
            _load,
            newest=newest,
            model_key=model_key,
            settings_key=settings_key,
            runtime_build=runtime_build,
            device=device,
        )

    # --- results

    def record_results(self, outcomes: Iterable[Outcome], *, created: datetime | None = None) -> tuple[int, ...]:
        """Keep benchmark results, all or none; returns their ids. `created` is for those that come from elsewhere."""
        rows = [_columns(outcome) for outcome in outcomes]
        when = now() if created is None else created.astimezone(timezone.utc).isoformat(timespec="microseconds")
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
            "results", _result, newest=newest, kind=kind, model=model, model_key=model_key, test=test, run=run
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
                db.execute("update made set details = ? where id = ?", (_json(details or {}), standing["id"]))
                return int(standing["id"])
            added = db.execute(
                "insert into made (created, kind, name, location, details) values (?, ?, ?, ?, ?)",
                (now(), *same, _json(details or {})),
            )
            return int(added.lastrowid or 0)

    def made(self, kind: MadeKind | None = None, *, removed: bool = False) -> tuple[MadeRow, ...]:
        """What qwenops made and is still there, oldest first; with `removed`, also what was taken away again."""
        rows = self._rows("made", _made, kind=kind)
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
                (now(), name, place, _json(recipe)),
            )

    def recipes(self, name: str | None = None, place: str | None = None) -> tuple[RecipeRow, ...]:
        """How models were made, oldest first; of one name or place, or all."""
        return self._rows("recipes", _recipe, name=name, place=place)

    def forget_recipe(self, name: str, place: str) -> None:
        """The model is gone."""
        with self._file.writing() as db:
            db.execute("delete from recipes where name = ? and place = ?", (name, place))

    # --- all of it

    def clear(self) -> dict[str, int]:
        """Forget plans, loads and results; returns how many of each. What was made stays, for uninstall to find."""
        gone: dict[str, int] = {}
        with self._file.reading() as db:
            if db is None:
                return {"plans": 0, "loads": 0, "results": 0}
        with self._file.writing() as db:
            for table in ("plans", "loads", "results"):
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


def _plan(row: Any) -> PlanRow:
    return PlanRow(row["id"], _time(row["created"]), row["model_key"], json.loads(row["plan"]))


def _load(row: Any) -> LoadRow:
    return LoadRow(
        id=row["id"],
        created=_time(row["created"]),
        model_key=row["model_key"],
        settings_key=row["settings_key"],
        runtime_build=row["runtime_build"],
        device=row["device"],
        predicted=json.loads(row["predicted"]),
        measured=None if row["measured"] is None else json.loads(row["measured"]),
        ok=None if row["ok"] is None else bool(row["ok"]),
    )


def _result(row: Any) -> ResultRow:
    return ResultRow(
        id=row["id"],
        created=_time(row["created"]),
        samples=tuple(json.loads(row["samples"])),
        **{name: row[name] for name in _WORDS},
        **{name: json.loads(row[name]) for name in _MAPPINGS},
    )


def _columns(outcome: Outcome) -> dict[str, str]:
    return {
        "samples": _json(list(outcome.samples)),
        **{name: getattr(outcome, name) for name in _WORDS},
        **{name: _json(getattr(outcome, name)) for name in _MAPPINGS},
    }


def _insert_row(db: Connection, table: str, values: Mapping[str, Any]) -> int:
    added = db.execute(
        f"insert into {table} ({', '.join(values)}) values ({', '.join('?' * len(values))})", tuple(values.values())
    )
    return int(added.lastrowid or 0)


def _made(row: Any) -> MadeRow:
    return MadeRow(
        id=row["id"],
        created=_time(row["created"]),
        kind=row["kind"],
        name=row["name"],
        location=row["location"],
        details=json.loads(row["details"]),
        removed=None if row["removed"] is None else _time(row["removed"]),
    )


def _recipe(row: Any) -> RecipeRow:
    return RecipeRow(row["id"], _time(row["created"]), row["name"], row["place"], json.loads(row["recipe"]))


def _json(value: Any) -> str:
    """Canonical JSON, so that equal values are equal text. Raises BadInput for what JSON cannot say."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"the history keeps plain JSON values only: {error}") from error


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
