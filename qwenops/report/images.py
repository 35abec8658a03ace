"""What pictures cost: a row each, and what they come to together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, grid

if TYPE_CHECKING:
    from rich.console import RenderableType


def image_tokens_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Pixels as stored and as seen, dots per inch that are left, tokens; then the sum and the context it wants."""
    from rich.text import Text

    rows = [row for row in data["images"] if "error" not in row]
    if rows:
        yield grid(["picture", "pixels", "seen as", "dpi", "tokens"], [_cells(row) for row in rows])
    cell = data["cell_pixels"]
    yield Text(
        f"{data['family']}: a token is {cell} x {cell} pixels, a picture {data['min_tokens']} to {data['max_tokens']} "
        "tokens, and two more that stand around it",
        style=FAINT,
    )
    if rows:
        yield Text(_together(data, len(rows)))


def _cells(row: Mapping[str, Any]) -> list[str]:
    dpi = "·" if row["effective_dpi"] is None else f"{row['effective_dpi']:.0f}"
    return [
        row["file"],
        f"{row['width']} x {row['height']}",
        f"{row['resized_width']} x {row['resized_height']}",
        dpi,
        str(row["tokens"]),
    ]


def _together(data: Mapping[str, Any], count: int) -> str:
    what = "it takes" if count == 1 else f"the {count} together take"
    text = f"In a prompt {what} {data['prompt_tokens']} tokens; "
    if data["num_ctx"] is None:
        return text + f"num_ctx {data['smallest_num_ctx']} or more, with the words and the answer on top."
    left = data["num_ctx"] - data["prompt_tokens"]
    if data["fits"]:
        return text + f"a context of {data['num_ctx']} leaves {left} for the words and the answer."
    return text + f"a context of {data['num_ctx']} is too small: num_ctx {data['smallest_num_ctx']} or more."
