"""One outermost handler: every error becomes one clear line, the next command, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from datetime import datetime, timezone

import click

from qwenops.errors import PartMissing, QwenopsError

_SYSTEM_HELP = {
    errno.ENOSPC: "free some room there, and run it again",
    errno.EISDIR: "name a file, not a folder",
    errno.EROFS: "that place is read-only: set QWENOPS_HOME to a folder of yours",
    errno.EACCES: "the rights of that place forbid it",
}


def report(error: BaseException, *, debug: bool) -> int:
    """Print what went wrong on stderr and return the exit code; unforeseen errors go to a log file."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        print("stopped", file=sys.stderr)  # noqa: T201
        return 130
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if debug:
        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, QwenopsError):
        _say(error)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        _say(PartMissing(f"{error.strerror}{place}", do=_SYSTEM_HELP.get(error.errno or 0, ())))
        return PartMissing.exit_code
    _unforeseen(error)
    return 1


def _say(error: QwenopsError) -> None:
    click.echo(f"{click.style('error', fg='red')}: {error.message}", err=True)
    for step in error.do:
        click.echo(f"  {step}", err=True)


def _unforeseen(error: BaseException) -> None:
    from qwenops.paths import log_dir

    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    path = log_dir() / f"error-{stamp}-{os.getpid()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        where = f"the traceback is in {path}"
    except OSError:
        where = "run it again with --debug for the traceback"
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    click.echo(f"{click.style('error', fg='red')}: unforeseen: {line}; {where}", err=True)
