"""Registered models on one's own pages: what each answers, in how much time, from how many tokens.

Models take turns: all pages by one, then all by the next, so that each is loaded once and has the machine alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput, CheckFailed, QwenopsError, ServerDown
from qwenops.ollama.repetition import repeated_end
from qwenops.ollama.runners import sharing
from qwenops.ollama.sight import planned_tokens
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.runtime.client import LONG_S, Client, Generation
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime
from qwenops.runtime.wire import ServerRefused
from qwenops.setup.images import turned_notes
from qwenops.setup.pages import Page, could_be_file, pages_in
from qwenops.setup.schema_check import problem, read_schema

FALLBACK_PROMPT: Final = "Describe what this picture shows."
STOPPED_EXIT_CODE: Final = 130
_LOAD_LIMIT_S: Final = 1800.0


@dataclass(frozen=True)
class TryOptions:
    """What is asked of `try` beside models and files.

    `schema` is a file with a JSON schema that answers must follow, `out` a folder that gets each answer as a file.
    """

    task: str = "ocr"
    num_predict: int = 4096
    think: bool | None = None
    schema: Path | None = None
    out: Path | None = None


def split_asked(
    names: str, given: Sequence[str], on: Sequence[Path], prompt: str | None
) -> tuple[list[str], list[Path], str | None]:
    """Models, files and prompt: `NAME,NAME FILE... [PROMPT]`, or with --on `NAME... [PROMPT] --on FILE...`.

    The last thing given is the prompt where it is no file (no name). Raises BadInput where no file is left.
    """
    words = list(given)
    if on:
        if prompt is None and words and len(words[-1].split()) > 1:
            prompt = words.pop()
        models, files = [names, *words], [str(path) for path in on]
    else:
        models, files = [names], words
        if prompt is None and len(files) > 1 and not could_be_file(files[-1]):
            prompt = files.pop()
    missing = [f for f in files if not Path(f).exists()]
    if not files or missing:
        raise BadInput(
            f"no such file: {missing[0]}" if missing else "no picture was given",
            do=("qwenops try NAME IMAGE", "qwenops try NAME NAME --on FOLDER     (several models)"),
        )
    several = dict.fromkeys(name.strip() for one in models for name in one.split(",") if name.strip())
    return list(several), [Path(f) for f in files], prompt


def try_result(
    names: Sequence[str],
    files: Sequence[Path],
    prompt: str | None,
    options: TryOptions,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> Result:
    """Show every page to every model ("qwenops.try/1").

    Exit code 1 when an answer failed, is empty, ran into `num_predict` or is not of the schema. A page that cannot be
    shown fails alone. What was finished is kept when it is stopped (130) or the server goes away (3).
    """
    from qwenops.plan.profile import profile
    from qwenops.runtime.discover import discover, need_server

    wanted = list(dict.fromkeys(names))
    if not wanted:
        raise BadInput("no model was named", do="qwenops list")
    for name in wanted:
        checked_name(name)
    profile(options.task)
    schema = read_schema(options.schema) if options.schema else None
    pages, refused = pages_in(files)
    if not pages:
        raise refused[0][1] if refused else BadInput(f"{files[0]} has no picture and no PDF in it")
    if options.out:
        if options.out.exists() and not options.out.is_dir():
            raise BadInput(f"{options.out} is a file: answers go into a folder", do="--out DIR")
        options.out.mkdir(parents=True, exist_ok=True)
    runtime = discover(probe_devices=False)
    need_server(runtime)
    say(f"{len(pages)} page{'s' * (len(pages) > 1)}, {len(wanted)} model{'s' * (len(wanted) > 1)}: each is loaded once")
    runs: list[dict[str, Any]] = []
    ended: int | None = None
    notes = [*(e.message for _, e in refused), *turned_notes([page.label for page in pages if page.turned])]
    try:
        for number, name in enumerate(wanted):
            if number:
                _unload(wanted[number - 1], runtime)
            if len(wanted) > 1:
                _unload(name, runtime)  # loaded afresh, it has no page in its cache that it read before
            turn = _Turn(name, runtime, options, schema, say, progress)
            for row in turn.runs(pages, prompt):
                runs.append(row)
    except KeyboardInterrupt:
        ended = STOPPED_EXIT_CODE
    except ServerDown as down:
        if not runs:
            raise
        ended = down.exit_code
        notes.append(down.message)
    if ended is not None:
        notes.append(f"stopped: {len(runs)} of {len(pages) * len(wanted)} answers were finished")
    data = {
        "models": wanted,
        "pages": len(pages),
        "stopped": ended is not None,
        "schema_file": str(options.schema) if options.schema else None,
        "out": str(options.out) if options.out else None,
        "runs": runs,
        "summary": [summary(name, [run for run in runs if run["name"] == name]) for name in wanted],
        "refused": [{"file": str(path), "error": e.message} for path, e in refused],
    }
    ok = not refused and all(run["ok"] for run in runs)
    return Result("qwenops.try/1", data, tuple(notes), ended if ended is not None else 0 if ok else 1)


def default_prompt(name: str, task: str, runtime: Runtime) -> str:
    """The makers' own words for the task where the model's family is known, else a plain question."""
    from qwenops.modelfile.families import family_of, prompts
    from qwenops.setup.registered import registered_model

    found = registered_model(name, runtime)
    known = prompts(family_of(found.model), task) if found else ()
    return known[0].text if known else FALLBACK_PROMPT


def summary(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One model's answers in figures; what no answer could tell is None. Seconds a page leave the load out."""
    told = [run for run in runs if run["error"] is None]
    answering = sum(run["generate_seconds"] for run in told)
    reading = sum(run["prompt_seconds"] for run in told)
    tokens = sum(run["tokens"] for run in told)
    return {
        "name": name,
        "pages": len(runs),
        "ok": sum(run["ok"] for run in runs),
        "empty": sum(run["empty"] for run in told),
        "looped": sum(run["looped"] for run in told),
        "cut": sum(run["cut"] for run in told),
        "refused": len(runs) - len(told),
        "not_of_schema": sum(run["schema_problem"] is not None for run in told),
        "prompt_tokens": sum(run["prompt_tokens"] for run in told),
        "tokens": tokens,
        "load_seconds": next((run["load_seconds"] for run in told), None),
        "seconds_per_page": round((reading + answering) / len(told), 2) if told else None,
        "tokens_per_second": round(tokens / answering, 1) if answering else None,
    }


class _Turn:
    """One model's turn: it is loaded, shown each page, and its answers are kept as they come."""

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        options: TryOptions,
        schema: Mapping[str, Any] | None,
        say: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self.name, self.runtime, self.options, self.schema = name, runtime, options, schema
        self.say, self.progress = say, progress
        self.client = Client(runtime.url)
        self.load_seconds: float | None = None
        self.num_ctx: int | None = None
        self._files: set[Path] = set()

    def runs(self, pages: Sequence[Page], prompt: str | None) -> Iterator[dict[str, Any]]:
        """A row a page. What stops the model itself stops every page of its turn. Raises ServerDown."""
        from qwenops.setup.registered import registered_model

        words = prompt or default_prompt(self.name, self.options.task, self.runtime)
        failed: QwenopsError | None = None
        try:
            self._load()
        except ServerDown:
            raise
        except QwenopsError as e:
            failed = e
        found = registered_model(self.name, self.runtime)
        for page in pages:
            tokens = None
            if found is not None:
                tokens = planned_tokens(found.model, page.width, page.height, environment=self.runtime.environment)
            row: dict[str, Any] = {
                "name": self.name,
                "file": str(page.file),
                "page": page.number,
                "prompt": words,
                "width": page.width,
                "height": page.height,
                "picture_tokens": tokens,
                "saved": None,
            }
            try:
                if failed:
                    raise failed
                self._check_room(page, tokens)
                answer = self._answer(page, words)
            except ServerDown:
                raise
            except (QwenopsError, OSError) as e:
                yield {**row, **_failed(page, e)}
                continue
            row |= self._answered(answer)
            row["saved"] = self._save(page, row)
            yield row

    def _load(self) -> None:
        """Load the model before its first page, so that the load is told apart and its context is known."""
        wanted = checked_name(self.name)
        try:
            capabilities = self.client.show(wanted.short).get("capabilities") or ()
        except ServerRefused as refused:
            if refused.status != 404:
                raise
            raise CheckFailed(f"Ollama has no model {self.name}", do="qwenops list") from None
        if "vision" not in capabilities:
            raise CheckFailed(f"{self.name} has no projector: it cannot take a picture", do=f"qwenops show {self.name}")
        self.say(f"loading {self.name}")
        self.progress(f"loading {self.name}", 0, 0)
        started = time.monotonic()
        self.client.load(wanted.short, timeout_s=_LOAD_LIMIT_S)
        self.load_seconds = time.monotonic() - started
        one = next(iter(sharing(self.client, wanted, self.client.ps())), None)
        self.num_ctx = one.context_length if one else None

    def _check_room(self, page: Page, tokens: int | None) -> None:
        """Say before a picture is sent that the context cannot hold it: the server would only refuse it."""
        if tokens is None or self.num_ctx is None or tokens < self.num_ctx:
            return
        raise CheckFailed(
            f"{page.label} takes {tokens} tokens and {self.name} has a context of {self.num_ctx}: it was not sent",
            do=(
                f"qwenops update {self.name} --for {self.options.task}     (a larger num_ctx)",
                f"or a smaller picture: {page.width} x {page.height} pixels",
            ),
        )

    def _answer(self, page: Page, prompt: str) -> Generation:
        self.say(f"{self.name} reads {page.label}")
        written = [0]

        def on_text(piece: str) -> None:
            written[0] += len(piece)
            self.progress(f"{self.name} reads {page.label}: {written[0]} characters", 0, 0)

        fields: dict[str, Any] = {"format": self.schema} if self.schema else {}
        return self.client.chat(
            self.name,
            [{"role": "user", "content": prompt, "images": [page.data()]}],
            options={"num_predict": self.options.num_predict},
            think=self.options.think,
            on_text=on_text,
            timeout_s=LONG_S,
            **fields,
        )

    def _answered(self, answer: Generation) -> dict[str, Any]:
        cut = answer.done_reason == "length"
        # Ollama breaks an answer off after 30 equal tokens, without a word (llm/llama_server.go, 0.32.14).
        looped = answer.done_reason == "" or (cut and bool(repeated_end(answer.text) or repeated_end(answer.thinking)))
        empty = not answer.text.strip()
        wrong = problem(answer.text, self.schema) if self.schema is not None and not empty else None
        used = answer.prompt_tokens + answer.tokens
        return {
            "text": answer.text,
            "thinking": answer.thinking,
            "prompt_tokens": answer.prompt_tokens,
            "tokens": answer.tokens,
            "load_seconds": round(self.load_seconds or 0.0, 2),
            "prompt_seconds": round(answer.prompt_s, 2),
            "generate_seconds": round(answer.generate_s, 2),
            "tokens_per_second": round(answer.tokens / answer.generate_s, 1) if answer.generate_s else None,
            "num_ctx": self.num_ctx,
            "empty": empty,
            "cut": cut,
            "looped": looped,
            "context_full": cut and self.num_ctx is not None and used >= self.num_ctx,
            "schema_problem": wrong,
            "error": None,
            "do": [],
            "ok": not (empty or cut or looped or wrong),
        }

    def _save(self, page: Page, row: Mapping[str, Any]) -> str | None:
        """Write an answer below the folder that was asked for: a folder a model, so that two can be compared."""
        if self.options.out is None:
            return None
        folder = self.options.out / self.name.replace("/", "-").replace(":", "-")
        folder.mkdir(exist_ok=True)
        stem = page.file.name if page.number is None else f"{page.file.name}.p{page.number}"
        end = ".json" if self.schema is not None else ".txt"
        path, again = folder / f"{stem}{end}", 1
        while path in self._files:  # pages of the same name in several folders
            again += 1
            path = folder / f"{stem}.{again}{end}"
        self._files.add(path)
        path.write_text(str(row["text"]).strip() + "\n", encoding="utf-8")
        return str(path)


def _failed(page: Page, error: QwenopsError | OSError) -> dict[str, Any]:
    if isinstance(error, QwenopsError):
        return {"error": error.message, "do": list(error.do), "ok": False}
    return {"error": f"{page.file} cannot be read: {error.strerror}", "do": [], "ok": False}


def _unload(name: str, runtime: Runtime) -> None:
    """Make room for the next model: two at a time would push each other's layers to the CPU."""
    client, wanted = Client(runtime.url), checked_name(name)
    with contextlib.suppress(QwenopsError):
        for one in sharing(client, wanted, client.ps()):
            client.unload(wanted.short, shown_as=one.name)
