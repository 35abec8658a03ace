"""Log-probabilities beside a reference's: kept in 16 bits, and compared as llama-perplexity compares them.

A reference's row of logits becomes 16-bit steps between its largest and its smallest logit, or the largest less 16
where that is more; what a divergence sums over are the tokens whose log-probability in those steps is above -16.
Source: log_softmax in its three forms, tools/perplexity/perplexity.cpp, b10435, where every token's step is written
out. Here only those above -16 are kept, with a bit for each token of the vocabulary: the sums are the same, on a third
of the disk.

All of it works on blocks of rows small enough for the processor's cache, in 32-bit floats as the tool does.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_STEPS = np.float32(65535.0)
_SPAN = np.float32(16.0)


@dataclass(frozen=True)
class Kept:
    """The reference's distribution at each row: steps of the likely tokens, and what the others need.

    `masks` has a bit a token (row by row), `counts` how many are set, `values` their steps one row after another.
    """

    scale: Floats
    lowest: Floats
    nll: Floats
    top: NDArray[np.int32]
    counts: NDArray[np.int32]
    masks: NDArray[np.uint8]
    values: NDArray[np.uint16]

    def part(self, low: int, high: int) -> Kept:
        """Some of its rows."""
        begin, end = int(self.counts[:low].sum()), int(self.counts[:high].sum())
        here = slice(low, high)
        return Kept(
            self.scale[here],
            self.lowest[here],
            self.nll[here],
            self.top[here],
            self.counts[here],
            self.masks[here],
            self.values[begin:end],
        )

    @classmethod
    def joined(cls, parts: Sequence[Kept]) -> Kept:
        """The rows of several, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([p.scale for p in parts]),
            np.concatenate([p.lowest for p in parts]),
            np.concatenate([p.nll for p in parts]),
            np.concatenate([p.top for p in parts]),
            np.concatenate([p.counts for p in parts]),
            np.concatenate([p.masks for p in parts]),
            np.concatenate([p.values for p in parts]),
        )


@dataclass(frozen=True)
class Scores:
    """What was measured at each row: negative log-likelihood, the reference's, divergence, same top token."""

    nll: Floats
    nll_base: Floats | None = None
    kld: Floats | None = None
    same: NDArray[np.bool_] | None = None

    def as_data(self) -> dict[str, NDArray[Any]]:
        """The arrays that are there, by name."""
        named = {"nll": self.nll, "nll_base": self.nll_base, "kld": self.kld, "same": self.same}
        return {name: array for name, array in named.items() if array is not None}


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of several stretches, in order."""
    if len(parts) == 1:
        return parts[0]
    return Scores(**{name: np.concatenate([p.as_data()[name] for p in parts]) for name in parts[0].as_data()})


class NotFinite(ValueError):
    """A row of logits holds what is no number."""


def mask_bytes(vocabulary: int) -> int:
    """Bytes of a row's bits."""
    return -(-vocabulary // 8)


def keep(logits: Floats, targets: NDArray[np.int32], pool: Executor, workers: int) -> tuple[Kept, Scores]:
    """A reference's rows in compact form, and what it says of the tokens that really came."""
    rows, vocabulary = logits.shape
    kept = Kept(
        scale=np.empty(rows, np.float32),
        lowest=np.empty(rows, np.float32),
        nll=np.empty(rows, np.float32),
        top=np.empty(rows, np.int32),
        counts=np.empty(rows, np.int32),
        masks=np.empty((rows, mask_bytes(vocabulary)), np.uint8),
        values=np.empty(0, np.uint16),
    )
    nll = np.empty(rows, np.float32)
    values: list[NDArray[np.uint16]] = [kept.values] * rows

    def some(low: int, high: int) -> None:
        room = _Room(vocabulary)
        for row in range(low, high):
            values[row] = _keep_row(logits[row], int(targets[row]), row, kept, nll, room)

    _share(pool, workers, rows, some)
    return replace(kept, values=np.concatenate(values)), Scores(nll)


def compare(logits: Floats, targets: NDArray[np.int32], kept: Kept, pool: Executor, workers: int) -> Scores:
    """A variant's rows beside the reference's."""
    rows, vocabulary = logits.shape
    nll, kld = np.empty(rows, np.float32), np.empty(rows, np.float32)
    same = np.empty(rows, np.bool_)
    ends = np.cumsum(kept.counts, dtype=np.int64)

    def some(low: int, high: int) -> None:
        room = _Room(vocabulary)
        for row in range(low, high):
            values = kept.values[ends[row] - kept.counts[row] : ends[row]]
            top, log_sum = _log_sum(logits[row], room.first)
            nll[row] = log_sum - logits[row, targets[row]]
            same[row] = top == kept.top[row]
            kld[row] = _divergence(logits[row], log_sum, kept, row, values, room)
            if not np.isfinite(nll[row] + kld[row]):
                raise NotFinite("the logits rule out a token that came, or that the reference expects")

    _share(pool, workers, rows, some)
    return Scores(nll, kept.nll, kld, same)


class _Room:
    """What one worker writes intermediate values into: new arrays of this size would cost more than the sums."""

    def __init__(self, vocabulary: int) -> None:
        self.first = np.empty(vocabulary, np.float32)
        self.second = np.empty(vocabulary, np.float32)


def _log_sum(row: Floats, work: Floats) -> tuple[int, float]:
    """The likeliest token and the logarithm of the sum of all exponentials; `work` is written over."""
    top = int(row.argmax())
    if not np.isfinite(row[top]):  # the largest of a row that holds a NaN is the NaN
        raise NotFinite("the logits hold what is no number")
    np.subtract(row, row[top], out=work)
    np.exp(work, out=work)
    return top, float(row[top]) + float(np.log(work.sum()))


def _keep_row(row: Floats, target: int, at: int, kept: Kept, nll: Floats, room: _Room) -> NDArray[np.uint16]:
    top, log_sum = _log_sum(row, room.first)
    smallest = max(row.min(), row[top] - _SPAN)
    scale = np.float32((row[top] - smallest) / _STEPS)
    lowest = np.float32(smallest - np.float32(log_sum))
    steps = _steps(row, smallest, scale, room.first)
    likely = steps >= _first_likely(scale, lowest)
    count = int(np.count_nonzero(likely))
    nll[at] = log_sum - row[target]
    kept.scale[at], kept.lowest[at], kept.counts[at] = scale, lowest, count
    # Of equal steps the first is the top, as the tool finds it when it reads them back.
    kept.top[at] = steps.argmax()
    kept.nll[at] = -(scale * max(steps[target], np.float32(0)) + lowest)
    kept.masks[at] = np.packbits(likely, bitorder="little")
    if count < len(row):  # "raise" would make a copy first
        steps = np.take(steps, np.flatnonzero(likely), out=room.second[:count], mode="clip")
    return steps.astype(np.uint16)


def _steps(values: Floats, smallest: np.float32, scale: np.float32, out: Floats) -> Floats:
    """Logits as whole steps above the smallest that counts; below zero for those under it."""
    if not scale:
        out.fill(0)
        return out
    np.subtract(values, smallest, out=out)
    np.multiply(out, np.float32(1) / scale, out=out)
    return np.rint(out, out=out)


def _first_likely(scale: np.float32, lowest: np.float32) -> int:
    """The first step whose log-probability, worked out in 32 bits as the tool does, is above -16; never below zero."""
    if not scale:
        return 0
    step = max(0, int((-_SPAN - lowest) / scale) - 2)
    while step < _STEPS and np.float32(step) * scale + lowest <= -_SPAN:
        step += 1
    return step


def _divergence(row: Floats, log_sum: float, kept: Kept, at: int, values: NDArray[np.uint16], room: _Room) -> float:
    """The sum of p (log p - log q) over the likely tokens of the reference."""
    count = len(values)
    theirs, further = room.first[:count], room.second[:count]
    np.multiply(values, kept.scale[at], out=theirs)
    np.add(theirs, kept.lowest[at], out=theirs)
    ours = row
    if count < len(row):
        likely = np.flatnonzero(np.unpackbits(kept.masks[at], count=len(row), bitorder="little").view(np.bool_))
        ours = np.take(row, likely, out=further, mode="clip")
    np.subtract(theirs, ours, out=further)
    np.add(further, np.float32(log_sum), out=further)
    np.exp(theirs, out=theirs)
    np.multiply(further, theirs, out=further)  # no dot product: a BLAS would start threads of its own
    return float(further.sum())


def _share(pool: Executor, workers: int, rows: int, some: Any) -> None:
    """Every row by one of the workers; numpy lets go of the interpreter while it works."""
    edges = [rows * i // workers for i in range(workers + 1)]
    for done in [pool.submit(some, low, high) for low, high in pairwise(edges) if high > low]:
        done.result()
