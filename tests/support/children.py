"""The test run's own children, of which some are shared by many tests: who ends one must mean that one."""

from __future__ import annotations

import psutil


def children_named(word: str) -> list[psutil.Process]:
    """The children whose command line has the word in it."""
    return [child for child in psutil.Process().children() if word in _command_line(child)]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # gone, or waiting to be buried
        return ""
