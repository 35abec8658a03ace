"""Answers to one's own pages: what was said first, then what it cost, page by page and model by model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, LABEL, grid

if TYPE_CHECKING:
    from rich.console import RenderableType


def try_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Each page with the answers of all models, a table of tokens and seconds, and one of the models."""
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
        yield grid(["model", "page", "picture", "prompt", "answer", "read s", "write s", "tok/s"], rows, left=2)
    if len(data["runs"]) > 1:
        yield Text("")
        yield _models(data)


def _models(data: Mapping[str, Any]) -> RenderableType:
    """A row a model; columns for what went wrong only where something did."""
    every = data["summary"]
    faults = [key for key in ("empty", "looped", "cut", "refused", "not_of_schema") if any(one[key] for one in every)]
    if data["schema_file"] and "not_of_schema" not in faults:
        faults.append("not_of_schema")
    header = ["model", "pages", "ok", *("not of schema" if key == "not_of_schema" else key for key in faults)]
    rows = [
        [
            one["name"],
            str(one["pages"]),
            str(one["ok"]),
            *(str(one[key]) for key in faults),
            str(one["tokens"]),
            *(_figure(one[key]) for key in ("load_seconds", "seconds_per_page", "tokens_per_second")),
        ]
        for one in every
    ]
    return grid([*header, "tokens", "load s", "s/page", "tok/s"], rows)


def _by_page(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    pages: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        pages.setdefault(_label(run), []).append(run)
    return pages


def _label(run: Mapping[str, Any]) -> str:
    return str(run["file"]) + (f" p. {run['page']}" if run["page"] else "")


def _answer(run: Mapping[str, Any]) -> str:
    if run["error"]:
        return "\n".join([f"failed: {run['error']}", *(f"  {step}" for step in run["do"])])
    # what stands on a page is nobody's command to this terminal
    text = "".join(c if c.isprintable() or c in "\n\t" else " " for c in str(run["text"]).strip())
    said = f"→ {run['saved']}" if run["saved"] and text else text
    return "\n".join(line for line in (said, _trouble(run)) if line) or "(nothing)"


def _trouble(run: Mapping[str, Any]) -> str:
    """What is wrong with an answer, in brackets; empty where nothing is."""
    thoughts = str(run["thinking"]).strip()
    if run["looped"]:
        return f"(in a loop after {run['tokens']} tokens)" if run["tokens"] else "(in a loop: Ollama broke it off)"
    if run["cut"] and run["empty"] and thoughts:
        return f"(still thinking after {run['tokens']} tokens: --no-think, or a larger --num-predict)"
    if run["context_full"]:
        return f"(cut off after {run['tokens']} tokens: the context of {run['num_ctx']} is full)"
    if run["cut"]:
        return f"(cut off after {run['tokens']} tokens: --num-predict)"
    if run["empty"] and thoughts:
        return f"(nothing but {len(thoughts)} characters of thought: --no-think)"
    return f"(not of the schema: {run['schema_problem']})" if run["schema_problem"] else ""


def _cells(run: Mapping[str, Any]) -> list[str]:
    times = [f"{run[key]:.1f}" for key in ("prompt_seconds", "generate_seconds")]
    name = _label(run).replace("\\", "/").rpartition("/")[2]
    tokens = ["·" if run[key] is None else str(run[key]) for key in ("picture_tokens", "prompt_tokens", "tokens")]
    return [run["name"], name, *tokens, *times, _figure(run["tokens_per_second"])]


def _figure(value: float | None) -> str:
    return "·" if value is None else f"{value:.1f}"
