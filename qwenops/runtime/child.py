"""Ask a native program one short question in a child, with a time limit and a clear word when it dies."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwenops.errors import ChildDied, PartMissing


@dataclass(frozen=True)
class Answer:
    """What a program printed. Both texts are decoded with replacement: names of devices can be anything."""

    out: str
    err: str

    @property
    def both(self) -> str:
        """Standard output first, then standard error."""
        return f"{self.out}\n{self.err}"


def ask_program(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, limit_s: float, check: bool = True
) -> Answer:
    """Run a program and return what it printed.

    Raises PartMissing when it cannot be started, ChildDied when it aborts, fails (unless `check` is off) or is not
    done within `limit_s` seconds.
    """
    program = command[0]
    try:
        done = subprocess.run(
            list(command),
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ChildDied(f"{program} did not end within {limit_s:g} s and was stopped") from None
    except OSError as error:
        raise PartMissing(f"{program} cannot be started: {error.strerror}") from None
    answer = Answer(done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
    if done.returncode < 0:
        raise ChildDied(f"{program} was ended by {_signal(-done.returncode)}")
    if check and done.returncode != 0:
        said = next((line.strip() for line in reversed(answer.err.splitlines()) if line.strip()), "nothing")
        raise ChildDied(f"{program} ended with {done.returncode} and said: {said}")
    return answer


def _signal(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"{name} (it was built for a newer CPU than this one)" if name == "SIGILL" else name
