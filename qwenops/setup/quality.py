"""What quants and KV types cost in quality, as a matrix: a cell that fails is marked and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwenops.bench.quality.run import (
    Reference,
    held,
    model_digest,
    read_reference,
    read_variant,
    reference_of,
    variant_so_far,
)
from qwenops.bench.quality.text import read_text
from qwenops.bench.quality.types import Cell, QualitySettings
from qwenops.errors import BadInput, QwenopsError
from qwenops.memory.types import KVType
from qwenops.model.types import Model
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.setup.given import Given, must_be_here, only_one, variants

STOPPED = 130
_UNITS = {"ppl": "perplexity", "kld": "nats", "same_top": "share"}
OnChunks = Callable[[str, int, int, float], None]
"""Called with what is read, the chunks done, those in all, and the seconds that are left."""
OnCost = Callable[[int, int, str], None]
"""Called with the bytes that will be kept at most, those that are free, and the folder."""


@dataclass(frozen=True)
class Asked:
    """One cell of the matrix: a model under a KV type, or the error that reading its file gave."""

    source: str
    kv_type: KVType
    model: Model | None
    error: QwenopsError | None = None


def quality_result(
    given: tuple[Given, ...],
    reference: Given,
    settings: QualitySettings,
    *,
    text: Path | None = None,
    kv_types: Sequence[KVType] = (),
    offline: bool = False,
    on_chunks: OnChunks | None = None,
    on_cost: OnCost | None = None,
    progress: Progress = silent,
) -> Result:
    """Read the text with the reference, then with every variant beside it ("qwenops.quality/1").

    Without models, the reference's own KV types are compared. Exit code 1 where a cell failed, 130 where it was
    stopped: then what is finished is shown, and the same command goes on. Raises what the reference itself meets.
    """
    must_be_here((reference, *given), "bench quality")
    words = read_text(text)
    base_model = _reference_model(reference, offline=offline)
    cells = tuple(_asked(given, base_model, kv_types, offline=offline))
    base = reference_of(base_model, words, settings, progress=progress)
    follow = _Follow(on_chunks, on_cost)
    rows: list[dict[str, Any]] = []
    stopped = False
    with held(base):
        own = read_reference(base, on_event=follow.of(f"{base_model.quant} (reference)"))
        _remember(base, base_model, "f16", own)
        for cell in cells:
            try:
                rows.append(_measured(base, cell, own.chunks, follow, progress))
            except KeyboardInterrupt:
                stopped = True
                rows += _finished(base, cell, own.chunks)
                break
    data = {
        "reference": {**_facts(base_model, str(reference), "f16"), **_figures(own), "sha256": base.sha256},
        "results": rows,
        "text": {"name": words.name, "sha256": words.sha256, "characters": len(words.content)},
        "settings": {**asdict(settings), "chunks": own.chunks, "threads": base.threads},
        "engine": dict(base.engine),
        "kept": str(base.folder),
    }
    failed = any(row["status"] == "failed" for row in rows)
    notes = _notes(words.note, own, settings, stopped, len(cells) - len(rows), base)
    return Result("qwenops.quality/1", data, notes=notes, exit_code=STOPPED if stopped else int(failed))


def _reference_model(given: Given, *, offline: bool) -> Model:
    model = only_one(given, _models(given, offline=offline))
    _check_readable(model)
    return model


def _asked(given: tuple[Given, ...], reference: Model, kv_types: Sequence[KVType], *, offline: bool) -> Iterator[Asked]:
    """The cells in the order in which they were asked for. Raises BadInput for a file that is not there."""
    kinds = tuple(dict.fromkeys(kv_types)) or ("f16",)
    if not given and kv_types:
        yield from (Asked(reference.source, kv, reference) for kv in kinds)
    for one in given:
        if isinstance(one, Path) and not one.exists():
            variants((one,), None, offline=offline)  # a name of the catalogue, or an error that says what to type
        try:
            models = _models(one, offline=offline)
        except QwenopsError as error:
            yield from (Asked(str(one), kv, None, error) for kv in kinds)
            continue
        for model in models:
            source = str(one) if len(models) == 1 else model.source
            yield from (Asked(source, kv, model) for kv in kinds)


def _models(given: Given, *, offline: bool) -> tuple[Model, ...]:
    from qwenops.model.read import read_variants

    if isinstance(given, Path) and given.exists():
        return read_variants(given, None)  # pictures are not read: no projector is wanted
    models = variants((given,), None, offline=offline)
    for model in models:
        if model.remote:
            must_be_here((model.source,), "bench quality")
    return models


def _check_readable(model: Model) -> None:
    if model.inline_vision:
        raise BadInput(
            f"{model.source} carries its vision tensors inside, as only Ollama's own server reads them",
            do="take a GGUF with a projector of its own",
        )


def _measured(base: Reference, cell: Asked, chunks: int, follow: _Follow, progress: Progress) -> dict[str, Any]:
    """A cell's row, whatever comes of it."""
    model = cell.model
    try:
        if model is None:
            raise cell.error or BadInput(f"{cell.source} cannot be read")
        _check_readable(model)
        heard = follow.of(f"{model.quant} {cell.kv_type}" if cell.kv_type != "f16" else model.quant)
        one = read_variant(base, model, cell.kv_type, on_event=heard, progress=progress)
    except QwenopsError as error:
        facts = _facts(model, cell.source, cell.kv_type)
        return {**facts, **_nothing(), "status": "failed", "error": error.message, "do": list(error.do)}
    _remember(base, model, cell.kv_type, one)
    return {**_facts(model, cell.source, cell.kv_type), **_figures(one), "status": "ok", "error": None}


def _finished(base: Reference, cell: Asked, chunks: int) -> list[dict[str, Any]]:
    """The row of the cell in which the run was stopped, of what it has finished."""
    one = variant_so_far(base, cell.model, cell.kv_type, chunks, 0) if cell.model else None
    if one is None:
        return []
    status = "ok" if one.chunks == chunks else "stopped"
    return [{**_facts(cell.model, cell.source, cell.kv_type), **_figures(one), "status": status, "error": None}]


def _facts(model: Model | None, source: str, kv_type: str) -> dict[str, Any]:
    return {
        "model": source,
        "name": model.name if model else None,
        "file": str(model.path) if model else source,
        "quant": model.quant if model else None,
        "kv_type": kv_type,
        "file_bytes": model.file_bytes if model else None,
    }


_FIGURES = (
    *("ppl", "ppl_error", "kld_mean", "kld_error", "kld_median", "kld_p99", "kld_max"),
    *("same_top", "same_top_error", "ppl_ratio", "ppl_ratio_error", "scored"),
)


def _figures(one: Cell) -> dict[str, Any]:
    return {
        **{name: getattr(one.figures, name) for name in _FIGURES},
        "chunks": one.chunks,
        "kept_chunks": one.chunks - one.here,
        "tokens": one.tokens,
        "seconds": one.seconds,
        "tokens_per_second": one.tokens / one.seconds if one.seconds else None,
        "samples": {name: list(values) for name, values in one.samples.items()},
    }


def _nothing() -> dict[str, Any]:
    return {
        **dict.fromkeys(_FIGURES),
        "chunks": 0,
        "kept_chunks": 0,
        "tokens": 0,
        "seconds": 0.0,
        "tokens_per_second": None,
        "samples": {},
    }


def _remember(base: Reference, model: Model, kv_type: KVType, one: Cell) -> None:
    """Keep a cell in the history, a row a figure with its chunks as samples; once, when it was read."""
    if not one.here:
        return
    from qwenops import history
    from qwenops.machine.detect import detect
    from qwenops.model.read import model_key

    machine = detect()
    settings = {
        **asdict(base.settings),
        "chunks": one.chunks,
        "threads": base.threads,
        "kv_type": kv_type,
        "engine": dict(base.engine),
        "model_sha256": model_digest(model),
        "reference_sha256": base.sha256,
        "text_sha256": base.text.sha256,
        "seconds": one.seconds,
        "figures": asdict(one.figures),
    }
    about = machine.as_data()
    outcomes = [
        history.Outcome(
            kind="quality",
            model=model.name,
            quant=model.quant,
            model_key=model_key(model),
            test=f"{figure.replace('_', '-')} c{base.settings.ctx}",
            unit=_UNITS[figure],
            run=base.folder.name,
            engine=f"llama-cpp-python {base.engine['version']}",
            settings=settings,
            machine=about,
            samples=values,
        )
        for figure, values in one.samples.items()
    ]
    with history.open() as kept:
        kept.record_results(outcomes)


class _Follow:
    """Turns a child's events into what the command line shows."""

    def __init__(self, on_chunks: OnChunks | None, on_cost: OnCost | None) -> None:
        self.on_chunks, self.on_cost = on_chunks, on_cost

    def of(self, what: str) -> Callable[[Mapping[str, Any]], None]:
        """A listener for one child."""

        def heard(event: Mapping[str, Any]) -> None:
            if event["event"] == "cost" and self.on_cost:
                self.on_cost(event["most_bytes"], event["free_bytes"], event["folder"])
            elif event["event"] == "chunks" and self.on_chunks:
                self.on_chunks(what, event["done"], event["chunks"], event["left_s"])

        return heard


def _notes(
    about_text: str, own: Cell, settings: QualitySettings, stopped: bool, unread: int, base: Reference
) -> tuple[str, ...]:
    notes = [about_text] if about_text else []
    if own.chunks < settings.chunks:
        notes.append(f"the text has {own.chunks} windows of {settings.ctx} tokens: all were read")
    if stopped:
        left = f", {unread} not begun" if unread else ""
        notes.append(f"stopped{left}; the same command goes on where it was")
    trained = base.model.hparam("context_length")
    if isinstance(trained, int) and trained < settings.ctx:
        notes.append(f"{base.model.name} was trained for {trained} tokens, and windows of {settings.ctx} were read")
    return tuple(notes)
