"""Split models: from any shard to all of them, and one header for the whole.

Names and keys as llama.cpp writes them (src/llama.cpp llama_split_path, gguf-split, b10435).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, NotAGGUF
from qwenops.model.gguf_header import read_header
from qwenops.model.types import Header

MAX_SHARDS = 512
"""More than any published model has; a name may claim 99999."""

_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


def shard_stem(path: Path) -> str | None:
    """The common part of the shards' names, or None when the name is not one of a shard."""
    match = _SHARD.match(path.name)
    return match["stem"] if match else None


def first_shard(path: Path) -> Path:
    """The path of the first shard of the model that `path` is a shard of; `path` itself when its name is not one."""
    match = _SHARD.match(path.name)
    return path.with_name(f"{match['stem']}-00001-of-{match['count']}.gguf") if match else path


def shard_paths(path: Path, header: Header) -> tuple[Path, ...]:
    """All shards of the model that `path` belongs to, in order; `path` alone when it is not split.

    Raises BadInput when the file is a shard whose name does not lead to the others, or when some are missing.
    """
    count = _split_number(header, "split.count", 0)
    if count <= 1:
        return (path,)
    match = _SHARD.match(path.name)
    if not match or int(match["count"]) != count:
        raise BadInput(
            f"{path} is one of {count} shards, but its name does not say so",
            do=f"give it the name it had, like NAME-00001-of-{count:05d}.gguf",
        )
    shards = tuple(path.with_name(f"{match['stem']}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1))
    missing = [s.name for s in shards if not s.exists()]
    if missing:
        raise BadInput(
            f"{path.name} is one of {count} shards, and {len(missing)} of them are not in {path.parent}: "
            + ", ".join(missing[:5])
            + (", …" if len(missing) > 5 else ""),
            do=f"download the missing shards into {path.parent}",
        )
    return shards


def merged_header(path: Path) -> tuple[Header, tuple[Path, ...]]:
    """The header of the whole model, with each tensor's shard set, and the paths of the shards.

    Metadata is the first shard's; `file_bytes` is the sum. Raises NotAGGUF when the shards do not belong together.
    """
    header = read_header(path)
    shards = shard_paths(path, header)
    if len(shards) == 1:
        return header, shards
    return join_headers([header if s == path else read_header(s) for s in shards]), shards


def join_headers(headers: Sequence[Header]) -> Header:
    """The header of the whole model from those of all its shards, in order. Raises NotAGGUF where one is not of it."""
    first = headers[0]
    for index, shard in enumerate(headers):
        _check_shard(first, shard, index, len(headers))
    tensors = tuple(replace(t, shard=i) for i, h in enumerate(headers) for t in h.tensors)
    _check_tensors(first, tensors)
    return replace(first, tensors=tensors, file_bytes=sum(h.file_bytes for h in headers))


def shard_names(name: str) -> tuple[str, ...]:
    """The names of all shards of the model that a file name belongs to, in order; itself alone when it is no shard's.

    A count that no model has is taken for no shard's name.
    """
    match = _SHARD.match(name)
    if not match or not 1 < int(match["count"]) <= MAX_SHARDS:
        return (name,)
    count = int(match["count"])
    return tuple(f"{match['stem']}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1))


def _check_shard(first: Header, shard: Header, index: int, count: int) -> None:
    facts: Mapping[str, tuple[Any, Any]] = {
        "split.no": (_split_number(shard, "split.no", -1), index),
        "split.count": (_split_number(shard, "split.count", 0), count),
    }
    if shard.architecture:
        facts = {**facts, "general.architecture": (shard.architecture, first.architecture)}
    for key, (found, expected) in facts.items():
        if found != expected:
            raise NotAGGUF(
                f"{shard.path} does not belong to {first.path.name}: {key} is {found!r}, expected {expected!r}",
                do="download the shards again, all from one repository",
            )


def _check_tensors(first: Header, tensors: tuple[Any, ...]) -> None:
    expected = _split_number(first, "split.tensors.count", len(tensors))
    if len(tensors) != expected:
        raise NotAGGUF(
            f"the shards of {first.path.name} hold {len(tensors)} tensors, split.tensors.count says {expected}",
            do="download the shards again, all from one repository",
        )
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise NotAGGUF(
                f"tensor {tensor.name} is in two shards of {first.path.name}", do="download the shards again"
            )
        seen.add(tensor.name)


def _split_number(header: Header, key: str, default: int) -> int:
    value = header.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotAGGUF(f"{header.path}: {key} is {value!r}, not a number", do="download the file again")
    return value
