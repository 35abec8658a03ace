"""Pictures read back: the words in each by a registered vision model, beside the words that the prompt asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.bench.reading.engines.types import Failed, Reader
from qwenops.bench.reading.types import Answer, Asking, Question
from qwenops.errors import BadInput, QwenopsError
from qwenops.image.text_check import TextCheck, best_of, check_texts, texts_of
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result

READ: Final = "Read all the text in the image."
"""The makers' own words for Qwen2.5-VL and Qwen3-VL (their OCR cookbook and README)."""
_MOST_TOKENS: Final = 1024


@dataclass(frozen=True)
class PictureRead:
    """One picture: what was read and how it ended, the check against the texts; or why it could not be read."""

    file: Path
    read: str = ""
    seconds: float = 0.0
    ended: str = ""
    check: TextCheck | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was read and every text is right."""
        return self.check is not None and self.check.ok


def read_back(
    reader: Reader, files: Sequence[Path], texts: Sequence[str], *, progress: Progress = silent
) -> tuple[PictureRead, ...]:
    """Have one model read each picture and hold the texts against it, in the order of the files.

    A file that is no picture fails alone; raises what stops the model as a whole.
    """
    from qwenops.model.picture import read_picture

    rows: dict[str, PictureRead] = {}
    questions: list[Question] = []
    for number, file in enumerate(files):
        try:
            picture = read_picture(file)
            size = (picture.width, picture.height)
            questions.append(Question(str(number), READ, (file.read_bytes(),), (size,)))
        except QwenopsError as error:
            rows[str(number)] = PictureRead(file, error=error.message)

    def heard(question: Question, answer: Answer | Failed) -> None:
        file = files[int(question.id)]
        if isinstance(answer, Failed):
            rows[question.id] = PictureRead(file, error=answer.why)
            return
        check = check_texts(texts, answer.text)
        rows[question.id] = PictureRead(file, answer.text, answer.seconds, answer.ended, check)

    def on_words(question: Question, characters: int) -> None:
        progress(f"{reader.label} reads {files[int(question.id)].name}: {characters} characters", 0, 0)

    if questions:
        reader.read(Asking(most_tokens=_MOST_TOKENS), questions, heard, on_words)
    return tuple(rows[str(number)] for number in range(len(files)))


def best_picture(pictures: Sequence[PictureRead]) -> PictureRead | None:
    """The picture whose texts are best, also where none is right; None where none was read."""
    read = [(one, one.check) for one in pictures if one.check is not None]
    return read[best_of([check for _, check in read])][0] if read else None


def text_check_result(
    files: Sequence[Path],
    prompt: str,
    by: str,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> Result:
    """Read pictures of one prompt back by a model of the local Ollama ("qwenops.image-text-check/1").

    Exit code 1 when no picture has every text right.
    """
    texts = texts_of(prompt)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise BadInput(f"no such file: {missing}", do=f"ls -l {missing.parent}")
    reader = registered_reader(by)
    say(f"{by} reads {len(files)} picture{'s' * (len(files) != 1)}")
    return Result(*_told(read_back(reader, files, texts, progress=progress), texts, by))


def registered_reader(name: str) -> Reader:
    """A model of the local Ollama that can read pictures.

    Raises ServerDown where none answers, BadInput where the server or the model is not on this machine.
    """
    from qwenops.bench.reading.engines.ollama import OllamaReader
    from qwenops.runtime.discover import discover, need_server
    from qwenops.setup.image_writing import stays_here
    from qwenops.setup.registered import registered_model

    runtime = discover(probe_devices=False)
    need_server(runtime)
    stays_here(runtime, name)
    found = registered_model(name, runtime)
    return OllamaReader(name, runtime, found.model if found else None)


def _told(
    pictures: Sequence[PictureRead], texts: Sequence[str], by: str
) -> tuple[str, dict[str, Any], tuple[str, ...], int]:
    best = best_picture(pictures)
    right = sum(one.ok for one in pictures)
    notes = tuple(f"{one.file.name} cannot be read: {one.error}" for one in pictures if one.error)
    notes += tuple(f"{by} ran into a loop on {one.file.name}" for one in pictures if one.ended == "loop")
    data = {
        "by": by,
        "texts": list(texts),
        "pictures": [_row(one) for one in pictures],
        "right": right,
        "best": str(best.file) if best else None,
    }
    return "qwenops.image-text-check/1", data, notes, 0 if right else 1


def _row(one: PictureRead) -> dict[str, Any]:
    check = one.check
    return {
        "file": str(one.file),
        "ok": one.ok,
        "read": one.read,
        "ended": one.ended or None,
        "seconds": round(one.seconds, 2),
        "error": one.error or None,
        "texts": [
            {
                "text": text.text,
                "verdict": text.verdict,
                "read": text.read,
                "cer": round(text.cer, 4),
                "faults": [{"kind": f.kind, "wanted": f.wanted, "read": f.read} for f in text.faults],
            }
            for text in (check.texts if check else ())
        ],
        "extra": list(check.extra) if check else [],
    }
