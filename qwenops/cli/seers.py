"""What both benchmarks that show pictures are asked with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qwenops.cli.common import Follower, gpu_layers_option, model_options, offline_option, threads_option, time_left

if TYPE_CHECKING:
    from qwenops.setup.seers import Engine

F = TypeVar("F", bound=Callable[..., Any])


def seer_options(most_tokens: int) -> Callable[[F], F]:
    """The engine, the matrix of image budgets and temperatures, and the limit of an answer."""

    def decorate(function: F) -> F:
        for option in reversed(_options(most_tokens)):
            function = option(function)
        return function

    return decorate


def _options(most_tokens: int) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--engine",
            default="llama-cpp-python",
            show_default=True,
            type=click.Choice(["llama-cpp-python", "ollama"]),
            help="Who looks.",
        ),
        click.option(
            "--image-tokens",
            multiple=True,
            type=click.IntRange(8, 16384),
            metavar="N",
            help="Most tokens of a picture, repeatable.  [default: 4096]",
        ),
        click.option(
            "--temperature",
            "temperatures",
            multiple=True,
            type=click.FloatRange(0, 2),
            metavar="T",
            help="Temperature, repeatable.  [default: 0]",
        ),
        click.option(
            "--seed",
            default=1,
            show_default=True,
            type=click.IntRange(0, 2**31 - 1),
            metavar="S",
            help="Of what is made.",
        ),
        click.option(
            "--most-tokens",
            default=most_tokens,
            show_default=True,
            type=click.IntRange(1, 65536),
            metavar="N",
            help="Longest answer.",
        ),
        model_options,
        threads_option,
        gpu_layers_option,
        offline_option,
    ]


def engine_of(options: Mapping[str, Any]) -> Engine:
    """The engine that the options describe."""
    from qwenops.setup.seers import Engine

    return Engine(options["engine"], options["mmproj"], options["threads"], options["gpu_layers"], options["offline"])


def page_line(follow: Follower, what: str) -> Callable[[str, int, int, float | None, str], None]:
    """A line on stderr for where a cell is, and how long the rest of it takes."""

    def heard(name: str, done: int, of: int, left_s: float | None, at: str) -> None:
        left = f", {time_left(left_s)} left" if left_s is not None else ""
        follow.line(f"{name}  {what} {done} of {of} ({at}){left}")

    return heard
