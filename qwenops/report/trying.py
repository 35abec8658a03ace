"""Answers to one's own pages: what was said first, then what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, LABEL, grid

if TYPE_CHECKING:
    from rich.console import RenderableType


def try_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Each page with the answers of all models, then a table of tokens and seconds."""
    from rich.text import Text

    several = len(data["models"]) > 1
    for label, runs in _by_page(data["runs"]).items():
        yield Text(label, style=LABEL)
        for run in runs:
            if several:
                yield Text(run["name"], style=FAINT)
            yield Text(_answer(run))
        yield Text("")
    rows = [_cells(run) for run in data["runs"] if not run["error"]]
    if rows:
        yield grid(["model", "page", "prompt", "answer", "load s", "read s", "write s", "tokens/s"], rows, left=2)


def _by_page(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    pages: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        pages.setdefault(_label(run), []).append(run)
    return pages


def _label(run: Mapping[str, Any]) -> str:
    return str(run["file"]) + (f" p. {run['page']}" if run["page"] else "")


def _answer(run: Mapping[str, Any]) -> str:
    if run["error"]:
        return f"failed: {run['error']}"
    # what stands on a page is nobody's command to this terminal
    text = "".join(c if c.isprintable() or c in "\n\t" else " " for c in str(run["text"]).strip())
    if run["cut"] and not text and run["thinking"]:
        return f"(still thinking after {run['tokens']} tokens: --no-think, or a larger --num-predict)"
    if run["cut"]:
        return f"{text}\n(cut off after {run['tokens']} tokens: --num-predict, or a loop)"
    if not text and run["thinking"]:
        return f"(nothing but {len(run['thinking'])} characters of thought: --no-think)"
    return text or "(nothing)"


def _cells(run: Mapping[str, Any]) -> list[str]:
    speed = "·" if run["tokens_per_second"] is None else f"{run['tokens_per_second']:.1f}"
    times = [f"{run[key]:.1f}" for key in ("load_seconds", "prompt_seconds", "generate_seconds")]
    name = _label(run).replace("\\", "/").rpartition("/")[2]
    return [run["name"], name, str(run["prompt_tokens"]), str(run["tokens"]), *times, speed]
