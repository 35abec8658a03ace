"""qwenops bench speed: prompt and generation speed, first token, pictures and loads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qwenops.cli.common import (
    MODEL,
    F,
    flash_attn_option,
    following,
    gpu_layers_option,
    offline_option,
    returns_result,
    say,
    time_left,
)
from qwenops.memory.types import KV_TYPES
from qwenops.result import Result

if TYPE_CHECKING:
    from qwenops.bench.matrix import Turn
    from qwenops.cli.common import Follower

_ENGINES = ("llama-cpp-python", "ollama", "llama-server")


class Share(click.ParamType):  # type: ignore[type-arg]
    """A share in percent: 1%, 0.5%, or the number alone."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share of one."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%?\s*", str(value))
        if not found or not 0 < float(found[1]) <= 50:
            self.fail(f"{value!r} is no share: write it as 1% (above 0, 50% at most)", param, ctx)
        return float(found[1]) / 100


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time: 90s, 10m, 1h, or seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h)?\s*", str(value))
        if not found or float(found[1]) <= 0:
            self.fail(f"{value!r} is no time: write it as 90s, 10m or 1h", param, ctx)
        return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[found[2] or "s"]


def _several(name: str, help_: str, *, least: int = 0, default: str) -> Callable[[F], F]:
    return click.option(
        name, multiple=True, type=click.IntRange(least), metavar="N", help=f"{help_}, repeatable.  [default: {default}]"
    )


@click.command("speed")
@click.argument("models", nargs=-1, type=MODEL)
@_several("--prompt", "Prompt sizes; 0 for none", default="512")
@_several("--generate", "Generation lengths; 0 for none", default="128")
@_several("--depth", "Tokens already in the cache", default="0")
@click.option(
    "--image", multiple=True, metavar="WxH", help="Encode a made picture of that size and decode it, repeatable."
)
@click.option(
    "--loads",
    default=0,
    type=click.IntRange(0, 100),
    metavar="N",
    help="Time N cold and N warm loads; cold: the system forgets the file first.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How often each test runs.  [default: 5, or 10 where variants are compared]",
)
@click.option(
    "--precision",
    type=Share(),
    metavar="P",
    help="Repeat until every interval is within ±P of its median, for example 1%.",
)
@click.option(
    "--time-limit",
    "time_limit_s",
    type=Duration(),
    metavar="TIME",
    help="Begin no round that would end after this: 90s, 10m.  [default: 10m with --precision]",
)
@click.option("--seed", default=0, show_default=True, type=int, metavar="N", help="Of the random order.")
@click.option(
    "--compare", metavar="BASELINE", help="An earlier run: its id, last, or a file of --json; exit 1 if slower."
)
@click.option(
    "--tolerance",
    default="1%",
    show_default=True,
    type=Share(),
    metavar="P",
    help="With --compare: slower means the whole interval lies beyond this.",
)
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped: its id, or last.")
@click.option(
    "--engine", default=_ENGINES[0], show_default=True, type=click.Choice(_ENGINES), help="Who runs the model."
)
@_several("--threads", "CPU threads", least=1, default="physical cores")
@_several("--batch", "Logical batch", least=1, default="2048")
@_several("--ubatch", "Physical batch", least=1, default="512")
@click.option(
    "--kv",
    multiple=True,
    type=click.Choice(KV_TYPES),
    metavar="TYPE",
    help="KV type: f16, q8_0, q4_0, …, repeatable.  [default: f16]",
)
@flash_attn_option
@gpu_layers_option
@offline_option
@returns_result
def command(
    models: tuple[Path | str, ...],
    compare: str | None,
    tolerance: float,
    resume: str | None,
    repetitions: int | None,
    precision: float | None,
    time_limit_s: float | None,
    **options: Any,
) -> Result:
    """Measure the speed of one or more variants: prompt, generation, first token, pictures, loads.

    Models run in processes of their own through llama-cpp-python, with the loops and the defaults of llama-bench, so
    the figures can be held against its. Variants are measured in rounds of random order and compared round by round; an
    option that is given several times makes a variant of each value. Rows are kept in the history.

    Ctrl-C shows and keeps what is done, and --resume goes on with it.

    \b
        qwenops bench speed ./Qwen3-VL-8B/ --prompt 512 --generate 128 --depth 0 --depth 4096
        qwenops bench speed m-Q4_K_M.gguf m-IQ4_XS.gguf --precision 1% --time-limit 10m
        qwenops bench speed m-Q4_K_M.gguf --ubatch 256 --ubatch 512 --ubatch 1024 --generate 0
        qwenops bench speed m-Q4_K_M.gguf --compare last
    """
    from qwenops.setup.bench_models import SpeedAsked
    from qwenops.setup.bench_speed import resume_result, speed_result

    if repetitions is not None and precision is not None:
        raise click.UsageError("--repetitions is a fixed number and --precision as many as it takes: give one of them")
    if bool(models) == bool(resume):
        raise click.UsageError("Give models, or --resume RUN for a run that was stopped.")
    if precision is not None and time_limit_s is None:
        time_limit_s = 600.0
    effort: dict[str, Any] = {"repetitions": repetitions, "precision": precision, "time_limit_s": time_limit_s}
    with following() as follow:
        told: dict[str, Any] = {"compare": compare, "tolerance": tolerance, "on_turn": _teller(follow), "say": say}
        if resume:
            return resume_result(resume, effort=effort, **told)
        return speed_result(models, SpeedAsked(**options, **effort), **told)


def _teller(follow: Follower) -> Callable[[Turn], None]:
    def heard(turn: Turn) -> None:
        left = f"  {time_left(turn.left_s)} left" if turn.left_s else ""
        value = f"{turn.timings[-1].values[turn.test.name]:.1f} {turn.test.unit}" if turn.timings else "failed"
        of = f"round {turn.round_ + 1} of {turn.rounds}" if turn.rounds < 1000 else f"round {turn.round_ + 1}"
        follow.line(f"{turn.variant.label}  {turn.test.name}  {value}  {of}{left}")

    return heard
