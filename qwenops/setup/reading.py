"""What models read of pages whose text is known, by variant, image budget and temperature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.bench.reading.engines.types import Reader
from qwenops.bench.reading.figures import mean, paired, share
from qwenops.bench.reading.misread import misread
from qwenops.bench.reading.score import PageScore, score
from qwenops.bench.reading.types import Answer, Page, PageSet, Question
from qwenops.errors import BadInput
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.setup.given import Given
from qwenops.setup.seers import (
    STOPPED,
    Engine,
    OnPage,
    Row,
    askings_of,
    engine_data,
    matrix,
    own_words,
    remember,
)

READ: Final = "Read all the text in the image."
FIELDS: Final = "Extract the key-value information in the format:"  # Qwen2.5-VL's OCR cookbook
_CAP: Final = 4000  # characters of truth and answer that the history keeps of a page
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class OcrOptions:
    """Which pages, and how they are asked for; `folder` in place of made pages, `prompt` in place of the makers'."""

    pages: int = 42
    seed: int = 1
    kinds: tuple[str, ...] = ()
    folder: Path | None = None
    image_tokens: tuple[int, ...] = ()
    temperatures: tuple[float, ...] = ()
    most_tokens: int = 2048
    prompt: str | None = None
    strict: bool = False
    save_pages: Path | None = None


def ocr_result(
    given: Sequence[Given],
    options: OcrOptions,
    engine: Engine,
    *,
    on_page: OnPage | None = None,
    progress: Progress = silent,
) -> Result:
    """Show every page to every model in every way ("qwenops.ocr/1").

    Exit code 1 where a cell or a page failed, 130 where it was stopped: then what is finished is shown, and the same
    command goes on. Without models the pages are written to `save_pages` and nothing is asked.
    """
    if not given and options.save_pages is None:
        raise BadInput("no model was named", do="qwenops bench ocr MODEL...")
    pages = _pages(options, progress)
    if options.save_pages:
        save(pages, options.save_pages)
    askings = askings_of(options.image_tokens, options.temperatures, options.seed, options.most_tokens)
    rows: list[Row] = []
    stopped = False
    if given:
        rows, stopped = matrix(
            given, engine, askings, lambda reader, _: questions_of(pages.pages, reader, options.prompt), on_page=on_page
        )
    scores = [scores_of(row, pages.pages, options.strict) for row in rows]
    for row, scored in zip(rows, scores, strict=True):
        _remember(row, pages, scored)
    results = [row_data(row, pages.pages, scored) for row, scored in zip(rows, scores, strict=True)]
    data = {
        "set": pages.name,
        "pages": [_page_data(page) for page in pages.pages],
        "spoiled": [asdict(one) for one in pages.spoiled],
        "saved": str(options.save_pages) if options.save_pages else None,
        "results": results,
        "compared": _compared(rows, scores),
        "settings": {"seed": options.seed, "most_tokens": options.most_tokens, "strict": options.strict},
        "engine": engine_data(rows),
        "stopped": stopped,
    }
    bad = bool(pages.spoiled) or any(row["status"] == "failed" or row["failed_pages"] for row in results)
    notes = [*pages.notes, *(f"{one.id}: {one.why}" for one in pages.spoiled)]
    if stopped:
        notes.append("stopped; the same command goes on where it was")
    return Result("qwenops.ocr/1", data, tuple(notes), STOPPED if stopped else int(bad))


def save(pages: PageSet, folder: Path) -> None:
    """Write every page with its truth beside it, in the form that `--folder` reads."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: pages go into a folder", do="--save-pages DIR")
    folder.mkdir(parents=True, exist_ok=True)
    for page in pages.pages:
        name = page.id if "." in page.id else f"{page.id}.png"
        picture = folder / name
        picture.write_bytes(page.png)
        if page.fields is None:
            picture.with_suffix(".txt").write_text(page.truth + "\n", encoding="utf-8")
        else:
            told = json.dumps(dict(page.fields), ensure_ascii=False, indent=2)
            picture.with_suffix(".json").write_text(told + "\n", encoding="utf-8")


def _pages(options: OcrOptions, progress: Progress) -> PageSet:
    if options.folder:
        from qwenops.bench.reading.folder import folder_pages

        return folder_pages(options.folder)
    from qwenops.bench.reading.made import made_pages

    return made_pages(
        options.pages, options.seed, options.kinds, on_drawn=lambda n, of: progress(f"drawing page {n} of {of}", 0, 0)
    )


def questions_of(pages: Sequence[Page], reader: Reader, prompt: str | None) -> list[Question]:
    words = prompt or own_words(reader, "ocr", READ)
    return [
        Question(
            page.id, words if page.fields is None else _form(page.fields), (page.png,), ((page.width, page.height),)
        )
        for page in pages
    ]


def _form(fields: Mapping[str, str]) -> str:
    return FIELDS + json.dumps(dict.fromkeys(fields, ""), ensure_ascii=False)


def scores_of(row: Row, pages: Sequence[Page], strict: bool) -> dict[str, PageScore]:
    if row.cell is None:
        return {}
    answers = row.cell.answers
    return {page.id: score(page, answers[page.id], strict=strict) for page in pages if page.id in answers}


def row_data(row: Row, pages: Sequence[Page], scores: Mapping[str, PageScore]) -> dict[str, Any]:
    facts = row.facts()
    if row.cell and not facts["error"] and len(scores) + len(row.cell.failed) < len(pages):
        facts["status"] = "stopped"
    done = [page for page in pages if page.id in scores]
    texts = [page for page in done if page.fields is None]
    forms = [scores[page.id] for page in done if page.fields is not None]
    answers = [row.cell.answers[page.id] for page in done] if row.cell else []
    rights = [right for form in forms for right in (form.fields or {}).values()]
    kinds = dict.fromkeys(page.kind for page in done)
    return {
        **facts,
        "answered": len(done),
        "wrong": share(sum(scores[p.id].wrong for p in done), len(done)).as_data() if done else None,
        "cer": mean([scores[p.id].cer for p in texts]).as_data() if texts else None,
        "wer": mean([scores[p.id].wer for p in texts]).as_data() if texts else None,
        "forms": {
            "count": len(forms),
            "exact": share(sum(bool(f.exact) for f in forms), len(forms)).as_data(),
            "fields": share(sum(rights), len(rights)).as_data(),
        }
        if forms
        else None,
        "empty": sum(scores[p.id].empty for p in done),
        "loops": sum(scores[p.id].loop for p in done),
        "seconds_per_page": mean([a.seconds for a in answers]).as_data() if answers else None,
        "prompt_tokens_per_page": _average([a.prompt_tokens for a in answers]),
        "tokens_per_page": _average([a.tokens for a in answers]),
        "picture_tokens_per_page": _average([a.picture_tokens for a in answers if a.picture_tokens is not None]),
        "kinds": {kind: _kind_data([p for p in done if p.kind == kind], scores) for kind in kinds},
        "misread": misread(done, scores, row.cell.answers, _EXAMPLES) if row.cell else [],
        "samples": [_sample(page, scores[page.id], row.cell.answers[page.id]) for page in done] if row.cell else [],
    }


def _kind_data(pages: Sequence[Page], scores: Mapping[str, PageScore]) -> dict[str, Any]:
    rates = [scores[page.id].cer for page in pages]
    return {"pages": len(pages), "cer": sum(rates) / len(rates), "wrong": sum(scores[page.id].wrong for page in pages)}


def _sample(page: Page, scored: PageScore, answer: Answer) -> dict[str, Any]:
    return {
        "page": page.id,
        "kind": page.kind,
        "cer": scored.cer,
        "wer": scored.wer,
        "exact": scored.exact,
        "fields": dict(scored.fields) if scored.fields is not None else None,
        "empty": scored.empty,
        "loop": scored.loop,
        "tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "picture_tokens": answer.picture_tokens,
        "seconds": answer.seconds,
        "encode_seconds": answer.encode_s,
        "truth": page.truth[:_CAP],
        "read": answer.text[:_CAP],
    }


def _page_data(page: Page) -> dict[str, Any]:
    return {
        "page": page.id,
        "kind": page.kind,
        "width": page.width,
        "height": page.height,
        "sha256": page.sha256,
        "fields": dict(page.fields) if page.fields is not None else None,
        "about": dict(page.about),
    }


def _compared(rows: Sequence[Row], scores: Sequence[Mapping[str, PageScore]]) -> list[dict[str, Any]]:
    """The cell that reads best beside each other one, by the character error of the same pages."""
    rated = [(n, {page: s.cer for page, s in scored.items()}) for n, scored in enumerate(scores) if scored]
    if len(rated) < 2:
        return []
    best, its = min(rated, key=lambda one: sum(one[1].values()) / len(one[1]))
    told = []
    for other, theirs in rated:
        if other == best:
            continue
        found = paired(theirs, its, comparisons=len(rated) - 1)
        if found.pages:
            told.append({"best": best, "other": other, **found.as_data()})
    return told


def _remember(row: Row, pages: PageSet, scores: Mapping[str, PageScore]) -> None:
    if row.cell is None:
        return
    samples = [_sample(page, scores[page.id], row.cell.answers[page.id]) for page in pages.pages if page.id in scores]
    remember("reading", row, f"ocr {pages.name}", "page", samples)


def _average(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None
