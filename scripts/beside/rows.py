"""One load with what both estimators said of it, and whether it keeps the bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = {
    "dense": "dense",
    "window": "sliding window",
    "experts": "mixture of experts",
    "hybrid": "hybrid",
    "vision": "vision",
}
# Every buffer in a log is rounded to a hundredth of a MiB; what two estimates differ by below this is not known.
ROUNDING_MIB = 0.05
TEN_TIMES = 10


@dataclass(frozen=True)
class Row:
    """One load: the device's buffers as logged, and what both said of them, in MiB by part."""

    name: str
    kind: str
    how: str
    truth: Mapping[str, float]
    ours: Mapping[str, float]
    theirs: Mapping[str, float]
    origin: str = "listed"
    other_build: bool = False

    @property
    def total(self) -> float:
        """What the device holds."""
        return sum(self.truth.values())

    def off(self, said: Mapping[str, float]) -> float:
        """By how much one of the two is off, over the parts that were logged."""
        return sum(said[part] for part in self.truth) - self.total

    @property
    def fault(self) -> str | None:
        """How this row breaks the bar; the graph of another build is not the one that the closed form replays."""
        ours, theirs = abs(self.off(self.ours)), abs(self.off(self.theirs))
        if ours <= ROUNDING_MIB:
            return None
        if self.kind in ("vision", "hybrid") and not self.other_build and ours * TEN_TIMES > theirs:
            return f"only {theirs / ours:.1f} times closer"
        return "further off" if ours > theirs else None
