"""Value types of a Modelfile: its commands, what they ask Ollama for, and what the linter found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwenops.errors import BadInput

Mode = Literal["instruct", "thinking"]
Level = Literal["error", "warning"]


class CannotParse(BadInput):
    """Ollama's parser would refuse this text. `line` is where the command at fault begins, counted from 1."""

    def __init__(self, line: int, cause: str, *, do: str | tuple[str, ...] = ()) -> None:
        super().__init__(f"Modelfile line {line}: {cause}" if line else f"Modelfile: {cause}", do=do)
        self.line = line
        self.cause = cause


@dataclass(frozen=True)
class Command:
    """One instruction, named as Ollama names it inside: FROM is "model", a PARAMETER has the parameter's own name.

    The `args` of a MESSAGE are "role: text". `line` is where it began; it does not count when two are compared.
    """

    name: str
    args: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Modelfile:
    """The commands in the order of the file. Comments are not kept: Ollama has no place for them."""

    commands: tuple[Command, ...]

    def all(self, name: str) -> tuple[Command, ...]:
        """Every command of that name."""
        return tuple(c for c in self.commands if c.name == name)

    def last(self, name: str) -> Command | None:
        """The command of that name that Ollama goes by: the last one."""
        found = self.all(name)
        return found[-1] if found else None


@dataclass(frozen=True)
class Message:
    """One turn of the history that a model starts with."""

    role: str
    content: str


@dataclass(frozen=True)
class ModelfileSpec:
    """What a Modelfile asks for, as `ollama create` reads it.

    `model_paths` are the files named in FROM (all shards, then the projector, in the order given); `base` is a FROM
    that names a model and no file. `parameters` are typed as Ollama types them; "stop" holds a tuple.
    """

    model_paths: tuple[Path, ...] = ()
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    licenses: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    adapter: Path | None = None
    drafts: tuple[Path, ...] = ()
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None


@dataclass(frozen=True)
class Finding:
    """One thing the linter found: where, how bad, what, and what to do about it. `line` 0 is the file as a whole."""

    line: int
    level: Level
    code: str
    message: str
    do: str = ""
