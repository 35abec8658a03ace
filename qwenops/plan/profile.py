"""Task profiles: what a task needs of context and images, read from profiles.toml."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwenops.errors import BadInput
from qwenops.tables import load_table
from qwenops.units import pad

# An image is wrapped in a start and an end marker: llama.cpp tools/mtmd/mtmd.cpp, add_media (b10435).
IMAGE_MARKERS = 2
CONTEXT_STEP = 256


@dataclass(frozen=True)
class Profile:
    """One task. Token counts; `context_goal` is the largest context the task can use.

    `prefer`, `give_up` and `measured` are orders: of what is preferred, of what is given up first, and of the measures
    that tell variants apart. `sampling`, `ends`, `pictures_only` and `mode` are for the Modelfile. profiles.toml says
    what the names mean.
    """

    name: str
    title: str
    images: int
    image_tokens: int
    prompt_tokens: int
    answer_tokens: int
    context_goal: int
    prefer: tuple[str, ...]
    give_up: tuple[str, ...]
    measured: tuple[str, ...] = ("quality",)
    sampling: str = "default"
    ends: bool = False
    pictures_only: bool = False
    mode: Literal["thinking"] | None = None

    def longest_answer(self, num_ctx: int, taken_tokens: int = 0) -> int | None:
        """Where the answer is cut in a context of `num_ctx` tokens; None where it has no end of its own.

        `taken_tokens` is what pictures take. A context that does not hold the task whole is halved between both.
        """
        if not self.ends:
            return None
        return min(self.answer_tokens, max(num_ctx - self.prompt_tokens - taken_tokens, num_ctx // 2))

    def floor(self, *, sees: bool, image_tokens: int) -> int:
        """The smallest context that holds the task: every image in full, the prompt and the answer.

        Rounded up to llama.cpp's own step of 256 cells (src/llama-context.cpp, b10435).
        """
        pictures = self.images * (min(image_tokens, self.image_tokens) + IMAGE_MARKERS) if sees else 0
        return pad(pictures + self.prompt_tokens + self.answer_tokens, CONTEXT_STEP)


def profiles() -> dict[str, Profile]:
    """Every shipped profile by name."""
    return {name: _profile(name, row) for name, row in load_table("qwenops.plan", "profiles.toml").items()}


def _profile(name: str, row: Mapping[str, Any]) -> Profile:
    orders = {key: tuple(row[key]) for key in ("prefer", "give_up", "measured")}
    return Profile(name=name, **{**row, **orders})


def profile(name: str) -> Profile:
    """One profile; BadInput names the nearest when there is none of that name."""
    known = profiles()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"--for {near[0]}" if near else ""
    raise BadInput(f"there is no task {name!r}; there are {', '.join(known)}", do=hint or f"--for {next(iter(known))}")
