"""The dry load beside real loads of the same library, over the models and settings of the grid.

Every row is one context of a real load on the CPU through llama-cpp-python, mapped and not repacked. The dry load is
asked first, one child a model for all of its rows; then the model is loaded, and the buffers that the library logs are
compared: every part within 1 MiB.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from qwenops.errors import QwenopsError
from qwenops.memory.dry_load import dry_loads
from qwenops.memory.probe_log import BufferKind, LoadLines, parse_load_log
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.read import read_model
from qwenops.units import MIB
from qwenops.worker import run
from scripts.verify.cases import Case, grid
from scripts.verify.page import bullet
from tests.support.shapes import write_text

BAR = MIB
LIMIT_S = 240
PARTS: dict[str, BufferKind] = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute", "output": "output"}
# what only a library is asked: a row of outputs for every token, a batch in several parts, whole windows
_LIBRARY = (
    LoadSettings(num_ctx=4096, outputs="library", batch=2048),
    LoadSettings(num_ctx=6000, ubatch=256, batch=1024),
)
_WINDOWS_WHOLE = LoadSettings(num_ctx=8192, swa_full=True)


@dataclass(frozen=True)
class Job:
    """A model and all the settings it is asked about."""

    case: Case
    settings: tuple[LoadSettings, ...]

    @property
    def name(self) -> str:
        """As the page names it."""
        return replace(self.case, vision=None).name


def jobs() -> list[Job]:
    """The text models of the grid, each in one quant, with every setting that differs on a CPU."""
    cases: dict[str, list[Case]] = {}
    for case in grid():
        if case.vision is None:
            cases.setdefault(case.shape, []).append(case)
    return [_job(of_shape) for of_shape in cases.values()]


def _job(cases: Sequence[Case]) -> Job:
    first = min(cases, key=lambda c: c.cut or c.dims.layers)
    settings = [replace(c.settings(), gpu_layers="all", image_tokens=LoadSettings().image_tokens) for c in cases]
    windows = any(name == "attention.sliding_window" for name, _ in first.dims.more_keys)
    more = (*_LIBRARY, *((_WINDOWS_WHOLE,) if windows else ()))
    return Job(first, tuple(dict.fromkeys((*settings, *more))))


@dataclass(frozen=True)
class Row:
    """What the dry load said of one context, and what the real one then logged."""

    job: Job
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
        return self.real.complete and abs(self.worst[0]) <= BAR


@dataclass(frozen=True)
class Run:
    """All rows, with what the dry loads took, and the models that one side would not load, with the reason."""

    rows: tuple[Row, ...]
    seconds: float
    version: str
    refused: tuple[tuple[str, str], ...] = ()


def verify(jobs_: Sequence[Job]) -> Run:
    """Ask about each model, load it, and say on stderr how far it is."""
    rows: list[Row] = []
    refused: list[tuple[str, str]] = []
    seconds, version, started = 0.0, "", time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for done, job in enumerate(jobs_, start=1):
            try:
                took, version, of_job = _beside(job, Path(folder) / "ghost.gguf")
            except QwenopsError as why:
                refused.append((job.name, why.message))
                print(f"FAIL {job.name}: {why.message}", file=sys.stderr)
                continue
            seconds += took
            rows += of_job
            left = (time.monotonic() - started) / done * (len(jobs_) - done)
            _report(of_job, f"{done}/{len(jobs_)}, {left / 60:.0f} min left")
    return Run(tuple(rows), seconds, version, tuple(refused))


def _beside(job: Job, path: Path) -> tuple[float, str, list[Row]]:
    """One model dry and for real: the seconds that the dry load took, the library's version, the rows."""
    write_text(path, job.case.dims, job.case.quant)
    before = time.perf_counter()
    needs = dry_loads(read_model(path), job.settings, ())
    seconds = time.perf_counter() - before
    request = {"file": str(path), "settings": [asdict(s) for s in job.settings]}
    answer = run("tests.support.library_load:load_for_real", request, limit_s=LIMIT_S)
    rows = [Row(job, said, parse_load_log(log)) for said, log in zip(needs, answer["logs"], strict=True)]
    return seconds, answer["version"], rows


def _report(rows: Sequence[Row], progress: str) -> None:
    off = [row for row in rows if not row.within]
    print(f"{'FAIL' if off else 'ok  '} {len(rows):3} contexts  {rows[0].job.name}  ({progress})", file=sys.stderr)
    for row in off:
        print(f"       {_settings(row.said.settings)}: {_off(row)}", file=sys.stderr)


def page(done: Run) -> str:
    """docs/dry-load-verified.md."""
    return "\n".join(_page(done)) + "\n"


def _page(done: Run) -> Iterator[str]:
    within = sum(row.within for row in done.rows)
    worst = max((abs(row.worst[0]) for row in done.rows), default=0)
    models = len({row.job.name for row in done.rows})
    architectures = len({row.job.case.dims.architecture for row in done.rows})
    yield "# Dry load, verified"
    yield ""
    yield "Written by `python -m scripts.verify dry-load`; do not edit."
    yield ""
    yield f"{date.today()}, llama-cpp-python {done.version} for the CPU, {platform.system()} on {platform.machine()}."
    yield ""
    yield "Each row is one context of a real load through llama-cpp-python, mapped from the file and not repacked."
    yield "The dry load was asked before it; the buffers are those that the library then logged. The models are ghosts:"
    yield "true headers and shapes of published models without data, so every buffer is real and the weights are not."
    yield ""
    yield bullet(f"{within} of {len(done.rows)} rows within the bar: every part within 1 MiB.")
    yield bullet(f"The worst part of any row is {worst / MIB:.2f} MiB off.")
    yield bullet(
        f"{len(done.rows)} contexts of {models} models of {architectures} architectures took {done.seconds:.1f} s to "
        "ask, a child for each model."
    )
    yield from (bullet(f"Not loaded: {name}: {why}") for name, why in done.refused)
    yield ""
    yield "All sizes in MiB."
    yield ""
    yield (
        "| Model | Context | KV | Batch | Flash attention | Outputs | Weights | KV cache | State | Compute | Output "
        "| Worst part off | Within the bar |"
    )
    yield "|---|--:|---|--:|---|---|--:|--:|--:|--:|--:|--:|---|"
    for row in sorted(done.rows, key=lambda r: (r.job.case.dims.architecture, r.job.name)):
        s = row.said.settings
        sizes = [f"{real / MIB:.2f}" if real else "" for _, real in map(row.sizes, PARTS)]
        cells = [row.job.name, _context(s), _kv(s), _batch(s), s.flash_attn, s.outputs, *sizes, _off(row)]
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
