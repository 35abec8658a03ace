"""docs/beside-gguf-parser.md, written from the rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from datetime import date

from scripts.beside.rows import KINDS, ROUNDING_MIB, Row


def page(rows: Sequence[Row], public: Sequence[Row], version: str, seed: int) -> str:
    """docs/beside-gguf-parser.md."""
    drawn = sum(1 for r in rows if r.origin == "drawn")
    broken = [r for r in (*rows, *public) if r.fault]
    count = len(rows) + len(public)
    good = count - len(broken)
    lines = [
        "# Beside gguf-parser-go",
        "",
        "Written by `python -m scripts.compare_gguf_parser`; do not edit.",
        "",
        f"{date.today():%Y-%m-%d}, gguf-parser-go {version} as a Go library, qwenops' closed form, llama-server b10434",
        "(the one that Ollama 0.32.14 ships) on a Vulkan device in software.",
        "",
        "Both estimators are given the header of the same file and the same settings; they say what the device holds:",
        "weights, cache with recurrent state, compute buffers, and the projector with its encoder at the image size of",
        "the runtime's start. The truth is what llama-server then allocated, by its log: real loads of ghosts, files",
        f"with the true header of a published model and no data. {len(rows) - drawn} loads are listed in the script,",
        f"{drawn} were drawn by chance (seed {seed}): shape, quant, context, sequences, batch, cache type, layers.",
        "",
        "gguf-parser-go is used at its best: flash attention, which it cannot resolve from `auto`, is set as the",
        "runtime resolved it; context, sequences, both batches, both cache types, layers and projector go in by its",
        "options; its flat footprint of a driver is left out. It has no notion of how many output rows a runtime asks",
        "for or of the kind of device, and counts recurrent state with the cache. Vocabularies and experts are cut to",
        "what the software device takes in one piece, a limit that cards do not have. qwenops is used at its least:",
        "its other sources, the runtime asked or a load without memory, are exact for these loads.",
        "",
        f"- {good} of {count} loads within the bar: for the build that qwenops follows, at least ten times closer on",
        "  vision and hybrid models; everywhere else never further off.",
        f"- Below {ROUNDING_MIB} MiB nothing is told apart: a log rounds each buffer to a hundredth of a MiB.",
        "",
        "## In short",
        "",
        "| Models | Loads | qwenops: median, worst error | gguf-parser-go: median, worst error "
        "| Sum of errors, MiB: qwenops, gguf-parser-go | Closer by, over the sum |",
        "|---|--:|--:|--:|--:|--:|",
        *_summary(rows),
        "",
        "## Loads on the software GPU",
        "",
        "MiB on the device; the error is the estimate less the truth.",
        "",
        "| Model | Settings | | Loaded | qwenops | gguf-parser-go | Error: qwenops | Error: gguf-parser-go "
        "| Their largest part off |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
        *[_line(r) for r in rows],
        "",
        "## Loads that other people published",
        "",
        "Older builds of llama.cpp on real cards: their graphs differ from the one that qwenops replays; its errors",
        "are that distance in time. Parts that a log does not show, and weights of a mix that is not llama-quantize's",
        "own, are left out. The load with four sequences shares one cache among them, which gguf-parser-go cannot be",
        "told. For the load on the CPU the buffers are the host's. The build of June 2026 did not yet keep the hidden",
        "rows of a hybrid for a draft head: without them the replay gives that CUDA row to the byte, 495.00 MiB.",
        "",
        "| Model | Runtime and settings | | Loaded | qwenops | gguf-parser-go | Error: qwenops | Error: gguf-parser-go "
        "| Their largest part off |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
        *[_line(r) for r in public],
        "",
        "Sources, in the order of the rows:",
        "",
        *[f"{n}. {r.origin}" for n, r in enumerate(public, 1)],
        "",
    ]
    if broken:
        lines += ["Outside the bar:", "", *[f"- {r.name}, {r.how}: {r.fault}" for r in broken], ""]
    return "\n".join(lines)


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    for kind, name in KINDS.items():
        of_kind = [r for r in rows if r.kind == kind]
        if not of_kind:
            continue
        mine, other = ([abs(r.off(getattr(r, who))) for r in of_kind] for who in ("ours", "theirs"))
        cells = [name, str(len(of_kind)), *(_percent(of_kind, errors) for errors in (mine, other))]
        times = sum(other) / max(sum(mine), ROUNDING_MIB)
        yield "| " + " | ".join([*cells, f"{sum(mine):.2f}, {sum(other):.0f}", f"{times:.0f} times"]) + " |"


def _percent(rows: Sequence[Row], errors: Sequence[float]) -> str:
    shares = [100 * e / r.total for e, r in zip(errors, rows, strict=True) if r.total]
    return f"{statistics.median(shares):.3f} %, {max(shares):.2f} %"


def _line(row: Row) -> str:
    part = max(row.truth, key=lambda p: abs(row.theirs[p] - row.truth[p]))
    worst = row.theirs[part] - row.truth[part]
    name = "projector and encoder" if part == "projector" and "encoder" not in row.truth else part
    said = [sum(one[p] for p in row.truth) for one in (row.ours, row.theirs)]
    cells = [row.name, row.how, KINDS[row.kind], f"{row.total:.2f}", *(f"{s:.2f}" for s in said)]
    cells += [f"{row.off(row.ours):+.2f}", f"{row.off(row.theirs):+.2f}", f"{name} {worst:+.2f}"]
    return "| " + " | ".join(cells) + " |"
