"""How long a plan takes: every quant of a model x everything that can be chosen, on cards of several sizes.

    python -m scripts.bench_plan docs/plan-speed.md

Each row is one `plan()` in a fresh process with the headers already read (a process start is not counted, the modules
that a plan loads are). "Needs" is how many different questions of need were asked; nothing is asked twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

QUANTS = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
MODELS = {"qwen3-vl-8b": "qwen3-vl-8b", "qwen3.5-9b": None, "qwen3-30b-a3b": None}
CARDS_GIB = (6, 8, 12, 16, 24)


def main() -> None:
    """Measure every model on every card, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "GIB"), help="print one row as JSON")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.one[0], int(args.one[1]))))
        return
    rows = [json.loads(_child(name, gib)) for name in MODELS for gib in CARDS_GIB]
    text = page(rows)
    if args.page:
        args.page.write_text(text)
    else:
        print(text)


def _child(name: str, gib: int) -> str:
    command = [sys.executable, "-m", "scripts.bench_plan", "--one", name, str(gib)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measured(name: str, gib: int) -> dict[str, Any]:
    """One plan: seconds of wall and of CPU, the needs asked, and what came out."""
    from dataclasses import replace

    from qwenops.machine.detect import detect
    from qwenops.machine.types import Host
    from qwenops.model.quantizer import Recipe
    from qwenops.model.requant import Requantizer
    from qwenops.units import GIB
    from tests.support.shapes import TEXT, VISION, text_model, vision_projector

    vision = MODELS[name]
    source = text_model(TEXT[name], "BF16", vision_projector(VISION[vision]) if vision else None)
    make = Requantizer(source)
    models = [make.variant(Recipe(quant, imatrix=True)).model for quant in QUANTS]
    machine = replace(detect(f"{gib}GiB"), host=Host(64 * GIB, 60 * GIB, 8, 16, "linux", "x86_64"))

    wall, cpu = time.perf_counter(), time.process_time()
    from qwenops.plan.choose import plan

    found = plan(models, "ocr", machine, None)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    first = found.chosen or (found.nearest[0].judged if found.nearest else None)
    settings = first.choice.settings if first else None
    return {
        "model": name,
        "gib": gib,
        "wall": wall,
        "cpu": cpu,
        "load": os.getloadavg()[0],
        "needs": found.needs_asked,
        "fits": found.fits,
        "first": f"{first.choice.model.quant}, {settings.num_ctx}, KV {settings.kv_type_k}, ubatch {settings.ubatch}"
        if first and settings
        else "nothing",
        "given_up": found.nearest[0].why if found.nearest and not found.chosen else "",
    }


def page(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "# How long a plan takes",
        "",
        f"`plan()` for OCR over {len(QUANTS)} quants, in process, headers read (`scripts/bench_plan.py`).",
        "",
        "| model | card | wall s | CPU s | needs asked | fits | first | gives up |",
        "|---|--:|--:|--:|--:|---|---|---|",
    ]
    lines += [
        f"| {r['model']} | {r['gib']} GiB | {r['wall']:.2f} | {r['cpu']:.2f} | {r['needs']} | {r['fits']} "
        f"| {r['first']} | {r['given_up']} |"
        for r in rows
    ]
    most = max(r["wall"] for r in rows), max(r["cpu"] for r in rows)
    load = max(r["load"] for r in rows)
    lines += [
        "",
        f"The longest: {most[0]:.2f} s of wall, {most[1]:.2f} s of CPU. Meanwhile the machine had a load of up to "
        f"{load:.0f} on {os.cpu_count()} cores: what wall has beyond CPU is waiting for them.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
