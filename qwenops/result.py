"""What a command hands to the renderer: data, notes, an exit code. Nothing is printed below cli/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """One command's outcome.

    `schema` names the JSON envelope and its version ("qwenops.need/1"); `data` holds plain JSON values only
    (the text view is drawn from the same `data`, so the two cannot drift); `notes` go to stderr. `rows` names the entry
    of `data` that is the whole JSON, for a command that answers with a plain list.
    """

    schema: str
    data: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    exit_code: int = 0
    unit: str = field(default="GiB")
    rows: str | None = None

    def envelope(self) -> Any:
        """The versioned JSON object: the schema first, then the data, then the notes; or the plain list."""
        if self.rows is not None:
            return self.data[self.rows]
        return {"schema": self.schema, **self.data, "notes": list(self.notes)}
