"""Models that are shown pictures, under either engine, as a matrix: a cell that fails is marked, the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from qwenops.bench.reading.cells import Cell, fill
from qwenops.bench.reading.engines.types import Reader
from qwenops.bench.reading.types import Asking, Question
from qwenops.errors import BadInput, QwenopsError, ServerDown
from qwenops.modelfile.families import family_of
from qwenops.setup.given import Given, must_be_here, variants

STOPPED: Final = 130
EngineName = Literal["llama-cpp-python", "ollama"]
OnPage = Callable[[str, int, int, float | None, str], None]
"""Called with the cell, the pages done, those in all, the seconds left where they are known, and the page."""


@dataclass(frozen=True)
class Engine:
    """Which engine looks, and how the library runs; `threads` None means the physical cores."""

    name: EngineName = "llama-cpp-python"
    mmproj: Given | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    offline: bool = False


@dataclass(frozen=True)
class Row:
    """One cell of the matrix: what came of it, or the error that kept its model from being looked at at all."""

    source: str
    asking: Asking
    cell: Cell | None
    error: QwenopsError | None = None

    @property
    def failure(self) -> QwenopsError | None:
        """What stopped the cell, if anything did."""
        return self.error or (self.cell.stopped if self.cell else None)

    def facts(self) -> dict[str, Any]:
        """What it is of, as plain JSON values."""
        model = self.cell.reader.model if self.cell else None
        failure = self.failure
        return {
            "model": self.source,
            "label": self.cell.reader.label if self.cell else self.source.rsplit("/", 1)[-1],
            "name": model.name if model else None,
            "quant": model.quant if model else None,
            "file_bytes": model.file_bytes if model else None,
            "image_tokens": self.asking.image_tokens,
            "temperature": self.asking.temperature,
            "status": "failed" if failure else "ok",
            "error": failure.message if failure else None,
            "do": list(failure.do) if failure else [],
            "kept": len(self.cell.answers) - self.cell.here if self.cell else 0,
            "failed_pages": [{"page": p, "why": f.why, "do": list(f.do)} for p, f in self.cell.failed.items()]
            if self.cell
            else [],
        }


def matrix(
    given: Sequence[Given],
    engine: Engine,
    askings: Sequence[Asking],
    questions: Callable[[Reader, Asking], Sequence[Question]],
    *,
    on_page: OnPage | None = None,
) -> tuple[list[Row], bool]:
    """Every model asked in every way, model by model, and whether Ctrl-C ended it: then with what was finished.

    Raises ServerDown where no Ollama answers at all, BadInput for a file that is not there.
    """
    rows: list[Row] = []
    for source, reader in _readers(given, engine):
        if isinstance(reader, QwenopsError):
            rows += [Row(source, asking, None, reader) for asking in askings]
            continue
        try:
            for asking in askings:
                cell = Cell(reader, asking)
                rows.append(Row(source, asking, cell))
                fill(cell, questions(reader, asking), _follow(on_page, cell, len(askings) > 1))
        except KeyboardInterrupt:
            return [row for row in rows if row.error or (row.cell and (row.cell.answers or row.cell.failed))], True
        finally:
            reader.close()
    return rows, False


def askings_of(image_tokens: Sequence[int], temperatures: Sequence[float], seed: int, most_tokens: int) -> list[Asking]:
    """Every budget with every temperature, in the order in which they were named."""
    budgets: Sequence[int | None] = list(dict.fromkeys(image_tokens)) or [None]
    heats = list(dict.fromkeys(temperatures)) or [0.0]
    return [Asking(budget, heat, seed, most_tokens) for budget in budgets for heat in heats]


def remember(
    kind: Literal["reading", "vision"],
    row: Row,
    test: str,
    unit: str,
    samples: Sequence[Any],
) -> None:
    """Keep a cell in the history, one sample a page or question; once, when something of it was asked."""
    cell = row.cell
    if cell is None or not cell.here or not samples:
        return
    from qwenops import history
    from qwenops.machine.detect import detect
    from qwenops.model.read import model_key

    model, machine = cell.reader.model, detect()
    engine = cell.reader.engine
    on_gpu = bool(engine.get("gpu")) and getattr(cell.reader, "gpu_layers", None) != 0
    outcome = history.Outcome(
        kind=kind,
        model=cell.reader.source if engine["name"] == "ollama" or model is None else model.name,
        quant=model.quant if model else "",
        model_key=model_key(model) if model else "",
        test=test,
        unit=unit,
        run=_run_of(cell),
        engine=f"{engine['name']} {engine['version']}",
        device="+".join(d.name for d in machine.devices) if on_gpu and machine.devices else "CPU",
        settings={**cell.settings(), "engine": engine["name"], "engine_build": dict(engine)},
        machine=machine.as_data(),
        samples=tuple(samples),
    )
    with history.open() as kept:
        kept.record_results([outcome])


def family(reader: Reader) -> str:
    """The family whose words and coordinates a model has; "other" where its file is out of reach."""
    return family_of(reader.model) if reader.model else "other"


def own_words(reader: Reader, task: str, fallback: str) -> str:
    """The makers' own words for a task, else the fallback."""
    from qwenops.modelfile.families import prompts

    known = prompts(family(reader), task)
    return known[0].text if known else fallback


def engine_data(rows: Sequence[Row]) -> Mapping[str, Any] | None:
    """The engine of the first cell that had one."""
    for row in rows:
        if row.cell and (row.cell.answers or row.cell.failed):
            return dict(row.cell.reader.engine)
    return None


def _run_of(cell: Cell) -> str:
    from qwenops.history.store import key_of

    return key_of({"reader": dict(cell.reader.identity), "asking": asdict(cell.asking)})[:16]


def _follow(on_page: OnPage | None, cell: Cell, several: bool) -> Callable[[int, int, float | None, str], None]:
    asking = cell.asking
    name = cell.reader.label
    if several:
        name += (f" {asking.image_tokens} tokens" if asking.image_tokens else "") + f" T {asking.temperature:g}"

    def heard(done: int, of: int, left_s: float | None, what: str) -> None:
        if on_page:
            on_page(name, done, of, left_s, what)

    return heard


def _readers(given: Sequence[Given], engine: Engine) -> Iterator[tuple[str, Reader | QwenopsError]]:
    if not given:
        raise BadInput("no model was named", do="qwenops bench ocr MODEL...")
    yield from _registered(given) if engine.name == "ollama" else _files(given, engine)


def _registered(given: Sequence[Given]) -> Iterator[tuple[str, Reader | QwenopsError]]:
    from qwenops.bench.reading.engines.ollama import OllamaReader
    from qwenops.runtime.discover import discover, need_server
    from qwenops.setup.registered import registered_model

    runtime = discover(probe_devices=True)
    need_server(runtime)
    for one in given:
        name = str(one)[len("ollama:") :] if str(one).lower().startswith("ollama:") else str(one)
        try:
            found = registered_model(name, runtime)
            yield name, OllamaReader(name, runtime, found.model if found else None)
        except ServerDown:
            raise
        except QwenopsError as error:
            yield name, error


def _files(given: Sequence[Given], engine: Engine) -> Iterator[tuple[str, Reader | QwenopsError]]:
    from qwenops.bench.reading.engines.library import LibraryReader
    from qwenops.bench.speed import physical_cores

    must_be_here(tuple(given), "bench")
    threads = engine.threads or physical_cores()
    for one in given:
        if isinstance(one, Path) and not one.exists():
            variants((one,), engine.mmproj, offline=engine.offline)  # a stored name, or an error that says what to type
        try:
            models = variants((one,), engine.mmproj, offline=engine.offline)
        except QwenopsError as error:
            yield str(one), error
            continue
        for model in models:
            source = str(one) if len(models) == 1 else model.source
            try:
                must_be_here((model.source,) if model.remote else (), "bench")
                yield source, LibraryReader(model, source=source, threads=threads, gpu_layers=engine.gpu_layers)
            except QwenopsError as error:
                yield source, error
