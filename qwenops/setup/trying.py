"""A registered model on one's own pages: what it answers, in how much time, from how many tokens."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.model.picture import SUFFIXES, read_picture, unfolded
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.runtime.client import Client, Generation
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime
from qwenops.setup.images import turned_notes

FALLBACK_PROMPT: Final = "Describe what this picture shows."
MOST_PAGES: Final = 200
_PDF_DPI: Final = 200
_MOST_PIXELS: Final = 20_000_000  # of a rendered page; a picture of 16384 tokens, the most anyone sets, has 17 million
_OTHER_SUFFIXES: Final = (".pdf", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".jxl")


@dataclass(frozen=True)
class Page:
    """One picture to show: a file, or one page of a PDF. Its bytes are made when they are sent: pages can be many."""

    file: Path
    number: int | None = None
    turned: bool = False

    def data(self) -> bytes:
        """What is sent. Raises BadInput where the page cannot be drawn."""
        return self.file.read_bytes() if self.number is None else _drawn(self.file, self.number)

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
    from qwenops.plan.profile import profile
    from qwenops.runtime.discover import discover, need_server

    wanted = list(dict.fromkeys(name.strip() for name in names))
    if not wanted:
        raise BadInput("no model was named", do="qwenops list")
    for name in wanted:
        checked_name(name)
    profile(task)
    pages, refused = _pages(files)
    if not pages:
        raise refused[0][1] if refused else BadInput(f"{files[0]} has no picture and no PDF in it")
    runtime = discover(probe_devices=False)
    need_server(runtime)
    runs = []
    for name in wanted:
        words = prompt or default_prompt(name, task, runtime)
        runs += [_run(name, page, words, runtime, num_predict, think, say, progress) for page in pages]
    data = {
        "models": wanted,
        "runs": runs,
        "refused": [{"file": str(path), "error": e.message} for path, e in refused],
    }
    ok = not refused and all(run["ok"] for run in runs)
    notes = (*(e.message for _, e in refused), *turned_notes([page.label for page in pages if page.turned]))
    return Result("qwenops.try/1", data, notes=notes, exit_code=0 if ok else 1)


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

    options = {"num_predict": num_predict}
    try:
        message = {"role": "user", "content": prompt, "images": [page.data()]}
        answer = Client(runtime.url).chat(name, [message], options=options, think=think, on_text=on_text)
    except QwenopsError as e:
        return {**row, "error": e.message, "ok": False}
    except OSError as e:
        return {**row, "error": f"{page.file} cannot be read: {e.strerror}", "ok": False}
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
        return path.exists() or path.suffix.lower() in (*SUFFIXES, *_OTHER_SUFFIXES)
    except OSError:  # a prompt can be longer than any path
        return False


def _pages(files: Sequence[Path]) -> tuple[list[Page], list[tuple[Path, QwenopsError]]]:
    pages: list[Page] = []
    refused: list[tuple[Path, QwenopsError]] = []
    for path in unfolded(files, SUFFIXES | {".pdf"}):
        try:
            pages += _pages_of(path)
        except QwenopsError as e:
            refused.append((path, e))
        if len(pages) > MOST_PAGES:
            raise BadInput(f"{len(pages)} pages up to {path.name}, and {MOST_PAGES} are the most", do="give fewer")
    return pages, refused


def _pages_of(path: Path) -> list[Page]:
    if path.suffix.lower() != ".pdf":
        return [Page(path, turned=read_picture(path).turned)]
    with _document(path) as document:
        return [Page(path, number) for number in range(1, len(document) + 1)]


@contextlib.contextmanager
def _document(path: Path) -> Iterator[Any]:
    """A PDF, open. Raises BadInput for what is none, wants a password, or has a page that cannot be drawn."""
    try:
        import pypdfium2
    except ImportError:
        raise PartMissing("reading a PDF needs pypdfium2", do='pip install "qwenops[pdf]"') from None
    try:
        with contextlib.closing(pypdfium2.PdfDocument(path)) as document:
            yield document
    except pypdfium2.PdfiumError as e:
        raise BadInput(f"{path} is not a PDF that can be read: {e}") from None
    except (OSError, MemoryError) as e:
        raise BadInput(f"{path} cannot be read: {getattr(e, 'strerror', None) or type(e).__name__}") from None


def _drawn(path: Path, number: int) -> bytes:
    """A page as a PNG at 200 dots an inch, about what a page of 4096 tokens still shows; less for a poster."""
    picture = io.BytesIO()
    with _document(path) as document:
        page = document[number - 1]
        width, height = page.get_size()
        most = math.sqrt(_MOST_PIXELS / max(width * height, 1))
        page.render(scale=min(_PDF_DPI / 72, most)).to_pil().save(picture, "PNG")
    return picture.getvalue()
