"""The small files in which the kernel tells a value: sysfs and proc. What cannot be read is not there."""

from __future__ import annotations

from pathlib import Path


def read_number(path: Path) -> int | None:
    """The whole number in a file; None where there is none."""
    text = read_text(path)
    return int(text) if text.removeprefix("-").isdigit() else None


def read_text(path: Path) -> str:
    """A file's text without the blanks around it; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
