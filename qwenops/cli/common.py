"""What the commands share: options that several take, the way a result leaves, the progress line."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from qwenops.memory.types import KV_TYPES
from qwenops.result import Result

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)
REFERENCES = ("hf:", "ollama:", "https://", "http://")
EXL_REFERENCES = ("exl2:", "exl3:")


class ModelType(click.Path):
    """A file or folder, or a model somewhere else, which stays text: a path would swallow a slash of "https://"."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path, or the reference as it was typed."""
        if isinstance(value, str) and value.lower().startswith((*REFERENCES, *EXL_REFERENCES)):
            return value
        return super().convert(value, param, ctx)


MODEL = ModelType(path_type=Path)


def returns_result(function: F) -> F:
    """Add --json, print the command's Result once, and make its exit code the process's."""

    @click.option("--json", "as_json", is_flag=True, help="Print versioned JSON instead of text.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, **kwargs: Any) -> int:
        result: Result = function(*args, **kwargs)
        emit(result, as_json=as_json)
        return result.exit_code

    return wrapper  # type: ignore[return-value]


def emit(result: Result, *, as_json: bool) -> None:
    """The one place where a result is printed: text or JSON to stdout, notes to stderr."""
    if as_json:
        click.echo(json.dumps(result.envelope(), indent=2, ensure_ascii=False))
        if result.rows is None:
            return
    else:
        from qwenops.report.terminal import render

        render(result)
    for note in result.notes:
        click.echo(click.style(f"note: {note}", dim=True), err=True)


def exl_option(function: F) -> F:
    """--cache-bits: the cache of an EXL2 or EXL3 model, whose types are not llama.cpp's."""
    return click.option(
        "--cache-bits", metavar="N", help="EXL2 and EXL3: the cache's bits: 16, 8, 6 or 4; EXL3 also as 6,4."
    )(function)


def given_only(allowed: set[str], engine: str) -> None:
    """Refuse the options that were typed and mean nothing for this engine. Raises BadInput, naming them."""
    from click.core import ParameterSource

    from qwenops.errors import BadInput

    context = click.get_current_context()
    typed = [
        param.opts[0]
        for param in context.command.params
        if isinstance(param, click.Option)
        and param.name not in {*allowed, "as_json"}
        and context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    ]
    if typed:
        raise BadInput(f"{', '.join(typed)} mean{'s' * (len(typed) == 1)} nothing for {engine}", do="leave it out")


def offline_option(function: F) -> F:
    """--offline: for models by reference, what was read before and nothing else."""
    return click.option(
        "--offline", is_flag=True, help="Models by reference: only headers that were read before (or HF_HUB_OFFLINE=1)."
    )(function)


def gpu_option(function: F) -> F:
    """--gpu: plan for hardware that is described, not detected."""
    return click.option(
        "--gpu",
        metavar="SPEC",
        help='Plan for this hardware: "RTX 3060 12GB", 12GiB, "cuda:24GiB,cuda:12GiB", none.',
    )(function)


def model_options(function: F) -> F:
    """--mmproj: name the projector where the folder does not make it clear."""
    return click.option(
        "--mmproj", type=MODEL, metavar="FILE", help="The projector file; otherwise the matching one beside the model."
    )(function)


def cache_options(function: F) -> F:
    """--kv and --flash-attn, for what is asked about or measured under one type of cache."""
    kv = click.option(
        "--kv",
        default="f16",
        show_default=True,
        type=click.Choice(KV_TYPES),
        metavar="TYPE",
        help="KV type: f16, q8_0, q4_0, …",
    )
    return kv(flash_attn_option(function))


def flash_attn_option(function: F) -> F:
    """--flash-attn: fused attention, as the runtime decides or as asked."""
    return click.option(
        "--flash-attn",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "on", "off"]),
        help="Flash attention.",
    )(function)


def ubatch_option(function: F) -> F:
    """--ubatch: tokens that are computed at once."""
    return click.option(
        "--ubatch", default=512, show_default=True, type=click.IntRange(1), metavar="N", help="Physical batch."
    )(function)


def matrix_options(function: F) -> F:
    """What every cell of a table of models or quants and cards is asked under."""
    options = [
        click.option("--kv", type=click.Choice(KV_TYPES), metavar="TYPE", help="KV type.  [default: f16]"),
        click.option(
            "--image-tokens", type=click.IntRange(8, 16384), metavar="N", help="The largest image, in tokens."
        ),
        click.option("--headroom", metavar="SIZE", help="Keep this much free on every card.  [default: 64 MiB]"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def task_options(function: F) -> F:
    """The task and what may be pinned of a plan."""
    options = [
        click.option(
            "--for",
            "task",
            default="chat",
            show_default=True,
            metavar="TASK",
            help="chat, ocr, ocr-json, html, markdown, analysis, compare, grounding, video, thinking.",
        ),
        click.option("--ctx", type=click.IntRange(min=1), metavar="N", help="Pin num_ctx."),
        click.option("--quant", metavar="NAME", help="Pin the quant, for example Q4_K_M."),
        click.option("--kv", type=click.Choice(KV_TYPES), metavar="TYPE", help="Pin the KV type: f16, q8_0, q4_0, …"),
        click.option("--ubatch", type=click.IntRange(min=1), metavar="N", help="Pin the batch (num_batch)."),
        click.option("--images", type=click.IntRange(min=0), metavar="N", help="How many images at once."),
        click.option(
            "--image-tokens", type=click.IntRange(8, 16384), metavar="N", help="The largest image, in tokens."
        ),
        click.option(
            "--image-size", metavar="SIZE", help='What images will really be: 1654x2339, "A4@150dpi", 1920x1080.'
        ),
        click.option("--projector-device", type=click.Choice(["gpu", "cpu"]), help="Pin where images are encoded."),
        click.option("--headroom", metavar="SIZE", help="Keep this much free on every device.  [default: 64 MiB]"),
        click.option(
            "--rung",
            default="auto",
            show_default=True,
            type=click.Choice(["auto", "runtime", "closed-form"]),
            help="Who answers for the finalist.",
        ),
        click.option("--pick", type=click.IntRange(min=1), metavar="N", help="Take suggestion N when nothing fits."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def threads_option(function: F) -> F:
    """--threads of what runs in llama-cpp-python."""
    return click.option(
        "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: physical cores]"
    )(function)


def gpu_layers_option(function: F) -> F:
    """--gpu-layers as a number, for what runs in llama-cpp-python."""
    return click.option("--gpu-layers", type=click.IntRange(0), metavar="N", help="Layers on the GPU.  [default: all]")(
        function
    )


def ask_before(foretold: Result, question: str, purpose: str) -> None:
    """Show what would be done and ask; UsageError where nobody can answer, `purpose` ends "add --yes to ...".

    A "no" ends the command as Ctrl-C would.
    """
    if click.get_current_context().params["as_json"] or not sys.stdin.isatty():
        raise click.UsageError(f"Nothing was changed: add --yes to {purpose}, or --dry-run to see it.")
    emit(foretold, as_json=False)
    click.confirm(question, err=True, abort=True)


class Follower:
    """A line on stderr that follows a long step: redrawn on a terminal, one line every ten seconds elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.terminal = sys.stderr.isatty()
        self.last = self.clock()
        self.drawn = False
        self.step, self.since, self.first_bytes = "", 0.0, 0

    def __call__(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """Show what is being done, how far it is, how fast it goes and how long it will still take."""
        from qwenops.units import human

        if what != self.step or done_bytes < self.first_bytes:
            self.step, self.since, self.first_bytes = what, self.clock(), done_bytes
        share = f" {done_bytes / total_bytes:.0%} of {human(total_bytes)}" if total_bytes else ""
        self.line(f"{what}{share}{self._pace(done_bytes, total_bytes)}")

    def _pace(self, done_bytes: int, total_bytes: int) -> str:
        """Speed and time left; nothing before there is a second to judge by."""
        from qwenops.units import human

        seconds, moved = self.clock() - self.since, done_bytes - self.first_bytes
        if seconds < 1 or moved <= 0 or not total_bytes:
            return ""
        left = (total_bytes - done_bytes) * seconds / moved
        return f", {human(int(moved / seconds))}/s, {time_left(left)} left"

    def line(self, text: str) -> None:
        """Show a line, unless the last one is too young."""
        now = self.clock()
        if now - self.last < (0.1 if self.terminal else 10):
            return
        self.last = now
        click.echo(f"\r\033[K{text}" if self.terminal else text, err=True, nl=not self.terminal)
        self.drawn = self.terminal

    def close(self) -> None:
        """Leave a clean line behind."""
        if self.drawn:
            click.echo("\r\033[K", err=True, nl=False)


def time_left(seconds: float) -> str:
    """A time that is left, in the unit that reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def following() -> Iterator[Follower]:
    """A progress line for the length of a command, cleared at its end whatever the end is."""
    follower = Follower()
    try:
        yield follower
    finally:
        follower.close()


def say(text: str) -> None:
    """A note on stderr about what happens next and how long it takes."""
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    click.echo(clear + click.style(text, dim=True), err=True)
