"""Every error qwenops raises on purpose, named by what the caller can do about it.

QwenopsError            exit 1   something went wrong that we can name
├── DoesNotFit          exit 1   take a smaller choice
├── CheckFailed         exit 1   what was promised was not seen; the message says what was
├── ChildDied           exit 1   a native library or program aborted or ran out of time
├── BadInput            exit 2   what was typed, or the file it names, cannot be used: give another
│   └── NotAGGUF        exit 2   the file is not a model file, is cut off, or lies about its sizes
└── PartMissing         exit 3   a needed part is missing or out of reach: install or start it
    ├── ServerDown      exit 3   Ollama does not answer, hangs, or is too old
    ├── OutOfReach      exit 3   a place on the network cannot be reached, or may not be asked: go online, or do without
    └── NotAllowed      exit 3   a file or folder exists, but its rights forbid the step
"""

from __future__ import annotations


class QwenopsError(Exception):
    """The root: one sentence with the cause and the value, and the next command to type.

    `message` is shown on one line; `do` holds the commands or steps that mend it, one a line.
    """

    exit_code = 1

    def __init__(self, message: str, *, do: str | tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.do: tuple[str, ...] = (do,) if isinstance(do, str) else do


class DoesNotFit(QwenopsError):
    """Nothing that was asked for fits the device."""


class CheckFailed(QwenopsError):
    """A promise was checked and did not hold."""


class ChildDied(QwenopsError):
    """A child process that runs native code aborted, or was stopped at its limit."""


class BadInput(QwenopsError):
    """What was typed, or the file it names, cannot be used."""

    exit_code = 2


class NotAGGUF(BadInput):
    """The file is not a GGUF, is cut off, or claims what cannot be."""


class PartMissing(QwenopsError):
    """A part that the step needs is not installed or not in reach."""

    exit_code = 3


class ServerDown(PartMissing):
    """The Ollama server does not answer as it must."""


class OutOfReach(PartMissing):
    """A place on the network does not answer from here, or was not to be asked."""


class NotAllowed(PartMissing):
    """The rights of a file, folder or store forbid the step."""
