"""What an update would change, or did: then and now, a model at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import facts
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType


def update_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A block a model."""
    from rich.text import Text

    for model in data["models"]:
        yield Text(f"{model['name']}  {_headline(model, dry_run=data['dry_run'])}", style="bold")
        rows = [("why", reason) for reason in model["stale"]]
        rows += [(_word(c["what"]), f"{_value(c, 'before')} → {_value(c, 'after')}") for c in model["changes"]]
        if model["download_bytes"]:
            rows.append(("download", human(model["download_bytes"])))
        rows += [("do", command) for command in model["do"]]
        done = model["done"]
        if done and done["undo"]:
            rows.append(("undo", done["undo"]))
        if rows:
            yield facts(rows)


def _headline(model: Mapping[str, Any], *, dry_run: bool) -> str:
    done = model["done"]
    if model["fault"]:
        return f"cannot be planned again: {model['fault']}"
    if not model["needed"]:
        return "is as it would be planned now"
    if dry_run or done is None:
        return "would be made again"
    return "was made again" if done["ok"] else f"failed: {done['why']}"


def _word(what: str) -> str:
    return {"memory_bytes": "memory", "num_gpu": "num_gpu", "kv_type": "KV", "picture_tokens": "image tokens"}.get(
        what, what.replace("_", " ") if what != "num_ctx" else what
    )


def _value(change: Mapping[str, Any], when: str) -> str:
    value = change[when]
    if value is None:
        return "·"
    return human(value) if change["what"].endswith("_bytes") else str(value)
