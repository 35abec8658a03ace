"""Hold `qwenops bench` against llama-bench on one model, in one run, and write docs/bench-verified.md.

    python -m scripts.compare_llama_bench MODEL.gguf [--llama-bench PATH] [--rounds 5] [--check]

The two run in turn, A B A B, since a machine's speed drifts: what is compared is the ratio of each pair, and its
median. --check exits 1 when the median is more than 3 % from 1. Give the llama-bench of the same llama.cpp as the
library's (build it from llama-cpp-python's own source distribution, vendor/llama.cpp, target llama-bench): two
versions of llama.cpp differ by more than two ways to time one.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from qwenops.bench.speed import measure
from qwenops.bench.types import SpeedSettings, SpeedTest
from qwenops.model.read import read_model
from tests.support.parts import layout

TARGET = Path(__file__).resolve().parent.parent / "docs" / "bench-verified.md"
TOLERANCE = 0.03
REPETITIONS = 3


def main() -> int:
    """Measure, write the table, judge."""
    options = _options()
    model = read_model(options.model)
    tests = [SpeedTest(options.prompt, 0), SpeedTest(0, options.generate)]
    settings = SpeedSettings(threads=options.threads)
    ours: dict[str, list[float]] = {t.name: [] for t in tests}
    theirs: dict[str, list[float]] = {t.name: [] for t in tests}
    version = f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
    for round_ in range(options.rounds):
        for name, samples in measure(model, tests, settings, repetitions=REPETITIONS).items():
            ours[name].append(statistics.median(samples))
        for name, value in _llama_bench(options).items():
            theirs[name].append(value)
        print(f"round {round_ + 1} of {options.rounds}", file=sys.stderr)
    ratios = {name: [a / b for a, b in zip(ours[name], theirs[name], strict=True)] for name in ours}
    TARGET.write_text(_page(options, model.path.name, version, ours, theirs, ratios), encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"))
    far = [name for name, r in ratios.items() if abs(statistics.median(r) - 1) > TOLERANCE]
    return 1 if options.check and far else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-bench", type=Path, default=layout().reference("llama-bench"))
    parser.add_argument("--what", default="the reference build of llama.cpp b10435", help="which build that is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def _llama_bench(options: argparse.Namespace) -> dict[str, float]:
    command = [options.llama_bench, "-m", options.model, "-p", options.prompt, "-n", options.generate]
    command += ["-r", REPETITIONS, "-t", options.threads, "-o", "json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    found = {}
    for row in json.loads(done.stdout):
        name = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        found[name] = statistics.median(row["samples_ts"])
    return found


def _page(
    options: argparse.Namespace,
    model: str,
    version: str,
    ours: dict[str, list[float]],
    theirs: dict[str, list[float]],
    ratios: dict[str, list[float]],
) -> str:
    lines = [
        "# Benchmark figures held against llama-bench",
        "",
        f"Written by `scripts/compare_llama_bench.py` on {datetime.date.today()}: {model}, {options.threads} threads "
        f"on {platform.machine()}, {version} (CPU build), {options.rounds} rounds in turn, {REPETITIONS} runs each.",
        f"llama-bench is {options.what}. The ratio is qwenops / llama-bench, pair by pair; absolute figures belong",
        "to the machine they were made on.",
        "",
        "| test | qwenops t/s (median) | llama-bench t/s (median) | ratio (median) | ratios |",
        "|---|---:|---:|---:|---|",
    ]
    for name, values in ratios.items():
        spread = f"{min(values):.3f} to {max(values):.3f}"
        mine, other = statistics.median(ours[name]), statistics.median(theirs[name])
        lines.append(f"| {name} | {mine:.2f} | {other:.2f} | {statistics.median(values):.3f} | {spread} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
