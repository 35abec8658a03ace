"""What a file is when it is not a GGUF: the usual mistakes, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class _Mistake(NamedTuple):
    matches: Callable[[bytes], bool]
    what: str
    do: str


_MISTAKES = (
    _Mistake(
        lambda head: head.startswith(b"version https://git-lfs"),
        "is the note that Git LFS leaves in place of a file",
        "git lfs pull",
    ),
    _Mistake(
        lambda head: head.lstrip()[:1] == b"<",
        "is a web page (the download was answered with a page, often one that asks for a login)",
        "download the file again, with a token if the repository wants one",
    ),
    _Mistake(
        lambda head: head[8:10] == b'{"',
        "is a safetensors file",
        "take the GGUF of the model, or convert it with llama.cpp's convert_hf_to_gguf.py",
    ),
    _Mistake(
        lambda head: head[:2] == b"PK",
        "is a zip archive or a PyTorch checkpoint",
        "take the GGUF of the model",
    ),
    _Mistake(
        lambda head: head[:4] in (b"lmgg", b"fmgg", b"tjgg"),
        "is a GGML file, the format before GGUF",
        "take the GGUF of the model",
    ),
    _Mistake(
        lambda head: not any(head),
        "holds zeros where it should begin (a download that never got its data)",
        "download the file again",
    ),
)


def what_else(head: bytes) -> tuple[str, str]:
    """What a file that begins with `head` is ("is a web page"), or "" when we cannot tell, and what to do."""
    for mistake in _MISTAKES:
        if mistake.matches(head):
            return mistake.what, mistake.do
    return "", "give a .gguf file, or download this one again"
