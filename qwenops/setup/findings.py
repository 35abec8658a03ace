"""What the doctor's checks look at, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from qwenops.machine.types import Machine
from qwenops.runtime.types import Runtime

Level = Literal["ok", "advice", "problem", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `do` are commands, one a line; an ok finding needs none of the rest."""

    level: Level
    code: str
    title: str
    expected: str = ""
    observed: str = ""
    evidence: str = ""
    do: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patient:
    """What the checks look at, gathered once."""

    machine: Machine
    runtime: Runtime


Check = Callable[[Patient], Iterator[Finding]]
