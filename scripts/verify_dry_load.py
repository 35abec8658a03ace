"""Hold the dry load against real loads of the same library, and write docs/dry-load-verified.md.

Every row is one context of a real load on the CPU through llama-cpp-python, mapped and not repacked. The dry load is
asked first, one child a model for all of its rows; then the model is loaded, and the buffers that the library logs are
compared. Models are ghosts of published shapes: true headers, no data, true buffers. Exits 1 if a part of a row is
more than 1 MiB off.

    python -m scripts.verify_dry_load [--only TEXT] [--no-write]
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from qwenops.memory.dry_load import dry_loads
from qwenops.memory.probe_log import BufferKind, LoadLines, parse_load_log
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.read import read_model
from qwenops.units import MIB
from qwenops.worker import run
from tests.support.shapes import TEXT, Dims, write_text

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dry-load-verified.md"
BAR = MIB
LIMIT_S = 120
PARTS: dict[str, BufferKind] = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute", "output": "output"}

_BASE = LoadSettings(num_ctx=4096)
_USUAL = (
    _BASE,
    replace(_BASE, num_ctx=6000, ubatch=256, batch=1024),
    replace(_BASE, kv_type_k="q8_0", kv_type_v="q8_0"),
    replace(_BASE, outputs="library", batch=2048),
    replace(_BASE, num_ctx=2500, parallel=3),
)
_WITHOUT_FLASH = (
    replace(_BASE, flash_attn="off"),
    replace(_BASE, flash_attn="off", kv_type_k="q8_0", outputs="library"),
)


@dataclass(frozen=True)
class Case:
    """A model, of which only the first layers are kept, and the settings it is asked about."""

    shape: str
    layers: int
    quant: str
    settings: tuple[LoadSettings, ...]

    @property
    def name(self) -> str:
        """As the page names it."""
        of = TEXT[self.shape].layers
        return f"{self.shape} {self.quant}" + ("" if of == self.layers else f", {self.layers} of {of} layers")

    @property
    def dims(self) -> Dims:
        """The shape, cut."""
        return replace(TEXT[self.shape], layers=self.layers)


CASES = (
    Case("qwen3-0.6b", 28, "Q8_0", (*_USUAL, *_WITHOUT_FLASH)),
    Case("qwen3-8b", 4, "Q4_K_M", (*_USUAL, replace(_BASE, num_ctx=32768, kv_type_k="q4_0", kv_type_v="q4_0"))),
    Case("qwen3-vl-2b", 8, "Q4_K_M", (*_USUAL, *_WITHOUT_FLASH)),
    Case("qwen2.5-vl-3b", 6, "Q4_K_M", _USUAL),
    Case("qwen3.5-0.8b", 24, "Q4_K_M", (*_USUAL, *_WITHOUT_FLASH)),
    Case("qwen3-30b-a3b", 2, "Q4_K_M", _USUAL),
    Case("llama-3.2-1b", 8, "F16", (_BASE, replace(_BASE, kv_type_k="bf16", kv_type_v="bf16", ubatch=64))),
    Case("gemma-2-2b", 4, "Q4_K_M", (_BASE, replace(_BASE, num_ctx=8192, kv_type_k="q8_0", kv_type_v="q8_0"))),
    Case(
        "gemma-3-1b", 12, "Q4_K_M", (_BASE, replace(_BASE, num_ctx=8192), replace(_BASE, num_ctx=8192, swa_full=True))
    ),
)


@dataclass(frozen=True)
class Row:
    """What the dry load said of one context, and what the real one then logged."""

    case: Case
    said: Need
    real: LoadLines

    def sizes(self, part: str) -> tuple[int, int]:
        """A part as it was said and as it was."""
        return getattr(self.said.host, f"{part}_bytes"), self.real.host_bytes(PARTS[part])

    @property
    def worst(self) -> tuple[int, str]:
        """By how much the worst part is off, and which one it is."""
        off = {part: said - real for part in PARTS for said, real in (self.sizes(part),)}
        part = max(off, key=lambda p: abs(off[p]))
        return off[part], part

    @property
    def within(self) -> bool:
        """Whether the row keeps the bar."""
        return abs(self.worst[0]) <= BAR


@dataclass(frozen=True)
class Run:
    """All rows, with what the dry loads took."""

    rows: tuple[Row, ...]
    seconds: float
    version: str


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, load, compare; write the page unless told not to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--no-write", action="store_true", help="leave the page as it is")
    options = parser.parse_args(argv)
    done = _verify([case for case in CASES if options.only in case.name])
    broken = [row for row in done.rows if not row.within]
    print(f"{len(done.rows) - len(broken)} of {len(done.rows)} rows within the bar")
    if not (options.no_write or options.only):
        PAGE.write_text("\n".join(_page(done)) + "\n", encoding="utf-8")
    return 1 if broken or not done.rows else 0


def _verify(cases: Sequence[Case]) -> Run:
    rows: list[Row] = []
    seconds, version = 0.0, ""
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases):
            path = write_text(Path(folder) / f"{number}.gguf", case.dims, case.quant)
            started = time.perf_counter()
            needs = dry_loads(read_model(path), case.settings, ())
            seconds += time.perf_counter() - started
            request = {"file": str(path), "settings": [asdict(s) for s in case.settings]}
            answer = run("tests.support.library_load:load_for_real", request, limit_s=LIMIT_S)
            version = answer["version"]
            for said, log in zip(needs, answer["logs"], strict=True):
                row = Row(case, said, parse_load_log(log))
                rows.append(row)
                print(f"{'ok ' if row.within else 'OFF'} {case.name}: {_settings(said.settings)}: {_off(row)}")
            path.unlink()
    return Run(tuple(rows), seconds, version)


def _page(done: Run) -> Iterator[str]:
    within = sum(row.within for row in done.rows)
    worst = max((abs(row.worst[0]) for row in done.rows), default=0)
    models = len({row.case.name for row in done.rows})
    yield "# Dry load, verified"
    yield ""
    yield "Written by `python -m scripts.verify_dry_load`; do not edit."
    yield ""
    yield f"{date.today()}, llama-cpp-python {done.version} for the CPU, {platform.system()} on {platform.machine()}."
    yield ""
    yield "Each row is one context of a real load through llama-cpp-python, mapped from the file and not repacked."
    yield "The dry load was asked before it; the buffers are those that the library then logged. The models are ghosts:"
    yield "true headers and shapes of published models without data, so every buffer is real and the weights are not."
    yield ""
    yield f"- {within} of {len(done.rows)} rows within the bar: every part within 1 MiB."
    yield f"- The worst part of any row is {worst / MIB:.2f} MiB off."
    yield f"- {len(done.rows)} contexts of {models} models took {done.seconds:.1f} s to ask, a child for each model."
    yield ""
    yield "All sizes in MiB."
    yield ""
    yield (
        "| Model | Context | KV | Batch | Flash attention | Outputs | Weights | KV cache | State | Compute | Output "
        "| Worst part off | Within the bar |"
    )
    yield "|---|--:|---|--:|---|---|--:|--:|--:|--:|--:|--:|---|"
    for row in done.rows:
        s = row.said.settings
        sizes = [f"{real / MIB:.2f}" if real else "" for _, real in map(row.sizes, PARTS)]
        cells = [row.case.name, _context(s), _kv(s), _batch(s), s.flash_attn, s.outputs, *sizes, _off(row)]
        yield "| " + " | ".join([*cells, "yes" if row.within else "NO"]) + " |"


def _settings(s: LoadSettings) -> str:
    return f"{_context(s)}, {_kv(s)}, {_batch(s)}, flash attention {s.flash_attn}, {s.outputs}"


def _context(s: LoadSettings) -> str:
    said = str(s.num_ctx) if s.parallel == 1 else f"{s.num_ctx} x {s.parallel}"
    return f"{said}, whole windows" if s.swa_full else said


def _kv(s: LoadSettings) -> str:
    return s.kv_type_k if s.kv_type_k == s.kv_type_v else f"{s.kv_type_k} / {s.kv_type_v}"


def _batch(s: LoadSettings) -> str:
    return str(s.ubatch) if s.ubatch == s.batch else f"{s.ubatch} of {s.batch}"


def _off(row: Row) -> str:
    size, part = row.worst
    return f"{size / MIB:+.2f} ({part})" if round(size / MIB, 2) else "0.00"


if __name__ == "__main__":
    sys.exit(main())
