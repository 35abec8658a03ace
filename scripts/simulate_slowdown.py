"""How often `bench speed` finds a slowdown that was planted, and how often it claims one that was not.

    python -m scripts.simulate_slowdown [--repetitions 100] [--check]     simulated, writes docs/slowdown-simulated.md
    python -m scripts.simulate_slowdown --record MODEL                    records this machine's noise for it
    python -m scripts.simulate_slowdown --real MODEL [--planted 3]        a busy wait after every decode, for real

Simulated runs take the noise from real samples, recorded here one after another on one model: the order is kept in
runs of 25, so that drift, bursts and what neighbours have in common stay in it. To that a second machine is made up
too: a slow wave of 5 %, one sample in twenty slower by up to a third, and neighbours alike. A run is what
`--precision 1%` does: two variants, two tests, rounds until every interval is narrow enough, or 500 rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from qwenops.bench.order import is_due, is_precise
from qwenops.bench.statistics import Verdict, compare_apart, compare_ratios, half_width

PAGE = Path(__file__).resolve().parent.parent / "docs" / "slowdown-simulated.md"
NOISE = Path(__file__).with_name("slowdown_noise.json")
PRECISION, MOST_ROUNDS, TESTS, TOLERANCE = 0.01, 500, 2, 0.01
RUN = 25
BETWEEN_RUNS = 0.003
"""What a machine does between two runs: their levels differ by so much (a standard deviation), beside all noise."""

_RECORDED = "recorded"
_REAL = "## For real"
"""The part of the page that `--real` is pasted under; it stays as the rest is written anew."""
Noise = Iterator[float]


def main() -> int:
    """Simulate, record or measure, as asked."""
    options = _options()
    if options.record:
        return record(options.record)
    if options.real:
        return real(options.real, options.planted / 100, options.precision / 100, options.time_limit)
    return simulate(options.repetitions, check=options.check)


def simulate(repetitions: int, *, check: bool) -> int:
    """Every noise, planted slowdown and way to compare, `repetitions` times each; the table goes to the docs."""
    recorded = json.loads(NOISE.read_text(encoding="utf-8"))
    rows, enough = [], True
    for name in (_RECORDED, "made up"):
        for planted in (0.0, 0.03):
            seeds = [f"{name}/{planted}/{i}" for i in range(repetitions)]
            with ProcessPoolExecutor() as pool:
                found = list(pool.map(_one_run, [name] * repetitions, [planted] * repetitions, seeds))
            for how in ("side by side", "--compare"):
                verdicts = [f[how] for f in found]
                right = sum(v == ("slower" if planted else "no difference shown") for v in verdicts)
                wrong = sum(v == "faster" for v in verdicts)
                rounds = sorted(f["rounds"] for f in found)[len(found) // 2]
                rows.append((name, how, planted, right, wrong, repetitions, rounds))
                enough &= right >= 0.95 * repetitions
                print(rows[-1], file=sys.stderr)
    PAGE.write_text(_page(rows, recorded), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return int(check and not enough)


def _one_run(name: str, planted: float, seed: str) -> dict[str, Any]:
    recorded = json.loads(NOISE.read_text(encoding="utf-8"))["samples"]
    noise = partial(from_samples, recorded) if name == _RECORDED else made_up
    return one_run(noise, planted, random.Random(seed))


def one_run(noise: Callable[[random.Random], Noise], planted: float, draw: random.Random) -> dict[str, Any]:
    """One command on two variants, the second slower by `planted`; and the same held against an earlier run."""
    streams = [noise(draw) for _ in range(TESTS)]
    base: list[list[float]] = [[] for _ in range(TESTS)]
    slow: list[list[float]] = [[] for _ in range(TESTS)]
    rounds = 0
    while rounds < MOST_ROUNDS:
        for stream, theirs, ours in zip(streams, base, slow, strict=True):
            for which in draw.sample([0, 1], 2):
                level = next(stream)
                (ours if which else theirs).append(level * (1 - planted if which else 1.0))
        rounds += 1
        if is_due(rounds) and is_precise([*base, *slow], PRECISION):
            ratios = [[a / b for a, b in zip(*pair, strict=True)] for pair in zip(slow, base, strict=True)]
            if all(half_width(one) <= PRECISION for one in ratios):
                break
    earlier = [[next(stream) for _ in range(rounds)] for stream in streams]
    shift = 1 + draw.gauss(0, BETWEEN_RUNS)
    earlier = [[value * shift for value in one] for one in earlier]
    return {"side by side": _side(slow, base), "--compare": _apart(slow, earlier), "rounds": rounds}


def _side(slow: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> Verdict:
    """The verdict of the command: any test that differs counts, as it would for a user."""
    pairs = [[a / b for a, b in zip(ours, theirs, strict=True)] for ours, theirs in zip(slow, base, strict=True)]
    return _worst([compare_ratios(one, comparisons=TESTS).verdict for one in pairs])


def _apart(slow: Sequence[Sequence[float]], earlier: Sequence[Sequence[float]]) -> Verdict:
    pairs = zip(slow, earlier, strict=True)
    return _worst([compare_apart(a, b, tolerance=TOLERANCE, comparisons=TESTS).verdict for a, b in pairs])


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    order: tuple[Verdict, ...] = ("slower", "faster", "no difference shown", "too few rounds")
    return next(one for one in order if one in verdicts)


def from_samples(samples: Sequence[float], draw: random.Random) -> Noise:
    """The recorded samples over their median, in runs of RUN from random places."""
    middle = sorted(samples)[len(samples) // 2]
    while True:
        start = draw.randrange(max(1, len(samples) - RUN))
        yield from (value / middle for value in samples[start : start + RUN])


def made_up(draw: random.Random) -> Noise:
    """A machine with a slow wave, neighbours alike, heavy tails and bursts."""
    phase, near, burst, i = draw.uniform(0, 6), 0.0, 0, 0
    while True:
        near = 0.5 * near + draw.gauss(0, 0.008)
        if not burst and draw.random() < 0.02:
            burst = draw.randrange(1, 5)
        slowed = draw.uniform(0.05, 0.33) if burst else 0.0
        burst = max(0, burst - 1)
        yield (1 + 0.05 * math.sin(phase + i / 40)) * (1 + near) * (1 - slowed)
        i += 1


def record(model: Path) -> int:
    """This machine's own noise: some hundred repetitions of one short test in a row."""
    from qwenops.bench.speed import measure
    from qwenops.bench.types import SpeedSettings, SpeedTest
    from qwenops.model.read import read_model

    test = SpeedTest(0, 8)
    began = time.monotonic()
    samples = measure(read_model(model), [test], SpeedSettings(), repetitions=400)[test.name]
    about = f"{test.name} of {model.name}, {len(samples)} in a row in {time.monotonic() - began:.0f} s"
    data = {"about": about, "date": str(datetime.date.today()), "samples": [round(s, 3) for s in samples]}
    NOISE.write_text(json.dumps(data) + "\n", encoding="utf-8")
    print(about, "median", sorted(samples)[len(samples) // 2])
    return 0


def real(model: Path, planted: float, precision: float, time_limit_s: float) -> int:
    """Two variants of one file, one of which waits after every decode; the verdict as the command would print it."""
    from qwenops.bench.engines.library import Library
    from qwenops.bench.matrix import Matrix, paired
    from qwenops.bench.order import Effort
    from qwenops.bench.types import SpeedSettings, SpeedTest, Variant
    from qwenops.bench.watch import Watch
    from qwenops.model.read import read_model
    from scripts.slow_child import Slowed

    read = read_model(model)
    variants = [Variant("as it is", SpeedSettings(), read), Variant("slowed", SpeedSettings(), read)]
    engine = Slowed(Library(), {"slowed": planted})
    tests = [SpeedTest(64, 0), SpeedTest(0, 16)]
    effort = Effort(precision=precision, time_limit_s=time_limit_s)
    with Watch() as watch:
        matrix = Matrix(variants, tests, engine, effort, "side by side", 0, watch)
        matrix.run()
    for one in paired(matrix):
        busy = [flag["why"] for v in (0, 1) for flag in matrix.seen[v, tests.index(one.test)].busy()]
        told = one.comparison
        row = (
            f"{planted:.1%}",
            one.test.name,
            told.rounds,
            f"{told.ratio:.4f}",
            told.words(),
            *(busy[:1] or ["quiet"]),
        )
        print("| " + " | ".join(str(value) for value in row) + " |")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--check", action="store_true", help="exit 1 below 95 of 100")
    parser.add_argument("--record", type=Path, metavar="MODEL")
    parser.add_argument("--real", type=Path, metavar="MODEL")
    parser.add_argument("--planted", type=float, default=3.0, metavar="PERCENT")
    parser.add_argument("--precision", type=float, default=1.0, metavar="PERCENT")
    parser.add_argument("--time-limit", type=float, default=240.0, metavar="SECONDS")
    return parser.parse_args()


def _page(rows: Sequence[tuple[str, str, float, int, int, int, int]], recorded: dict[str, str]) -> str:
    lines = [
        "# Slowdowns that were planted, simulated",
        "",
        f"Written by `scripts/simulate_slowdown.py` on {datetime.date.today()}. Two variants and two tests a run,",
        f"rounds until every interval is within {PRECISION:.0%}, {MOST_ROUNDS} at most. Side by side: both variants,",
        f"round by round. `--compare`: the second beside an earlier run whose level differs by {BETWEEN_RUNS:.1%} (a",
        f"standard deviation), tolerance {TOLERANCE:.0%}. Right is `slower` where a slowdown was planted, and",
        "`no difference shown` in every test where none was.",
        "",
        "Side by side is what to trust. A machine that drifts by more than was planted hides it from `--compare`,",
        "and where it drifts between two runs, no sample of either tells; so make the baseline shortly before, or give",
        "both versions to one command.",
        "",
        f"Recorded noise: {recorded['about']}, {recorded['date']},",
        "on a machine with two cores that others kept busy, at real-time priority: 15 % of spread, 20 % of drift. The",
        "made-up one is described in the script.",
        "",
        "| noise | comparison | planted | right | said faster | rounds (median) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, how, planted, right, wrong, of, rounds in rows:
        lines.append(f"| {name} | {how} | {planted:.0%} | {right} of {of} | {wrong} | {rounds} |")
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    kept = before[before.index(_REAL) :] if _REAL in before else ""
    return "\n".join(lines) + "\n" + (f"\n{kept}" if kept else "")


if __name__ == "__main__":
    sys.exit(main())
