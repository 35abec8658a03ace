"""What models see in pictures that were made for the question: counts, relations, differences, boxes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.bench.reading.engines.types import Reader
from qwenops.bench.reading.figures import mean, paired, share
from qwenops.bench.reading.score import looped, said
from qwenops.bench.reading.types import Question
from qwenops.bench.vision.ground import system_of, words_for
from qwenops.bench.vision.judge import Judged, judge
from qwenops.bench.vision.scenes import Scene, made_scenes
from qwenops.bench.vision.shapes import HEIGHT, WIDTH
from qwenops.errors import BadInput
from qwenops.result import Result
from qwenops.setup.given import Given
from qwenops.setup.seers import STOPPED, Engine, OnPage, Row, askings_of, engine_data, family, matrix, remember

_CAP: Final = 500  # characters of an answer that the history keeps
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class VisionOptions:
    """Which questions, and how they are asked."""

    questions: int = 40
    seed: int = 1
    kinds: tuple[str, ...] = ()
    image_tokens: tuple[int, ...] = ()
    temperatures: tuple[float, ...] = ()
    most_tokens: int = 256
    save_pages: Path | None = None


def vision_result(
    given: Sequence[Given], options: VisionOptions, engine: Engine, *, on_page: OnPage | None = None
) -> Result:
    """Ask every model every question in every way ("qwenops.vision/1"); exit codes as bench ocr has them."""
    if not given and options.save_pages is None:
        raise BadInput("no model was named", do="qwenops bench vision MODEL...")
    scenes = made_scenes(options.questions, options.seed, options.kinds)
    if options.save_pages:
        save(scenes, options.save_pages)
    askings = askings_of(options.image_tokens, options.temperatures, options.seed, options.most_tokens)
    rows: list[Row] = []
    stopped = False
    if given:
        rows, stopped = matrix(given, engine, askings, lambda reader, _: questions_of(scenes, reader), on_page=on_page)
    judged = [judged_of(row, scenes) for row in rows]
    for row, found in zip(rows, judged, strict=True):
        _remember(row, scenes, found)
    results = [row_data(row, scenes, found) for row, found in zip(rows, judged, strict=True)]
    data = {
        "questions": [{"id": s.id, "kind": s.kind, "asked": s.asked, "expected": s.expected} for s in scenes],
        "saved": str(options.save_pages) if options.save_pages else None,
        "results": results,
        "compared": _compared(judged),
        "settings": {"seed": options.seed, "most_tokens": options.most_tokens},
        "engine": engine_data(rows),
        "stopped": stopped,
    }
    bad = any(row["status"] == "failed" or row["failed_pages"] for row in results)
    notes = [
        f"{row.source}: nobody says in which coordinates this family answers: no grounding questions"
        for row in rows
        if row.cell and any(s.kind == "ground" for s in scenes) and system_of(family(row.cell.reader)) is None
    ]
    if stopped:
        notes.append("stopped; the same command goes on where it was")
    return Result("qwenops.vision/1", data, tuple(dict.fromkeys(notes)), STOPPED if stopped else int(bad))


def questions_of(scenes: Sequence[Scene], reader: Reader) -> list[Question]:
    """The questions in the words of the reader's family; those that nobody could judge are left out."""
    kin = family(reader)
    return [
        Question(s.id, _words(s, kin), s.pictures, ((WIDTH, HEIGHT),) * len(s.pictures))
        for s in scenes
        if s.kind != "ground" or system_of(kin)
    ]


def judged_of(row: Row, scenes: Sequence[Scene]) -> dict[str, Judged]:
    """Every answered question, judged."""
    if row.cell is None:
        return {}
    reader, answers = row.cell.reader, row.cell.answers
    system, seen = system_of(family(reader)), reader.seen_as(row.asking, (WIDTH, HEIGHT))
    return {s.id: judge(s, answers[s.id].text, system, seen) for s in scenes if s.id in answers}


def row_data(row: Row, scenes: Sequence[Scene], judged: Mapping[str, Judged]) -> dict[str, Any]:
    """What came of one cell, as plain JSON values."""
    facts = row.facts()
    cell = row.cell
    done = [s for s in scenes if s.id in judged]
    if cell and not facts["error"] and len(done) + len(cell.failed) < len(questions_of(scenes, cell.reader)):
        facts["status"] = "stopped"
    answers = [cell.answers[s.id] for s in done] if cell else []
    boxes = [judged[s.id].iou or 0.0 for s in done if s.kind == "ground"]
    kinds = dict.fromkeys(s.kind for s in done)
    wrong = [s for s in done if not judged[s.id].right]
    return {
        **facts,
        "answered": len(done),
        "right": share(sum(judged[s.id].right for s in done), len(done)).as_data() if done else None,
        "kinds": {kind: _kind_data([s for s in done if s.kind == kind], judged) for kind in kinds},
        "iou": mean(boxes).as_data() if boxes else None,
        "empty": sum(not said(a.text).strip() for a in answers),
        "loops": sum(looped("", a) for a in answers),
        "seconds_per_page": mean([a.seconds for a in answers]).as_data() if answers else None,
        "prompt_tokens_per_page": sum(a.prompt_tokens for a in answers) / len(answers) if answers else None,
        "tokens_per_page": sum(a.tokens for a in answers) / len(answers) if answers else None,
        "wrong": [_sample(s, judged[s.id], row) for s in wrong[:_EXAMPLES]],
        "samples": [_sample(s, judged[s.id], row) for s in done],
    }


def save(scenes: Sequence[Scene], folder: Path) -> None:
    """Write every picture, and the questions with their answers as questions.json."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: pictures go into a folder", do="--save-pages DIR")
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for s in scenes:
        names = [f"{s.id}.png" if len(s.pictures) == 1 else f"{s.id}-{n}.png" for n in range(1, len(s.pictures) + 1)]
        for name, picture in zip(names, s.pictures, strict=True):
            (folder / name).write_bytes(picture)
        told.append({"id": s.id, "pictures": names, "asked": s.asked, "expected": s.expected, "box": s.box})
    (folder / "questions.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _words(scene: Scene, kin: str) -> str:
    return words_for(kin, scene.asked) if scene.kind == "ground" else scene.asked


def _kind_data(scenes: Sequence[Scene], judged: Mapping[str, Judged]) -> dict[str, Any]:
    right = sum(judged[s.id].right for s in scenes)
    return {"questions": len(scenes), "right": share(right, len(scenes)).as_data()}


def _sample(scene: Scene, found: Judged, row: Row) -> dict[str, Any]:
    assert row.cell is not None
    answer = row.cell.answers[scene.id]
    return {
        "id": scene.id,
        "right": found.right,
        "iou": found.iou,
        "asked": scene.asked,
        "expected": scene.expected if scene.box is None else f"{scene.expected} at {list(scene.box)}",
        "answered": answer.text[:_CAP],
        "seconds": answer.seconds,
        "tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
    }


def _compared(judged: Sequence[Mapping[str, Judged]]) -> list[dict[str, Any]]:
    """The cell with the most right answers beside each other one, question by question."""
    wrong = [(n, {i: float(not j.right) for i, j in found.items()}) for n, found in enumerate(judged) if found]
    if len(wrong) < 2:
        return []
    best, its = min(wrong, key=lambda one: sum(one[1].values()) / len(one[1]))
    pairs = [(n, paired(theirs, its, comparisons=len(wrong) - 1)) for n, theirs in wrong if n != best]
    return [{"best": best, "other": other, **found.as_data()} for other, found in pairs if found.pages]


def _remember(row: Row, scenes: Sequence[Scene], judged: Mapping[str, Judged]) -> None:
    for kind in dict.fromkeys(s.kind for s in scenes):
        samples = [_sample(s, judged[s.id], row) for s in scenes if s.kind == kind and s.id in judged]
        remember("vision", row, f"vision {kind}", "question", samples)
