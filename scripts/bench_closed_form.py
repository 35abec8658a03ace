"""How long the closed form takes for one setting, in process: cold, warm, and against an earlier measurement.

    python -m scripts.bench_closed_form --json after.json --before before.json docs/closed-form-speed.md

Cold is the first question about a model in a process that has loaded the modules. Warm is every other one: the same
model object, other settings, in the order in which a search asks (a placement, a micro-batch, a cache type, and then
contexts: the largest, the smallest, those between). Seconds are of this process's CPU time, the least of three rounds
in fresh processes. `--measure` prints the figures of one round, and runs in any checkout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

MODELS = ("qwen3-0.6b", "qwen3-vl-8b", "qwen3-30b-a3b", "qwen3.5-9b", "qwen3.6-35b-a3b", "gemma-3-4b")
PLACEMENTS = ("all", "half", "auto")
CONTEXTS = (32768, 8192, 20224, 13312, 16640, 10752, 26624, 24576, 29696, 11776)
ROUNDS = 3

Question = tuple[float, int]  # milliseconds, graphs built
Figures = dict[str, dict[str, list[Question]]]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--before", type=Path, help="figures of an earlier run to compare with")
    parser.add_argument("--measure", action="store_true", help="print one round as JSON")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured()))
        return
    figures = least(json.loads(_child()) for _ in range(ROUNDS))
    if args.json:
        args.json.write_text(json.dumps(figures))
    before = json.loads(args.before.read_text()) if args.before else None
    text = page(figures, before)
    if args.page:
        args.page.write_text(text)
    else:
        print(text)


def _child() -> str:
    command = [sys.executable, "-m", "scripts.bench_closed_form", "--measure"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measured() -> Figures:
    """Milliseconds of every question and the graphs built for it, by model and placement, in the order of asking."""
    from qwenops.machine.types import Device
    from qwenops.memory import compute
    from qwenops.memory.closed_form import closed_form
    from qwenops.memory.types import LoadSettings
    from qwenops.units import GIB
    from tests.support.shapes import TEXT, text_model

    built, build = [0], compute.build

    def counted(*args: Any) -> Any:
        built[0] += 1
        return build(*args)

    compute.build = counted
    # modules, and what Python itself does only once
    closed_form(text_model(TEXT["tinyllama-1.1b"]), LoadSettings(), ())
    figures: Figures = {}
    for name in MODELS:
        model = text_model(TEXT[name])
        layers: dict[str, Any] = {"all": "all", "half": TEXT[name].layers // 2, "auto": "auto"}
        figures[name] = {}
        for placement in PLACEMENTS:
            # a card on which "auto" must leave a part of the model behind
            free = int(model.file_bytes * 0.6) + GIB // 2 if placement == "auto" else 48 * GIB
            card = Device("CUDA0", "cuda", "a card", free, free)
            row = figures[name][placement] = []
            for ubatch, kv in ((512, "f16"), (512, "q8_0"), (2048, "f16")):
                for num_ctx in CONTEXTS:
                    settings = LoadSettings(
                        num_ctx=num_ctx,
                        batch=ubatch,
                        ubatch=ubatch,
                        kv_type_k=kv,  # type: ignore[arg-type]
                        kv_type_v=kv,  # type: ignore[arg-type]
                        gpu_layers=layers[placement],
                    )
                    before, start = built[0], time.process_time()
                    closed_form(model, settings, (card,))
                    row.append(((time.process_time() - start) * 1000, built[0] - before))
    return figures


def least(rounds: Iterator[Figures]) -> Figures:
    """The least of several rounds, question by question."""
    first, *rest = rounds
    return {
        name: {
            placement: [
                (min(ms for ms, _ in each), each[0][1])
                for each in zip(row, *(r[name][placement] for r in rest), strict=True)
            ]
            for placement, row in rows.items()
        }
        for name, rows in first.items()
    }


def page(figures: Figures, before: Figures | None) -> str:
    """The figures as Markdown."""
    lines = [
        "# How long the closed form takes",
        "",
        "Milliseconds of CPU time for one setting, in process (`scripts/bench_closed_form.py`; its head says what cold",
        "and warm are). 30 settings a row: 3 pairs of micro-batch and cache type, 10 contexts each.",
        "",
        "A graph is met for the first time with a micro-batch, a cache type, or a border between host and device that",
        "was not asked about before; with `auto` the runtime's fit asks about several placements a setting. After that",
        "any context, any number of blocks on either side and any types of weights are played from the parts of it.",
        "",
        "| model | layers on the card | cold | graphs known: median | most | graphs met: questions | median | most "
        "| under 5 ms | before, median | ratio |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    every: list[Question] = []
    ratios: list[float] = []
    for name, rows in figures.items():
        for placement, row in rows.items():
            cold = f"{row[0][0]:.1f}" if placement == PLACEMENTS[0] else ""
            warm = row[1:] if cold else row
            every += warm
            known, met = [ms for ms, graphs in warm if not graphs], [ms for ms, graphs in warm if graphs]
            old = ratio = ""
            if before is not None:
                was = median(ms for ms, _ in before[name][placement][1 if cold else 0 :])
                ratios.append(was / median(ms for ms, _ in warm))
                old, ratio = f"{was:.1f}", f"{ratios[-1]:.1f}"
            first_met = f"{len(met)} | {median(met):.1f} | {max(met):.1f}" if met else "0 | |"
            lines.append(
                f"| {name} | {placement} | {cold} | {median(known):.2f} | {max(known):.1f} | {first_met} "
                f"| {_under(warm):.0%} | {old} | {ratio} |"
            )
    known_all = [each for each in every if not each[1]]
    lines += [
        "",
        f"Over all: warm median {median(ms for ms, _ in every):.2f} ms, {_under(every):.0%} of the settings under 5 "
        f"ms; {sum(ms < 5 for ms, _ in known_all)} of the {len(known_all)} whose graphs were known.",
    ]
    if ratios:
        lines.append(f"Against the figures before: {min(ratios):.1f} to {max(ratios):.1f} times as fast.")
    lines += [
        "",
        "What is over 5 ms are first times. Some of the blocks are built, scheduled and recorded then, at a fraction",
        "of a millisecond each: four to seven of a dense model, 20 to 26 of one whose blocks alternate and that is cut",
        "between host and device. There a border can fall behind each block of a period, and a mixture can leave parts",
        "of a block behind: a first `auto` meets up to seven such graphs. Now and then Python's garbage collector",
        "looks through the whole process within a question, 10 to 40 ms, whether its graphs are known or not.",
        "",
    ]
    return "\n".join(lines)


def _under(questions: Sequence[Question]) -> float:
    return sum(1 for ms, _ in questions if ms < 5) / len(questions)


if __name__ == "__main__":
    main()
