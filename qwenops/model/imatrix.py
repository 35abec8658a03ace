"""Importance matrices: what a model's inputs weigh, column by column, as llama-imatrix wrote them down.

Two formats: GGUF with sums of squares and counts for each tensor, and the older plain one. What the quantizer gets is
the mean of squares; in the older format that is the sum divided by the number of calls. Sources:
common/imatrix-loader.cpp and load_imatrix in tools/quantize/quantize.cpp (llama.cpp as llama-cpp-python 0.3.36 has it).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, NotAGGUF
from qwenops.model.gguf_header import read_header
from qwenops.model.quantizer import NUMBER
from qwenops.model.requant import Imatrix, Variant
from qwenops.model.types import Header, Tensor

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MOST_ENTRIES, _MOST_NAME = 1_000_000, 1024


@dataclass(frozen=True)
class Weights:
    """An importance matrix: what a file made with it says of it, and the values of each tensor (float32 arrays)."""

    about: Imatrix
    values: Mapping[str, Any]


def read_imatrix(path: Path) -> Weights:
    """Read either format. Raises BadInput where it is neither or is cut off."""
    try:
        with path.expanduser().open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", do=f"ls -ld {path}") from None
    try:
        return _gguf(path) if is_gguf else _plain(path)
    except NotAGGUF as error:
        raise BadInput(f"{path} is no importance matrix: {error.message}", do="make one with llama-imatrix") from None


def check_covers(weights: Weights, variant: Variant, needing: frozenset[str]) -> None:
    """Raise BadInput, naming the tensor, where the quantizer would stop in the middle.

    It stops at a tensor whose type is among `needing` and that the matrix does not have, and at one whose length in the
    matrix is another; not at the token embedding.
    """
    types = {NUMBER[name] for name in needing}
    for tensor in variant.model.header.tensors:
        found = weights.values.get(tensor.name)
        if tensor.name == "token_embd.weight" or len(tensor.shape) < 2:
            continue
        if found is None and tensor.type in types and tensor.name != "output.weight":
            raise BadInput(
                f"{weights.about.file} has nothing for {tensor.name}, which {variant.recipe.quant} needs",
                do="an importance matrix of this very model",
            )
        if found is not None and len(found) != _columns(tensor):
            raise BadInput(
                f"{weights.about.file} has {len(found)} values for {tensor.name}, and the tensor {_columns(tensor)}: "
                "it was made of another model",
                do="an importance matrix of this very model",
            )


def _columns(tensor: Tensor) -> int:
    return tensor.shape[0] * (tensor.shape[2] if len(tensor.shape) > 2 else 1)


def _gguf(path: Path) -> Weights:
    import numpy as np

    header = read_header(path)
    tensors = {t.name: t for t in header.tensors}
    values = {}
    for name, sums in tensors.items():
        if not name.endswith(_SUMS):
            continue
        plain = name.removesuffix(_SUMS)
        counts = tensors.get(plain + _COUNTS)
        if counts is None or {sums.type, counts.type} != {NUMBER["F32"]}:
            raise BadInput(f"{path} is no importance matrix: no counts for {plain}", do="make one with llama-imatrix")
        total, times = (np.fromfile(path, np.float32, _length(t), offset=_at(header, t)) for t in (sums, counts))
        if not len(times) or len(total) % len(times):
            raise BadInput(f"{path} is no importance matrix: {len(times)} counts for {len(total)} values of {plain}")
        rows = total.reshape(len(times), -1)
        seen = np.rint(times)[:, None]
        mean = np.divide(rows, seen, out=np.ones_like(rows), where=seen > 0)
        values[plain] = np.ascontiguousarray(mean.reshape(-1), np.float32)
    if not values:
        raise BadInput(f"{path} is no importance matrix: it holds no sums", do="make one with llama-imatrix")
    datasets = _texts(header, "imatrix.datasets", path)
    chunks = header.metadata.get("imatrix.chunk_count")
    missing = {"imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"} - set(header.metadata)
    if missing:
        raise BadInput(f"{path} is no importance matrix: it does not say {min(missing)}")
    about = Imatrix(path.name, datasets[0] if datasets else "", len(values), chunks if isinstance(chunks, int) else 0)
    return Weights(about, values)


def _texts(header: Header, key: str, path: Path) -> list[str]:
    """A list of texts, read from the file where the header's reader has only measured it."""
    found = header.metadata.get(key)
    if isinstance(found, list):
        return [str(one) for one in found]
    if found is None or not getattr(found, "length", 0):
        return []
    with path.open("rb") as file:
        file.seek(found.offset)
        (length,) = struct.unpack("<Q", file.read(8))
        return [file.read(min(length, 4096)).decode("utf-8", "replace")]


def _at(header: Header, tensor: Tensor) -> int:
    return header.data_offset + tensor.offset


def _length(tensor: Tensor) -> int:
    count = 1
    for n in tensor.shape:
        count *= n
    return count


def _plain(path: Path) -> Weights:
    import numpy as np

    raw = path.read_bytes()
    reader = _Plain(path, raw)
    entries = reader.number()
    if not 0 < entries <= _MOST_ENTRIES:
        raise BadInput(f"{path} is no importance matrix", do="make one with llama-imatrix")
    values = {}
    for _ in range(entries):
        name = reader.take(reader.number(_MOST_NAME)).decode("utf-8", "replace")
        calls, count = reader.number(), reader.number()
        array = np.frombuffer(reader.take(4 * count), np.float32)
        values[name] = array / np.float32(calls) if calls > 0 else array.copy()
    chunks, dataset = 0, ""
    if reader.left():
        chunks = reader.number()
        dataset = reader.take(reader.number(_MOST_NAME)).decode("utf-8", "replace") if reader.left() else ""
    return Weights(Imatrix(path.name, dataset, len(values), max(0, chunks)), values)


class _Plain:
    """The older format: 32-bit numbers and what they count, one after another."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self.path, self.raw, self.at = path, raw, 0

    def left(self) -> bool:
        return self.at < len(self.raw)

    def number(self, most: int = 2**31 - 1) -> int:
        value: int = struct.unpack("<i", self.take(4))[0]
        if value > most or value < -1:
            raise BadInput(f"{self.path} is no importance matrix (at byte {self.at})", do="make one with llama-imatrix")
        return max(0, value)

    def take(self, count: int) -> bytes:
        piece = self.raw[self.at : self.at + count]
        if len(piece) < count:
            raise BadInput(f"{self.path} is no importance matrix, or is cut off", do="make one with llama-imatrix")
        self.at += count
        return piece
