"""Hold `qwenops bench quality` against llama-perplexity, in one run, and write docs/quality-verified.md.

    python -m scripts.compare_llama_perplexity MODEL-F16.gguf [MODEL-F16.gguf ...] [--quants Q4_0,IQ4_XS,Q3_K_M]
        [--llama-perplexity PATH] [--libraries FOLDER] [--rounds 3] [--check]

Of each model, quants are made by the reference llama-quantize; both sides read the model as the reference, then each
quant beside it, in turn and --rounds times, every time anew: a machine's speed drifts, so what is compared is the
ratio of each pair and its median. A side's seconds are those from its first decode to its last figure, without the
load of the model.

--check exits 1 where a figure is more than 1 % from the tool's, or the median of the throughput ratios of a model and
step is below 1. The llama-perplexity of the parts (`make parts`) is of the library's own source and runs on its very
libraries; --libraries names the folder of others that it is to load.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.bench.quality.text import BUILT_IN
from qwenops.model.read import read_model
from tests.support.parts import layout

TARGET = Path(__file__).resolve().parent.parent / "docs" / "quality-verified.md"
TOLERANCE = 0.01
JUDGE = "built from the source of that llama-cpp-python and runs on its very libraries"
FIGURES = ("ppl", "kld_mean", "kld_median", "kld_p99", "same_top")

_NUMBER = r"\s*:\s*(-?[\d.]+|nan)"
_PRINTED = {
    "ppl": rf"Mean PPL\(Q\){_NUMBER}",
    "ppl_error": r"Mean PPL\(Q\)\s*:\s*[\d.]+ ±\s*([\d.]+)",
    "kld_mean": rf"Mean\s+KLD{_NUMBER}",
    "kld_error": r"Mean\s+KLD:\s*-?[\d.]+ ±\s*([\d.]+)",
    "kld_median": rf"Median\s+KLD{_NUMBER}",
    "kld_p99": rf"99\.0%\s+KLD{_NUMBER}",
    "same_top": rf"Same top p{_NUMBER}",
}


@dataclass(frozen=True)
class Tool:
    """llama-perplexity, and the folder of the libraries that it is to load, where that is not its own."""

    path: Path
    libraries: Path | None = None

    def run(self, *arguments: object) -> tuple[str, float]:
        """What it prints, and the seconds from its first decode to its last figure."""
        command = [self.path, *arguments]
        env = dict(os.environ)
        if self.libraries:
            env["LD_LIBRARY_PATH"] = str(self.libraries)
        lines, begun, ended = [], 0.0, 0.0
        with subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, bufsize=0
        ) as child:
            for when, line in _timed_lines(child):
                lines.append(line)
                if "chunks, n_ctx=" in line:
                    begun = when
                if re.search(r"Final estimate|Perplexity statistics", line):
                    ended = when
        text = "\n".join(lines)
        if child.returncode or not ended:
            raise RuntimeError(f"{' '.join(str(c) for c in command)} failed:\n{text[-2000:]}")
        return text, ended - begun


def main() -> int:
    """Measure, write the page, judge."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        tables = [_compare(options, model, Path(scratch)) for model in options.models]
    page = _page(options, tables)
    TARGET.write_text(page, encoding="utf-8")
    print(page)
    return 1 if options.check and any(_problems(table) for table in tables) else 0


def tool_figures(
    tool: Tool,
    reference: Path,
    variant: Path,
    text: Path,
    *,
    ctx: int,
    chunks: int,
    threads: int,
    folder: Path,
    kv_type: str = "f16",
    batch: int = 2048,
) -> dict[str, float]:
    """What llama-perplexity says of a variant beside its reference, with the seconds of both steps."""
    base = folder / "base.kld"
    common = ["-f", text, "-c", ctx, "--chunks", chunks, "-t", threads, "-b", batch, "--kl-divergence-base", base]
    try:
        alone, reference_seconds = tool.run("-m", reference, *common)
        printed, seconds = tool.run("-m", variant, *common, "--kl-divergence", "-ctk", kv_type, "-ctv", kv_type)
    finally:
        base.unlink(missing_ok=True)
    found = {name: float(match[1]) for name, p in _PRINTED.items() if (match := re.search(p, printed))}
    found["same_top"] /= 100
    own = re.search(r"Final estimate: PPL = ([\d.]+)", alone)
    found["ppl_reference"] = float(own[1]) if own else float("nan")
    return {**found, "seconds": seconds, "reference_seconds": reference_seconds}


def _timed_lines(child: subprocess.Popen[bytes]) -> Iterator[tuple[float, str]]:
    """Lines with the moment of their first byte."""
    assert child.stdout is not None
    line, when = bytearray(), 0.0
    while piece := os.read(child.stdout.fileno(), 65536):
        now = time.perf_counter()
        for part in piece.splitlines(keepends=True):
            when = when or now
            line += part
            if part.endswith(b"\n"):
                yield when, line.decode("utf-8", "replace").rstrip()
                line, when = bytearray(), 0.0
    if line:
        yield when, line.decode("utf-8", "replace")


@dataclass(frozen=True)
class Row:
    """One variant: both sides' figures, and the ratio of throughput of each round."""

    quant: str
    ours: dict[str, float]
    theirs: dict[str, float]
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """One model's rows, and the ratios of the step that reads the reference."""

    model: str
    rows: tuple[Row, ...]
    reference_ratios: tuple[float, ...]
    version: str


def _compare(options: argparse.Namespace, model: Path, scratch: Path) -> Table:
    tool = Tool(options.llama_perplexity, options.libraries)
    asked = {"ctx": options.ctx, "chunks": options.chunks, "threads": options.threads}
    rows, reference_ratios, version = [], [], ""
    for quant in options.quants.split(","):
        variant = _made(model, quant, scratch)
        ratios: list[float] = []
        for round_ in range(options.rounds):
            home = scratch / f"home-{quant}-{round_}"
            told = _ours(model, variant, options, home)
            ours, own = told["results"][0], told["reference"]
            theirs = tool_figures(tool, model, variant, options.text, **asked, folder=scratch)
            ratios.append(theirs["seconds"] / ours["seconds"])
            reference_ratios.append(theirs["reference_seconds"] / own["seconds"])
            version = f"{told['engine']['name']} {told['engine']['version']}"
            print(f"{model.name} {quant}: round {round_ + 1} of {options.rounds}", file=sys.stderr)
        rows.append(Row(quant, {**ours, "ppl_reference": own["ppl"]}, theirs, tuple(ratios)))
        variant.unlink()
    return Table(read_model(model, None).path.name, tuple(rows), tuple(reference_ratios), version)


def _made(model: Path, quant: str, scratch: Path) -> Path:
    target = scratch / f"{model.stem}-{quant}.gguf"
    tool = layout().reference("llama-quantize")
    subprocess.run([tool, "--allow-requantize", model, target, quant, "2"], check=True, capture_output=True)
    return target


def _ours(model: Path, variant: Path, options: argparse.Namespace, home: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "qwenops", "bench", "quality", "--reference", model, variant, "--json"]
    command += ["--text", options.text, "--ctx", options.ctx, "--chunks", options.chunks, "--threads", options.threads]
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env={**os.environ, "QWENOPS_HOME": str(home)}
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _problems(table: Table) -> list[str]:
    far = [
        f"{row.quant} {name}"
        for row in table.rows
        for name in FIGURES
        if abs(row.ours[name] - row.theirs[name]) > TOLERANCE * abs(row.theirs[name])
    ]
    slow = [row.quant for row in table.rows if statistics.median(row.ratios) < 1]
    return far + slow + (["reference"] if statistics.median(table.reference_ratios) < 1 else [])


def _page(options: argparse.Namespace, tables: list[Table]) -> str:
    lines = [
        "# Quality figures held against llama-perplexity",
        "",
        f"Written by `scripts/compare_llama_perplexity.py` on {datetime.date.today()}: {options.threads} threads on "
        f"{platform.machine()}, {tables[0].version} (CPU build), the built-in text, {options.chunks} chunks of",
        f"{options.ctx} tokens, {options.rounds} rounds in turn. llama-perplexity is {options.what}.",
        "",
        "Each cell has qwenops' figure, then the tool's. *Throughput* is qwenops / llama-perplexity in tokens a",
        "second, decoding and scoring, round by round; absolute figures belong to the machine they were made on.",
    ]
    for table in tables:
        lines += [
            "",
            f"## {table.model}",
            "",
            "| quant | PPL | KLD mean | KLD median | KLD 99 % | same top | throughput (median) | rounds |",
            "|---|---:|---:|---:|---:|---:|---:|---|",
            _reference_row(table),
        ]
        lines += [_row(row) for row in table.rows]
        problems = _problems(table)
        verdict = f"Beyond the bars: {', '.join(problems)}." if problems else "All within 1 %, none slower."
        lines += ["", verdict]
    return "\n".join(lines) + "\n"


def _reference_row(table: Table) -> str:
    first = table.rows[0]
    ppl = f"{first.ours['ppl_reference']:.5f} {first.theirs['ppl_reference']:.5f}"
    return f"| reference | {ppl} | | | | | {_spread(table.reference_ratios)} |"


def _row(row: Row) -> str:
    cells = [f"{row.ours[name]:.5f} {row.theirs[name]:.5f}" for name in FIGURES]
    return f"| {row.quant} | {' | '.join(cells)} | {_spread(row.ratios)} |"


def _spread(ratios: tuple[float, ...]) -> str:
    return f"{statistics.median(ratios):.3f} | {min(ratios):.3f} to {max(ratios):.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--quants", default="Q8_0,Q4_0,IQ4_XS,Q3_K_M")
    parser.add_argument("--llama-perplexity", type=Path, default=layout().judge("llama-perplexity"))
    parser.add_argument("--libraries", type=Path, help="folder of the libraries it is to load")
    parser.add_argument("--what", default=JUDGE, help="which build that is")
    parser.add_argument("--text", type=Path, default=BUILT_IN)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where files of some GiB may lie for a while")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
