"""A registered model on one's own pages: what it answers, in how much time, from how many tokens."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.model.picture import read_picture
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.runtime.client import Client, Generation
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime

FALLBACK_PROMPT: Final = "Describe what this picture shows."
MOST_PAGES: Final = 200
_PDF_DPI: Final = 200
_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


@dataclass(frozen=True)
class Page:
    """One picture to show: the bytes as they are sent, and where they are from."""

    file: Path
    number: int | None
    data: bytes

    @property
    def label(self) -> str:
        """The file's name, with the page where it has several."""
        return self.file.name if self.number is None else f"{self.file.name} p. {self.number}"


def split_given(given: Sequence[str]) -> tuple[list[Path], str | None]:
    """The files, and the prompt: the last thing given, where it is no file. Raises BadInput without a file."""
    files, prompt = list(given), None
    if len(files) > 1 and not _could_be_file(files[-1]):
        prompt = files.pop()
    missing = [f for f in files if not Path(f).exists()]
    if not files or missing:
        raise BadInput(
            f"no such file: {missing[0]}" if missing else "no picture was given", do="qwenops try NAME IMAGE"
        )
    return [Path(f) for f in files], prompt


def try_result(
    names: Sequence[str],
    files: Sequence[Path],
    prompt: str | None,
    *,
    task: str,
    num_predict: int,
    think: bool | None,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> Result:
    """Show every page to every model, one model after the other ("qwenops.try/1").

    Exit code 1 when an answer failed, is empty, or ran into `num_predict`. A page that cannot be shown fails alone.
    """
    from qwenops.runtime.discover import discover, need_server

    wanted = [name.strip() for name in names]
    for name in wanted:
        checked_name(name)
    pages, refused = _pages(files)
    if not pages:
        raise refused[0][1]
    runtime = discover(probe_devices=False)
    need_server(runtime)
    runs = [
        _run(name, page, prompt or default_prompt(name, task, runtime), runtime, num_predict, think, say, progress)
        for name in wanted
        for page in pages
    ]
    data = {
        "models": wanted,
        "runs": runs,
        "refused": [{"file": str(path), "error": e.message} for path, e in refused],
    }
    ok = not refused and all(run["ok"] for run in runs)
    return Result("qwenops.try/1", data, notes=tuple(e.message for _, e in refused), exit_code=0 if ok else 1)


def default_prompt(name: str, task: str, runtime: Runtime) -> str:
    """The makers' own words for the task where the model's family is known, else a plain question."""
    from qwenops.modelfile.families import family_of, prompts
    from qwenops.setup.registered import registered_model

    found = registered_model(name, runtime)
    known = prompts(family_of(found.model), task) if found else ()
    return known[0].text if known else FALLBACK_PROMPT


def _run(
    name: str,
    page: Page,
    prompt: str,
    runtime: Runtime,
    num_predict: int,
    think: bool | None,
    say: Callable[[str], None],
    progress: Progress,
) -> dict[str, Any]:
    say(f"{name} reads {page.label}")
    row: dict[str, Any] = {"name": name, "file": str(page.file), "page": page.number, "prompt": prompt}
    written = [0]

    def on_text(piece: str) -> None:
        written[0] += len(piece)
        progress(f"{name} reads {page.label}: {written[0]} characters", 0, 0)

    message = {"role": "user", "content": prompt, "images": [page.data]}
    options = {"num_predict": num_predict}
    try:
        answer = Client(runtime.url).chat(name, [message], options=options, think=think, on_text=on_text)
    except QwenopsError as e:
        return {**row, "error": e.message, "ok": False}
    return {**row, **_answered(answer)}


def _answered(answer: Generation) -> dict[str, Any]:
    cut = answer.done_reason == "length"
    return {
        "text": answer.text,
        "thinking": answer.thinking,
        "prompt_tokens": answer.prompt_tokens,
        "tokens": answer.tokens,
        "load_seconds": round(answer.load_s, 2),
        "prompt_seconds": round(answer.prompt_s, 2),
        "generate_seconds": round(answer.generate_s, 2),
        "tokens_per_second": round(answer.tokens / answer.generate_s, 1) if answer.generate_s else None,
        "cut": cut,
        "error": None,
        "ok": bool(answer.text.strip()) and not cut,
    }


def _could_be_file(text: str) -> bool:
    path = Path(text)
    try:
        return path.exists() or path.suffix.lower() in (*_SUFFIXES, ".pdf")
    except OSError:  # a prompt can be longer than any path
        return False


def _pages(files: Sequence[Path]) -> tuple[list[Page], list[tuple[Path, QwenopsError]]]:
    pages: list[Page] = []
    refused: list[tuple[Path, QwenopsError]] = []
    for path in _unfolded(files):
        try:
            pages.extend(_pdf_pages(path) if path.suffix.lower() == ".pdf" else [_picture(path)])
        except QwenopsError as e:
            refused.append((path, e))
        if len(pages) > MOST_PAGES:
            raise BadInput(f"more than {MOST_PAGES} pages", do="give fewer at a time")
    return pages, refused


def _unfolded(files: Sequence[Path]) -> Iterator[Path]:
    """The files, and of a folder the pictures and PDFs in it by name."""
    for path in files:
        if path.is_dir():
            yield from sorted(p for p in path.iterdir() if p.suffix.lower() in (*_SUFFIXES, ".pdf"))
        else:
            yield path


def _picture(path: Path) -> Page:
    read_picture(path)
    return Page(path, None, path.read_bytes())


def _pdf_pages(path: Path) -> Iterator[Page]:
    """Each page as a PNG at 200 dots an inch, about what a page of 4096 tokens still shows."""
    try:
        import pypdfium2
    except ImportError:
        raise PartMissing("reading a PDF needs pypdfium2", do='pip install "qwenops[pdf]"') from None
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as e:
        raise BadInput(f"{path} is not a PDF that can be read: {e}") from None
    for number, page in enumerate(document, 1):
        picture = io.BytesIO()
        page.render(scale=_PDF_DPI / 72).to_pil().save(picture, "PNG")
        yield Page(path, number, picture.getvalue())
