"""What was learned on this machine, in one SQLite file. `history.open()` gives it."""

from __future__ import annotations

from qwenops.history.rows import LoadRow, MadeKind, MadeRow, Outcome, PlanRow, RecipeRow, ResultKind, ResultRow
from qwenops.history.store import History, history_path, key_of, open

__all__ = [
    "History",
    "LoadRow",
    "MadeKind",
    "MadeRow",
    "Outcome",
    "PlanRow",
    "RecipeRow",
    "ResultKind",
    "ResultRow",
    "history_path",
    "key_of",
    "open",
]
