"""docs/memory-verified.md: what was promised and what came of it, by architecture and row by row."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from statistics import median

from qwenops.units import MIB
from scripts.verify.rows import CLOSE_PERCENT, PARTS, Row, Verdict, said, verdict_word

_HEAD = """# Memory, verified

Written by `python -m scripts.verify loads`; do not edit.

{day}, {versions}.

Each row is one load, through Ollama or through the same llama-server with the flags and the environment that Ollama
gives it. The need was asked before it, of the runtime (`probe`) and of the formulas (`closed form`); the buffers are
those that were then logged. Where the closed form was mended after a load, it was asked again for it. The models are
ghosts: true headers and shapes without data, so every buffer is real and the weights are not. What a projector takes
is shown where Ollama put it on the device."""


def page(rows: Sequence[Row]) -> str:
    """The whole page; rows come in the order in which they were loaded and are shown by architecture."""
    ordered = sorted(rows, key=lambda r: (r.case.dims.architecture, str(r.case)))
    versions = max((r.versions for r in rows), key=len)
    parts = [
        _HEAD.format(day=f"{date.today():%Y-%m-%d}", versions=versions),
        "\n".join(_bars(ordered)),
        "All sizes in MiB.",
        "## By architecture",
        "\n".join(_by_architecture(ordered)),
        *_broken(ordered),
        "## Every load",
        "\n".join(_every_load(ordered)),
    ]
    return "\n\n".join(parts) + "\n"


def _bars(rows: Sequence[Row]) -> Iterator[str]:
    loaded = [r for r in rows if not r.loaded.error]
    probe = max((abs(e) for r in loaded for e in r.probe_errors().values()), default=0)
    off = [abs(r.formula_error) / r.loaded.total * 100 for r in loaded if r.loaded.total] or [0.0]
    short = max((-r.formula_error for r in loaded), default=0)
    seeing = sum(any(p["projector"] for p in r.loaded.devices.values()) for r in loaded)
    encoder = max((percent for r in loaded for percent in _encoder_percent(r)), default=0)
    yield bullet(
        f"{sum(not r.faults() for r in rows)} of {len(rows)} loads of {len(_architectures(rows))} architectures within "
        f"every bar; {sum(r.case.through == 'ollama' for r in rows)} of them through Ollama, {seeing} with a projector "
        f"on the device, {sum(len(r.loaded.devices) > 1 for r in rows)} on several devices."
    )
    yield bullet(
        f"Probe: no part is more than {_bound(probe)} off its buffer (bar: 1), no encoder more than {encoder:.2f} % "
        "(bar: 3 %)."
    )
    yield bullet(
        f"Closed form: the device total is {median(off):.3f} % off in the median (bar: 2 %), {max(off):.2f} % at worst "
        f"(bar: 5 %), and never more than {_bound(max(0, short))} short (bar: 1 % or 1 MiB); its band contains the "
        f"buffers in {sum(r.in_band for r in loaded)} of {len(loaded)} (bar: 98 of 100)."
    )
    yield _verdict_bar([(r.verdict, r.loaded.kept) for r in loaded if r.verdict and r.verdict.close])


def _verdict_bar(close: Sequence[tuple[Verdict, bool]]) -> str:
    wrong = sum(v.formula != "too close" and (v.formula == "yes") != kept for v, kept in close)
    return bullet(
        f"Verdict, in {len(close)} loads whose need lies within {CLOSE_PERCENT:g} % of what the runtime's own fit "
        f"allows ({sum(kept for _, kept in close)} kept every layer): right by the probe in "
        f'{sum(v.probe_keeps == kept for v, kept in close)}; by the closed form wrong in {wrong} and "too close" in '
        f"{sum(v.formula == 'too close' for v, _ in close)}, where the limit lies inside its band. Without its band it "
        f"would have been right in {sum(v.formula_keeps == kept for v, kept in close)}."
    )


def bullet(text: str) -> str:
    """One item of a list, wrapped."""
    return textwrap.fill(text, 118, initial_indent="- ", subsequent_indent="  ")


def _by_architecture(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "| Architecture | Loads | Through Ollama | With projector | Probe, worst part | Closed form, worst total "
        "| Worst in % | Close verdicts | Right by probe | Closed form: right, too close, wrong | Break a bar |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|"
    for architecture in _architectures(rows):
        yield _line(_summary(architecture, [r for r in rows if r.case.dims.architecture == architecture]))


def _summary(architecture: str, rows: Sequence[Row]) -> list[str]:
    loaded = [r for r in rows if not r.loaded.error]
    probe = max((e for r in loaded for e in r.probe_errors().values()), key=abs, default=0)
    worst = max(loaded, key=lambda r: abs(r.formula_error), default=None)
    percent = max((abs(r.formula_error) / r.loaded.total * 100 for r in loaded if r.loaded.total), default=0)
    verdicts = [(r.verdict, r.loaded.kept) for r in loaded if r.verdict and r.verdict.close]
    right = sum(v.formula == ("yes" if kept else "no") for v, kept in verdicts)
    unsure = sum(v.formula == "too close" for v, _ in verdicts)
    return [
        architecture,
        str(len(rows)),
        str(sum(r.case.through == "ollama" for r in rows)),
        str(sum(r.case.vision is not None for r in rows)),
        _signed(probe),
        _signed(worst.formula_error) if worst else "",
        f"{percent:.2f}",
        str(len(verdicts)),
        str(sum(v.probe_keeps == kept for v, kept in verdicts)),
        f"{right}, {unsure}, {len(verdicts) - right - unsure}",
        str(sum(bool(r.faults()) for r in rows) or ""),
    ]


def _broken(rows: Sequence[Row]) -> Iterator[str]:
    broken = [r for r in rows if r.faults()]
    if broken:
        yield "## What breaks a bar"
        yield "\n".join(f"- {r.case}: {'; '.join(r.faults())}" for r in broken)


def _every_load(rows: Sequence[Row]) -> Iterator[str]:
    heads = [part.capitalize() for part in ("weights", "KV", "state", "compute", "projector", "encoder")]
    yield (
        f"| Model | Context | KV | Batch | Layers asked | {' | '.join(heads)} | Device total | Probe, worst part "
        "| Closed form, total | Layers loaded | Verdict |"
    )
    yield "|---|--:|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|"
    for row in rows:
        yield _line(_cells(row))


def _cells(row: Row) -> list[str]:
    case, real = row.case, row.loaded
    part, error = max(row.probe_errors().items(), key=lambda item: abs(item[1]))
    sums = {p: sum(parts[p] for parts in real.devices.values()) for p in PARTS}
    over = f", {real.overflowing} without their experts" if real.overflowing else ""
    return [
        case.name + (" (Ollama)" if case.through == "ollama" else ""),
        f"{row.num_ctx}{f' x {case.parallel}' if case.parallel > 1 else ''}{' in one' if case.unified else ''}",
        f"{case.kv}{', no flash attention' if case.flash_attn == 'off' else ''}",
        str(case.batch),
        _layers_asked(row),
        *(f"{size / MIB:.2f}" if size else "" for size in sums.values()),
        f"{real.total / MIB:.2f}",
        f"{_signed(error)} ({part})" if _shown(error) else "0.00",
        _signed(row.formula_error),
        said(real.layers) + over,
        _verdict(row),
    ]


def _layers_asked(row: Row) -> str:
    more = []
    if row.target_mib is not None:
        more.append(f"{row.target_mib} kept free")
    if row.case.edge:
        more.append(f"just {row.case.edge} the limit")
    if row.case.devices > 1:
        more.append(f"{row.case.devices} devices")
    return ", ".join([str(row.case.layers), *more])


def _verdict(row: Row) -> str:
    if row.verdict is None:
        return ""
    distance = (row.verdict.limit_bytes - row.verdict.need_bytes) / MIB
    return f"{verdict_word(row.loaded.kept)} by {abs(distance):.2f}; closed form: {row.verdict.formula}"


def _architectures(rows: Iterable[Row]) -> list[str]:
    return sorted({r.case.dims.architecture for r in rows})


def _encoder_percent(row: Row) -> Iterator[float]:
    for name, parts in row.loaded.devices.items():
        if parts["encoder"]:
            yield abs(row.probe.devices[name]["encoder"] - parts["encoder"]) / parts["encoder"] * 100


def _bound(n_bytes: int) -> str:
    """The next hundredth of a MiB above: the log gives no more digits."""
    return f"{max(1, math.ceil(n_bytes / MIB * 100)) / 100:.2f}"


def _shown(n_bytes: int) -> bool:
    return abs(n_bytes) >= MIB / 200


def _signed(n_bytes: int) -> str:
    return f"{n_bytes / MIB:+.2f}" if _shown(n_bytes) else "0.00"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
