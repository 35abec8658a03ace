"""How a text is cut into windows, and which decode calls read them: llama-perplexity's way (b10435).

The tokens are cut into windows of `ctx`, a rest is left out. Each window is read from an empty cache, begins with the
vocabulary's BOS in the place of its first token where the vocabulary adds one, and only the tokens after its middle are
scored: from position ctx/2 each output predicts the next token, and the last one has nothing to predict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """Outputs of one decode that belong together: `count` of them from position `position` of window `chunk`."""

    chunk: int
    position: int
    count: int


@dataclass(frozen=True)
class Decode:
    """One decode call: the same stretch of one window or more, side by side as sequences 0, 1, …

    `begins` says that the cache is cleared before it, `ends` that its windows are read in full after it.
    """

    chunks: tuple[int, ...]
    start: int
    length: int
    rows: tuple[Rows, ...]
    begins: bool
    ends: bool

    @property
    def tokens(self) -> int:
        """How many tokens it decodes."""
        return len(self.chunks) * self.length


def first_scored(ctx: int) -> int:
    """The position of the first output that is scored."""
    return ctx // 2


def scored(ctx: int) -> int:
    """How many tokens of a window are scored."""
    return ctx - 1 - first_scored(ctx)


def abreast(ctx: int, batch: int) -> int:
    """How many windows a batch holds side by side; one where a window is longer than a batch."""
    return max(1, batch // ctx)


def decodes(chunks: Sequence[int], ctx: int, batch: int) -> Iterator[Decode]:
    """The calls that read some windows, in order."""
    step = abreast(ctx, batch)
    first, last = first_scored(ctx), ctx - 1
    for begin in range(0, len(chunks), step):
        together = tuple(chunks[begin : begin + step])
        for start in range(0, ctx, batch):
            length = min(batch, ctx - start)
            low, high = max(first, start), min(last, start + length)
            rows = tuple(Rows(c, low, high - low) for c in together) if high > low else ()
            yield Decode(together, start, length, rows, begins=start == 0, ends=start + length == ctx)
