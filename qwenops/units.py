"""Sizes: integers in bytes inside, MiB and GiB for people. GB is never written."""

from __future__ import annotations

import re

from qwenops.errors import BadInput

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(B|[KMGT]i?B?)?\s*$", re.IGNORECASE)
_FACTORS = {"": 1, "B": 1, "K": KIB, "M": MIB, "G": GIB, "T": GIB * 1024}


def pad(n: int, to: int) -> int:
    """Round `n` up to a multiple of `to`."""
    return -(-n // to) * to


def mib(n_bytes: int) -> str:
    """Bytes as MiB with one digit below 100, none above: '12.3', '1 252'."""
    value = n_bytes / MIB
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}".replace(",", " ")


def gib(n_bytes: int) -> str:
    """Bytes as GiB with two digits: '10.82'."""
    return f"{n_bytes / GIB:.2f}"


def human(n_bytes: int) -> str:
    """Bytes with the unit that reads best: '512 B', '3.1 MiB', '10.82 GiB'."""
    if abs(n_bytes) < KIB:
        return f"{n_bytes} B"
    if abs(n_bytes) < MIB:
        return f"{n_bytes / KIB:.0f} KiB"
    if abs(n_bytes) < GIB:
        return f"{mib(n_bytes)} MiB"
    return f"{gib(n_bytes)} GiB"


def parse_size(text: str) -> int:
    """Read '12GiB', '12GB', '800 MiB' or plain bytes; a card's 'GB' has always meant GiB.

    Raises BadInput when the text is not a size.
    """
    match = _SIZE.match(text)
    if not match:
        raise BadInput(f"{text!r} is not a size", do="write it as 12GiB or 800MiB")
    unit = (match.group(2) or "").upper()
    return int(float(match.group(1)) * _FACTORS[unit[:1]])
