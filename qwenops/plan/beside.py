"""One variant beside another by what was measured of both, and the order of variants that follows.

More bits come first unless something else is shown (docs/choice.md). A variant comes before one of more bits where it
is shown to be better at what the task is about, or where it is shown to be worse by no more than a margin that nobody
notices and the task is shown to be faster with it by enough to be worth it. "Shown" is an interval, never a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeVar

from qwenops.history import ResultRow
from qwenops.model.types import Model
from qwenops.plan.intervals import Interval, difference, ratio_apart, ratio_in_rounds
from qwenops.plan.measured import Measured, paired, values_of, was_busy
from qwenops.plan.profile import IMAGE_MARKERS, Profile

Verdict = Literal["better", "worse", "no worse", "not shown", "not measured"]

MARGINS: Final = {"reading": 0.005, "vision": 0.02, "quality": 0.002}
"""What nobody notices: half a character in a hundred, two answers in a hundred, and a divergence of 0.002 nats, half
of what Q8_0 has beside F16 in a model of 135 million parameters (docs/quality-verified.md)."""
WORTH: Final = 1.05
"""A task that is not done at least so much faster is no reason to take fewer bits."""

_MORE_IS_BETTER: Final = ("vision",)
_ALWAYS_SHOWN: Final = ("quality",)
"""Any two quants diverge differently and a few chunks show it: there what is shown counts from the margin on."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Load:
    """How many tokens a task reads and writes at its fullest: what makes of two speeds one time."""

    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class Beside:
    """What is shown of a variant beside another.

    `difference` is ours less theirs in `measure`; `pace` the ratio of speeds at the task, above 1 is faster, and
    `pace_of` what it rests on: "task" (prompt and answer), "tg" or "pp" alone. None: not measured of both.
    """

    verdict: Verdict
    measure: str = ""
    difference: Interval | None = None
    pace: Interval | None = None
    pace_of: str = ""

    @property
    def comes_first(self) -> bool:
        """Whether it is shown to serve better than the other, whatever their bits."""
        faster = self.pace is not None and self.pace.low >= WORTH
        return self.verdict == "better" or (self.verdict == "no worse" and faster)

    @property
    def is_no_worse(self) -> bool:
        """Whether it is shown that nothing is lost by it."""
        return self.verdict in ("better", "no worse")

    @property
    def known(self) -> bool:
        """Whether anything was measured of both."""
        return self.verdict != "not measured" or self.pace is not None

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "comes_first": self.comes_first}


def load_of(task: Profile, images: int, picture_tokens: int) -> Load:
    """What a task at its fullest reads and writes."""
    pictures = images * (picture_tokens + IMAGE_MARKERS) if images else 0
    return Load(task.prompt_tokens + pictures, task.answer_tokens)


def beside(ours: Model, theirs: Model, measured: Measured, task: Profile, load: Load) -> Beside:
    """One variant beside another, by what counts of both."""
    mine, other = measured.evidence(ours).rows, measured.evidence(theirs).rows
    verdict: Verdict = "not measured"
    measure, found = "", None
    for name in task.measured:
        if name in mine and name in other:
            found = difference(*paired(mine[name], other[name]))
            if found is not None:
                measure, verdict = name, _verdict(found, name)
                break
    pace, pace_of = _pace(mine, other, load)
    return Beside(verdict, measure, found, pace, pace_of)


def in_order(items: Sequence[_T], of: Callable[[_T], Model], hold: Callable[[Model, Model], Beside]) -> tuple[_T, ...]:
    """The items, which come with the most bits first, as what was measured orders them.

    The first of what is left gives way to a later one that is shown to come first; that one in turn only to one by
    which nothing is lost beside any that gave way before: small steps shall not add up to a loss that is noticed.
    """
    left, ordered = list(items), []
    while left:
        gave_way = [0]
        for number in range(1, len(left)):
            held = [hold(of(left[number]), of(left[other])) for other in gave_way]
            if held[-1].comes_first and all(one.is_no_worse for one in held):
                gave_way.append(number)
        ordered.append(left.pop(gave_way[-1]))
    return tuple(ordered)


def words(one: Beside) -> str:
    """What is shown, for people, the verdict first and then the speed, each with its interval."""
    said = [_words_of_verdict(one)] if one.difference is not None else []
    if one.pace is not None:
        said.append(_words_of_pace(one.pace, one.pace_of))
    return ", ".join(said)


def _verdict(found: Interval, measure: str) -> Verdict:
    """Where an interval of ours less theirs lies; for a rate of errors less is better."""
    kind = measure.split(" ")[0]
    loss = (found.low, found.high) if kind not in _MORE_IS_BETTER else (-found.high, -found.low)
    if loss[1] < 0:
        return "better"
    if loss[0] > 0 and (kind not in _ALWAYS_SHOWN or loss[1] > MARGINS[kind]):
        return "worse"
    if loss[1] <= MARGINS[kind]:
        return "no worse"
    return "not shown"


def _pace(mine: Mapping[str, ResultRow], other: Mapping[str, ResultRow], load: Load) -> tuple[Interval | None, str]:
    """How much faster the task is done, from the ratios of both speeds; of one of them where only that was measured."""
    ratios = {name: _ratio(mine[name], other[name]) for name in ("pp", "tg") if name in mine and name in other}
    pp, tg = ratios.get("pp"), ratios.get("tg")
    if pp is None or tg is None:
        return (tg, "tg") if tg is not None else (pp, "pp") if pp is not None else (None, "")
    reading, writing = load.prompt_tokens / _middle(other["pp"]), load.answer_tokens / _middle(other["tg"])
    share = reading / (reading + writing)

    def together(p: float, t: float) -> float:
        return 1 / (share / p + (1 - share) / t)

    ends = (together(pp.low, tg.low), together(pp.high, tg.high))
    return Interval(together(pp.value, tg.value), *ends, min(pp.n, tg.n)), "task"


def _ratio(mine: ResultRow, other: ResultRow) -> Interval | None:
    ours, theirs = values_of(mine), values_of(other)
    if mine.run and mine.run == other.run and len(ours) == len(theirs):
        return ratio_in_rounds(ours, theirs)
    return None if was_busy(mine) or was_busy(other) else ratio_apart(ours, theirs)


def _middle(row: ResultRow) -> float:
    import statistics

    return statistics.median(values_of(row))


_NAMES: Final = {"reading": ("reading", "pages"), "vision": ("answers", "questions"), "quality": ("quality", "chunks")}


def _words_of_verdict(one: Beside) -> str:
    assert one.difference
    kind = one.measure.split(" ")[0]
    what, counted = _NAMES[kind]
    d = one.difference
    said = {
        "better": f"{what} is better" if kind != "vision" else "more answers are right",
        "worse": f"{what} is worse" if kind != "vision" else "fewer answers are right",
        "no worse": f"no difference in {what} shown"
        if d.low <= 0 <= d.high
        else f"{what} is worse by less than one notices",
        "not shown": f"too little measured to tell its {what}",
    }[one.verdict]
    if kind == "quality":
        figures = f"KLD {d.value:+.4f}, {d.low:+.4f} to {d.high:+.4f}"
    else:
        unit = "CER" if kind == "reading" else "right"
        figures = f"{unit} {100 * d.value:+.2f} points, {100 * d.low:+.2f} to {100 * d.high:+.2f}"
    return f"{said} ({figures}; {d.n} {counted})"


def _words_of_pace(pace: Interval, pace_of: str) -> str:
    doing = {"task": "", "tg": " at writing", "pp": " at reading prompts"}[pace_of]
    if pace.low <= 1 <= pace.high:
        return f"no difference in speed shown{doing}"
    word = "faster" if pace.value > 1 else "slower"
    shares = sorted(abs(100 * (end - 1)) for end in (pace.low, pace.high))
    return f"{abs(100 * (pace.value - 1)):.0f} % {word}{doing} ({shares[0]:.0f} to {shares[1]:.0f} %)"
