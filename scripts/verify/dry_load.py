"""The dry load beside real loads of the same library, over the models and settings of the grid.

Every row is one context of a real load on the CPU through llama-cpp-python, mapped and not repacked. The dry load is
asked first, one child a model for all of its rows; then the model is loaded, and the buffers that the library logs are
compared: every part within 1 MiB.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from qwenops.errors import QwenopsError
from qwenops.memory.buffer_lines import BufferKind
from qwenops.memory.dry_load import dry_loads
from qwenops.memory.load_log import LoadLines, parse_load_log
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
    """One context: what the dry load said of each part, and what the real one then logged."""

    settings: LoadSettings
    said: dict[str, int]
    real: dict[str, int]
    complete: bool

    @property
    def worst(self) -> tuple[int, str]:
        """By how much the worst part is off, and which one it is."""
        off = {part: self.said[part] - self.real[part] for part in PARTS}
        part = max(off, key=lambda p: abs(off[p]))
        return off[part], part

    @property
    def within(self) -> bool:
        """Whether the row keeps the bar."""
        return self.complete and abs(self.worst[0]) <= BAR


@dataclass(frozen=True)
class Done:
    """All rows of one model, with what the dry load took; or why one side would not load it."""

    name: str
    architecture: str
    ghost: str
    rows: tuple[Row, ...] = ()
    seconds: float = 0
    version: str = ""
    refused: str = ""

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Done:
        """What was kept as JSON."""
        rows = (Row(**{**row, "settings": _settings_from(row["settings"])}) for row in data["rows"])
        return Done(**{**data, "rows": tuple(rows)})


def _settings_from(data: Mapping[str, Any]) -> LoadSettings:
    return LoadSettings(**{**data, "tensor_split": tuple(data["tensor_split"])})


def compare(said: Need, real: LoadLines) -> Row:
    """One context's parts side by side."""
    return Row(
        settings=said.settings,
        said={part: getattr(said.host, f"{part}_bytes") for part in PARTS},
        real={part: real.host_bytes(kind) for part, kind in PARTS.items()},
        complete=real.complete,
    )


def verify(jobs_: Sequence[Job], keep: Path | None = None) -> list[Done]:
    """Ask about each model, load it, and say on stderr how far it is; models in the file `keep` are done already."""
    kept = _kept(keep) if keep else {}
    models: list[Done] = []
    started, loaded = time.monotonic(), 0
    to_load = sum(_key(job) not in kept for job in jobs_)
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs_:
            done = kept.get(_key(job))
            if done is None:
                done = _beside(job, Path(folder) / "ghost.gguf")
                loaded += 1
                left = (time.monotonic() - started) / loaded * (to_load - loaded)
                _report(done, f"{loaded}/{to_load}, {left / 60:.0f} min left")
                if keep is not None and not done.refused:
                    with keep.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(done)) + "\n")
            models.append(done)
    return models


def _key(job: Job) -> tuple[str, str, tuple[LoadSettings, ...]]:
    return job.name, job.case.ghosts[0], job.settings


def _kept(path: Path) -> dict[tuple[str, str, tuple[LoadSettings, ...]], Done]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    models = [Done.from_data(json.loads(line)) for line in lines]
    return {(m.name, m.ghost, tuple(row.settings for row in m.rows)): m for m in models}


def _beside(job: Job, path: Path) -> Done:
    """One model dry and for real."""
    nothing = Done(job.name, job.case.dims.architecture, job.case.ghosts[0])
    write_text(path, job.case.dims, job.case.quant)
    before = time.perf_counter()
    try:
        needs = dry_loads(read_model(path), job.settings, ())
        seconds = time.perf_counter() - before
        request = {"file": str(path), "settings": [asdict(s) for s in job.settings]}
        answer = run("tests.support.library_load:load_for_real", request, limit_s=LIMIT_S)
    except QwenopsError as why:
        return replace(nothing, refused=why.message)
    rows = tuple(compare(said, parse_load_log(log)) for said, log in zip(needs, answer["logs"], strict=True))
    return replace(nothing, rows=rows, seconds=seconds, version=str(answer["version"]))


def _report(done: Done, progress: str) -> None:
    off = [row for row in done.rows if not row.within]
    bad = "FAIL" if off or done.refused else "ok  "
    print(f"{bad} {len(done.rows):3} contexts  {done.name}  ({progress}) {done.refused}".rstrip(), file=sys.stderr)
    for row in off:
        print(f"       {_settings(row.settings)}: {_off(row)}", file=sys.stderr)


def page(models: Sequence[Done]) -> str:
    """docs/dry-load-verified.md."""
    return "\n".join(_page(models)) + "\n"


def _page(models: Sequence[Done]) -> Iterator[str]:
    rows = [row for model in models for row in model.rows]
    loaded = [model for model in models if not model.refused]
    worst = max((abs(row.worst[0]) for row in rows), default=0)
    architectures = len({model.architecture for model in loaded})
    version = max((model.version for model in models), default="")
    yield "# Dry load, verified"
    yield ""
    yield "Written by `python -m scripts.verify dry-load`; do not edit."
    yield ""
    yield f"{date.today()}, llama-cpp-python {version} for the CPU, {platform.system()} on {platform.machine()}."
    yield ""
    yield "Each row is one context of a real load through llama-cpp-python, mapped from the file and not repacked."
    yield "The dry load was asked before it; the buffers are those that the library then logged. The models are ghosts:"
    yield "true headers and shapes of published models without data, so every buffer is real and the weights are not."
    yield ""
    yield bullet(f"{sum(row.within for row in rows)} of {len(rows)} rows within the bar: every part within 1 MiB.")
    yield bullet(f"The worst part of any row is {worst / MIB:.2f} MiB off.")
    yield bullet(
        f"{len(rows)} contexts of {len(loaded)} models of {architectures} architectures took "
        f"{sum(model.seconds for model in models):.1f} s to ask, a child for each model."
    )
    yield from (bullet(f"Not loaded: {m.name}: {m.refused}") for m in models if m.refused)
    yield ""
    yield "All sizes in MiB."
    yield ""
    yield (
        "| Model | Context | KV | Batch | Flash attention | Outputs | Weights | KV cache | State | Compute | Output "
        "| Worst part off | Within the bar |"
    )
    yield "|---|--:|---|--:|---|---|--:|--:|--:|--:|--:|--:|---|"
    for model in sorted(loaded, key=lambda m: (m.architecture, m.name)):
        for row in model.rows:
            s = row.settings
            sizes = [f"{row.real[part] / MIB:.2f}" if row.real[part] else "" for part in PARTS]
            cells = [model.name, _context(s), _kv(s), _batch(s), s.flash_attn, s.outputs, *sizes, _off(row)]
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
