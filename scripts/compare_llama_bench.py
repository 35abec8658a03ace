"""Hold `qwenops bench speed` against llama-bench, variant by variant in one run, and write docs/bench-verified.md.

    python -m scripts.compare_llama_bench MODEL.gguf... [--rounds 8] [--time-limit 440] [--check]

Give several models and several variants of each (`qwenops quants make`). In every round each variant is measured by
both, in an order that is drawn anew, one right after the other, since a machine's speed drifts: what is compared is the
ratio of each pair, its median and the bootstrap interval of that. --check exits 1 where a median is more than 2 % from
1. The llama-bench of the parts (`make parts`) is of the library's own source and runs on its very libraries: two
versions of llama.cpp differ by more than two ways to time one.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwenops.bench.speed import measure
from qwenops.bench.statistics import median_interval
from qwenops.bench.types import SpeedSettings, SpeedTest
from qwenops.model.read import read_model
from qwenops.model.types import Model
from tests.support.parts import layout

TARGET = Path(__file__).resolve().parent.parent / "docs" / "bench-verified.md"
TOLERANCE = 0.02
REPETITIONS = 5


@dataclass
class Pairs:
    """One variant in one test: what both said in each round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """qwenops / llama-bench, pair by pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


def main() -> int:
    """Measure, write the table, judge."""
    options = _options()
    models = [read_model(path, mmproj=None) for path in options.models]
    tests = [SpeedTest(options.prompt, 0), SpeedTest(0, options.generate)]
    found = {(m, test.name): Pairs() for m in range(len(models)) for test in tests}
    began, rounds, draw = time.monotonic(), 0, random.Random(0)
    while rounds < options.rounds and _time_for_one_more(began, rounds, options.time_limit):
        for m in draw.sample(range(len(models)), len(models)):
            _one_pair(options, models[m], tests, found, m, draw)
        rounds += 1
        print(f"round {rounds} of {options.rounds}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    TARGET.write_text(_page(options, models, tests, found, rounds), encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"))
    far = [key for key, pairs in found.items() if abs(statistics.median(pairs.ratios) - 1) > TOLERANCE]
    return 1 if options.check and far else 0


def _time_for_one_more(began: float, rounds: int, limit_s: float) -> bool:
    spent = time.monotonic() - began
    return not rounds or spent + spent / rounds < limit_s


def _one_pair(
    options: argparse.Namespace,
    model: Model,
    tests: Sequence[SpeedTest],
    found: Mapping[tuple[int, str], Pairs],
    number: int,
    draw: random.Random,
) -> None:
    """Both on one variant, one right after the other."""
    for who in draw.sample(["ours", "theirs"], 2):
        if who == "ours":
            settings = SpeedSettings(threads=options.threads)
            said = {
                k: statistics.median(v) for k, v in measure(model, tests, settings, repetitions=REPETITIONS).items()
            }
        else:
            said = _llama_bench(options, model.path)
        for name, value in said.items():
            getattr(found[number, name], who).append(value)


def _llama_bench(options: argparse.Namespace, model: Path) -> dict[str, float]:
    command = [options.llama_bench, "-m", model, "-p", options.prompt, "-n", options.generate]
    command += ["-r", REPETITIONS, "-t", options.threads, "-o", "json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    found = {}
    for row in json.loads(done.stdout):
        name = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        found[name] = statistics.median(row["samples_ts"])
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--llama-bench", type=Path, default=layout().judge("llama-bench"))
    parser.add_argument(
        "--what",
        default="built from the source of that llama-cpp-python and runs on its very libraries",
        help="which build that is",
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--time-limit", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--note", default="", help="a sentence about the machine meanwhile")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def _page(
    options: argparse.Namespace,
    models: Sequence[Model],
    tests: Sequence[SpeedTest],
    found: Mapping[tuple[int, str], Pairs],
    rounds: int,
) -> str:
    version = importlib.metadata.version("llama-cpp-python")
    lines = [
        "# Benchmark figures held against llama-bench",
        "",
        f"Written by `scripts/compare_llama_bench.py` on {datetime.date.today()}: {options.threads} threads on "
        f"{platform.machine()}, llama-cpp-python {version}",
        f"(CPU build), {rounds} rounds, {REPETITIONS} runs each, both in turn on one variant after the other.",
        f"llama-bench is {options.what}. The ratio is",
        "qwenops / llama-bench, pair by pair; absolute figures belong to the machine they were made on.",
        *([options.note] if options.note else []),
        "",
        "| variant | test | qwenops t/s | llama-bench t/s | ratio (median) | 95 % | ratios |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for m, model in enumerate(models):
        for test in tests:
            pairs = found[m, test.name]
            ratios, interval = pairs.ratios, median_interval(pairs.ratios)
            mine, other = statistics.median(pairs.ours), statistics.median(pairs.theirs)
            within = f"{interval.low:.3f} to {interval.high:.3f}" if interval else "·"
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            middle = statistics.median(ratios)
            lines.append(
                f"| {model.path.stem} | {test.name} | {mine:.2f} | {other:.2f} | {middle:.3f} | {within} | {spread} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
