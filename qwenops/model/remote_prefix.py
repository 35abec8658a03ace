"""The first bytes of a file that is not here, in any format: as much as its reader asks for, kept for next time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from qwenops.errors import BadInput, OutOfReach, QwenopsError
from qwenops.model import header_cache
from qwenops.model.remote import Ranges, RemoteFile
from qwenops.model.web import Limits

Fill = Callable[[bytearray, int], None]
"""Appends to the file's first bytes until there are so many; raises where the file is shorter."""

_Measured = TypeVar("_Measured", bound=header_cache.Measured)
Read = Callable[[Fill, "int | None"], _Measured]
"""Makes something of the first bytes; is given the whole file's length too, None where nobody says it."""


def read_remote_prefix(
    file: RemoteFile,
    read: Read[_Measured],
    *,
    offline: bool = False,
    limits: Limits | None = None,
) -> tuple[_Measured, Path]:
    """What `read` makes of the first bytes of a file that is not here, whatever its format, and our file of them.

    `read` is given what fetches the bytes up to a place, and the whole file's length where that is known; it raises
    where they cannot be. Raises further as read_remote_header does.
    """
    at = file.kept_under or file.url
    kept = header_cache.find(at)
    if kept and (offline or (file.content is not None and kept.validator == file.content)):
        if (found := _kept_prefix(kept, read)) is not None:
            return found, kept.path
        kept = None
    if offline:
        raise OutOfReach(f"{file.shown} was not read before, and the network is not to be used", do="without --offline")
    with Ranges(file, kept.validator if kept else "", limits or Limits()) as wire:
        if wire.unchanged and kept:
            if (found := _kept_prefix(kept, read)) is not None:
                return found, kept.path
            wire.start_over()
        data = bytearray()

        def fill(into: bytearray, up_to: int) -> None:
            wire.fill(data, up_to)
            into += data[len(into) : up_to]

        found = read(fill, wire.size)
    return found, header_cache.keep(at, file.name, wire.validator, data, found)


def _kept_prefix(kept: header_cache.Kept, read: Read[_Measured]) -> _Measured | None:
    try:
        prefix = kept.path.read_bytes()

        def fill(into: bytearray, up_to: int) -> None:
            into += prefix[len(into) : up_to]
            if len(into) < up_to:
                raise BadInput(f"{kept.path} is cut off")

        found = read(fill, kept.file_bytes)
    except (OSError, QwenopsError):
        return None
    return found if found.checksum == kept.checksum else None
