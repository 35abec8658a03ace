"""What was learned on this machine, in one SQLite file. `history.open()` gives it."""

from __future__ import annotations

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
from qwenops.history.store import History, history_path, key_of, open

__all__ = [
    "TABLES",
    "History",
    "Learned",
    "LoadRow",
    "MadeKind",
    "MadeRow",
    "Outcome",
    "PlanRow",
    "RecipeRow",
    "ResultKind",
    "ResultRow",
    "Table",
    "history_path",
    "key_of",
    "open",
]
