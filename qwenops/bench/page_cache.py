"""Whether a file lies in the page cache, and having the kernel let go of it: what tells a cold load from a warm one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from qwenops.errors import CheckFailed

_STILL_CACHED = 0.02


def forget(files: Iterable[Path | str]) -> None:
    """Ask the kernel to let go of files' pages (posix_fadvise, POSIX_FADV_DONTNEED); no rights are needed for it.

    Raises CheckFailed where pages stay, because another process has them mapped, or where a system has no such call.
    """
    if not hasattr(os, "posix_fadvise"):
        raise CheckFailed("this system cannot be asked to forget one file: a cold load is not measured here")
    for file in files:
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            kept = cached_share(opened.fileno())
        if kept > _STILL_CACHED:
            raise CheckFailed(
                f"{kept:.0%} of {file} stayed in the page cache: another process holds it mapped",
                do="ollama stop MODEL, or end what else has the file open",
            )


def read_through(files: Iterable[Path | str]) -> None:
    """Have whole files in the page cache, as far as they fit."""
    buffer = bytearray(1 << 22)
    for file in files:
        with open(file, "rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def cached_share(descriptor: int) -> float:
    """The share of a file's pages that lie in the page cache, by mincore(2)."""
    import mmap

    length = os.fstat(descriptor).st_size
    if not length:
        return 0.0
    count = -(-length // mmap.PAGESIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    place = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if place in (None, ctypes.c_void_p(-1).value):
        return 0.0
    try:
        pages = (ctypes.c_ubyte * count)()
        if libc.mincore(place, length, pages) != 0:
            return 0.0
        return sum(page & 1 for page in bytes(pages)) / count
    finally:
        libc.munmap(place, length)
