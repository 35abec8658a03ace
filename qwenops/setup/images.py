"""How many tokens pictures take: the rule of the family, the limits in force, and what fits a context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.model.image_tokens import (
    CELL_PIXELS,
    MARKER_TOKENS,
    MAX_TOKENS,
    MIN_TOKENS,
    cell_pixels,
    tokens_in_cells,
)
from qwenops.model.picture import Picture, read_picture, unfolded
from qwenops.plan.profile import CONTEXT_STEP
from qwenops.result import Result
from qwenops.runtime.flags import IMAGE_MIN_TOKENS, IMAGE_MIN_TOKENS_ARCHITECTURES, image_limits
from qwenops.setup.given import Given
from qwenops.units import pad

FAMILIES: Final = {
    "qwen2vl": "qwen2vl",
    "qwen2.5vl": "qwen25vl",
    "qwen3vl": "qwen3vl",
    "qwen3.5": "qwen35",
}
"""Families by the name people use, with the architecture that decides the limits."""


@dataclass(frozen=True)
class Rule:
    """How one model counts: the side of a token's cell in pixels, and between how many tokens a picture is scaled."""

    name: str
    cell: int
    min_tokens: int
    max_tokens: int


def image_tokens_result(
    files: Sequence[Path],
    *,
    model: Given | None,
    family: str | None,
    min_tokens: int | None,
    max_tokens: int | None,
    num_ctx: int | None,
    dpi: float | None,
    offline: bool = False,
) -> Result:
    """Tokens of each picture under the limits in force ("qwenops.image-tokens/1"; its JSON is the plain list).

    Exit code 1 when a picture cannot be used, or when they do not fit `num_ctx` together.
    """
    rule = _rule(model, family, min_tokens, max_tokens, offline=offline)
    images = [_row(path, rule, dpi) for path in unfolded(files)]
    if not images:
        raise BadInput(f"{files[0]} holds no pictures", do="give pictures, or a folder of them")
    whole = sum(row["tokens"] + MARKER_TOKENS for row in images if "error" not in row)
    fits = num_ctx is None or whole < num_ctx
    data = {
        "family": rule.name,
        "cell_pixels": rule.cell,
        "min_tokens": rule.min_tokens,
        "max_tokens": rule.max_tokens,
        "images": images,
        "prompt_tokens": whole,
        "smallest_num_ctx": pad(whole + 1, CONTEXT_STEP),
        "num_ctx": num_ctx,
        "fits": fits,
    }
    failed = any("error" in row for row in images)
    notes = (
        *(row["error"] for row in images if "error" in row),
        *turned_notes([row["file"] for row in images if row.get("turned")]),
    )
    return Result("qwenops.image-tokens/1", data, notes, 1 if failed or not fits else 0, rows="images")


def _rule(model: Given | None, family: str | None, least: int | None, most: int | None, *, offline: bool) -> Rule:
    if model is not None:
        name, architecture, cell = _of_model(model, offline=offline)
    else:
        name = family or "qwen3vl"
        architecture = FAMILIES[name]
        cell = CELL_PIXELS[architecture]
    if least is None or most is None:
        served_least, served_most = _limits_in_force(architecture)
        least = least or served_least or MIN_TOKENS
        most = most or served_most or MAX_TOKENS
    if least > most:
        raise BadInput(
            f"pictures of at least {least} and at most {most} tokens contradict each other",
            do=(
                f"--min-tokens {most}, or a larger --max-tokens",
                f"(Ollama asks for at least {IMAGE_MIN_TOKENS} of {', '.join(IMAGE_MIN_TOKENS_ARCHITECTURES)}, and "
                "does not load them under a smaller most)",
            ),
        )
    return Rule(name, cell, least, most)


def _of_model(given: Given, *, offline: bool) -> tuple[str, str, int]:
    """Name, architecture and cell of a model: a file, a reference, or a name that Ollama knows."""
    from qwenops.setup.given import variants
    from qwenops.setup.registered import registered_model

    if isinstance(given, Path) and not given.exists():
        from qwenops.runtime.discover import discover

        found = registered_model(str(given), discover(probe_devices=False))
        if found is None:
            raise BadInput(f"there is no file {given}, and no model of that name in Ollama", do="qwenops list")
        model = found.model
    else:
        model = variants((given,), None, offline=offline)[0]
    if model.projector is None:
        from qwenops.memory.inline import inline_projector

        projector = inline_projector(model)
    else:
        projector = model.projector
    if projector is None:
        raise BadInput(f"{model.name} takes no pictures: it has no projector", do="put its mmproj file beside it")
    if projector.kind not in CELL_PIXELS:
        raise BadInput(f"the image tokens of {projector.kind!r} are not known", do="known: " + ", ".join(FAMILIES))
    return model.name, model.architecture, cell_pixels(projector)


def _limits_in_force(architecture: str) -> tuple[int | None, int | None]:
    """The limits that the Ollama server in sight passes on for an architecture."""
    from qwenops.setup.answers import look_around

    _, runtime = look_around(None, probe_devices=False)
    return image_limits(architecture, runtime.environment if runtime else {})


def _row(path: Path, rule: Rule, dpi: float | None) -> dict[str, Any]:
    try:
        picture = read_picture(path)
    except BadInput as e:
        return {"file": str(path), "error": e.message}
    seen = tokens_in_cells(picture.width, picture.height, rule.cell, rule.min_tokens, rule.max_tokens)
    return {
        "file": str(path),
        "width": picture.width,
        "height": picture.height,
        "resized_width": seen.width,
        "resized_height": seen.height,
        "tokens": seen.tokens,
        "effective_dpi": _effective(picture, seen.width * seen.height, dpi),
        "turned": picture.turned,
    }


def _effective(picture: Picture, seen_pixels: int, dpi: float | None) -> float | None:
    """Dots per inch that are left after the resize, over both sides; None where the file's own are not known."""
    stated = dpi or picture.dpi
    if stated is None:
        return None
    return round(stated * math.sqrt(seen_pixels / (picture.width * picture.height)), 1)


def turned_notes(on_side: Sequence[str]) -> tuple[str, ...]:
    """A note about pictures, by name, that are stored on their side: the runtime sees them so."""
    if not on_side:
        return ()
    which = on_side[0] if len(on_side) == 1 else f"{len(on_side)} pictures"
    return (f"{which}: stored turned, and the runtime does not turn pictures upright; save the picture upright first",)
