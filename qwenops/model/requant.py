"""A variant that does not exist yet: the file that llama-quantize would make of a model, as a header.

The quantizer decides every type from the header, so its file's tensor table, length and header are known without the
weights. What comes out is an ordinary Model: the closed form reads its value, and a runtime can be asked about a ghost
of it, once its header's bytes are kept (`keep_header`).

What the file looks like follows from llama_model_quantize_impl (src/llama-quant.cpp) and the writer (ggml/src/gguf.cpp,
llama.cpp b10435): the source's keys in their order without those of a split, then the quantization version and the file
type, then those of the importance matrix; tensors in the loader's order, each padded to 32 bytes; one file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.model import header_cache
from qwenops.model.ggml_types import row_bytes, type_name
from qwenops.model.gguf_header import DEFAULT_ALIGNMENT
from qwenops.model.quant_mixes import MIXES, quant_named
from qwenops.model.quantizer import QUANTIZED, Outcome, Quantizer, Recipe, stripped
from qwenops.model.quants import label_in_name, majority_type
from qwenops.model.split import shard_stem
from qwenops.model.types import ArrayInfo, Header, Model, Tensor
from qwenops.units import pad

QUANTIZATION_VERSION: Final = 2
"""GGML_QNT_VERSION (ggml/include/ggml.h)."""

_VERSION_KEY, _TYPE_KEY = "general.quantization_version", "general.file_type"
_NOT_COPIED: Final = frozenset({"split.no", "split.count", "split.tensors.count"})
_PREAMBLE_BYTES, _MOST_STRING_BYTES = 24, 127
_U32, _STRING = 4, 8


@dataclass(frozen=True)
class Imatrix:
    """What llama-quantize writes into the file about an importance matrix: file, data set, entries and chunks."""

    file: str
    dataset: str = ""
    entries: int = 0
    chunks: int = 0

    def keys(self) -> dict[str, str | int]:
        """The keys in the order in which they are written."""
        keys: dict[str, str | int] = {"quantize.imatrix.file": _cut(self.file)}
        if self.dataset:
            keys["quantize.imatrix.dataset"] = _cut(self.dataset)
        keys["quantize.imatrix.entries_count"] = self.entries
        if self.chunks > 0:
            keys["quantize.imatrix.chunks_count"] = self.chunks
        return keys


@dataclass(frozen=True)
class Variant:
    """The model as one quant of it would be. `fallbacks` counts tensors whose rows forced another type than wanted.

    `needs_imatrix` names the first tensor for which llama-quantize asks for an importance matrix that is not there.
    """

    model: Model
    recipe: Recipe
    fallbacks: int
    needs_imatrix: str | None
    imatrix: Imatrix | None = None

    @property
    def bits_per_weight(self) -> float:
        """Bits that one parameter takes."""
        return 8 * self.model.header.tensor_bytes / self.model.parameters if self.model.parameters else 0.0


class Requantizer:
    """Makes variants of one model; what they share is worked out once."""

    def __init__(self, model: Model) -> None:
        _check_alignment(model.header)
        self.source = model
        self.quantizer = Quantizer(model.header)
        self.was_quantized = is_quantized(model.header)

    def variant(self, recipe: Recipe, imatrix: Imatrix | None = None) -> Variant:
        """The model that `recipe` makes, weights and file in exact bytes.

        `imatrix` is what the file would say of an importance matrix. Without it, with `recipe.imatrix` set, its keys
        are left out: some 100 to 400 bytes. Raises BadInput, naming the tensor, where llama-quantize refuses or aborts;
        not for a missing importance matrix or a source that is quantized already: the Variant and `notes` tell those.
        """
        quant = quant_named(recipe.quant)
        recipe = replace(recipe, quant=quant, imatrix=recipe.imatrix or imatrix is not None)
        outcome = self.quantizer.outcome(recipe)
        source = self.source
        name = f"{_renamed(source, quant)}.gguf"
        header = _header(source.header, outcome, _new_keys(quant, imatrix), Path(name))
        model = replace(
            source,
            header=header,
            shards=(header.path,),
            quant=quant,
            file_bytes=header.file_bytes,
            remote=f"{source.source} as {quant}",
            stored=None,
        )
        return Variant(model, recipe, sum(t.fallback for t in outcome.targets), outcome.needs_imatrix, imatrix)

    def every_variant(self, *, imatrix: bool = False) -> Iterator[Variant]:
        """One of each file type that can be made of the model, the fewest bits first.

        With an importance matrix where `imatrix` says so or where the type cannot do without.
        """
        for quant in MIXES:
            try:
                made = self.variant(Recipe(quant, imatrix=imatrix))
                yield self.variant(Recipe(quant, imatrix=True)) if made.needs_imatrix else made
            except BadInput:
                continue

    def notes(self, variant: Variant) -> tuple[str, ...]:
        """What someone should know who would make this variant."""
        notes = []
        if self.was_quantized and variant.recipe.quant != self.source.quant:
            held = majority_type(self.source.header)
            notes.append(
                f"{self.source.path.name} is quantized already (mostly {held}): llama-quantize wants "
                "--allow-requantize, and quality is lost twice; made from the F16 or BF16 file, the sizes are the same"
            )
        if variant.fallbacks:
            notes.append(
                f"{variant.fallbacks} tensors have rows that their type's blocks do not divide, and get a larger type"
            )
        if variant.recipe.imatrix and variant.imatrix is None:
            notes.append("the file also names its importance matrix: some 100 to 400 bytes that are not counted")
        return tuple(notes)


def is_quantized(header: Header) -> bool:
    """Whether any tensor is stored in blocks, so that a quant made of it is one of a quant."""
    return any(t.type in QUANTIZED for t in header.tensors)


def check_imatrix(variant: Variant) -> Variant:
    """The variant, unless llama-quantize refuses it for want of an importance matrix: then BadInput."""
    if variant.needs_imatrix is None:
        return variant
    tensor = next(t for t in variant.model.header.tensors if t.name == variant.needs_imatrix)
    raise BadInput(
        f"{variant.recipe.quant} needs an importance matrix: {tensor.name} would be {type_name(tensor.type)}, "
        "and without one llama-quantize refuses",
        do=f"--quant {variant.recipe.quant} --imatrix     (as if there were one)",
    )


def header_bytes(variant: Variant, source: Model) -> bytes:
    """The variant's header, byte for byte as llama-quantize would write it, made from the source's.

    Raises BadInput where the source's header cannot be read again.
    """
    raw = _read_prefix(source)
    header = variant.model.header
    new = _new_keys(variant.recipe.quant, variant.imatrix)
    parts = [raw[start:end] for key, (start, end) in source.header.keys_at.items() if _is_copied(key, new)]
    parts += [_pair(key, value) for key, value in new.items()]
    count = len(parts)
    parts += [_row(t) for t in header.tensors]
    data = b"".join((struct.pack("<4sIQQ", b"GGUF", 3, len(header.tensors), count), *parts))
    return data + bytes(header.data_offset - len(data))


def keep_header(variant: Variant, source: Model) -> Model:
    """The variant with its header's bytes in the cache, so that a ghost can be made of it."""
    from qwenops.model.read import model_key

    model = variant.model
    address = f"variant:{model_key(source)}:{model_key(model)}"
    kept = header_cache.find(address)
    if kept is not None and kept.path.stat().st_size == model.header.data_offset:
        return replace(model, shards=(kept.path,))
    path = header_cache.keep(address, model.path.name, "", header_bytes(variant, source), model.header)
    return replace(model, shards=(path,))


def _header(source: Header, outcome: Outcome, new: Mapping[str, str | int], path: Path) -> Header:
    tensors, offset = [], 0
    for target in outcome.targets:
        old = target.tensor
        shape = stripped(old.shape)
        rows = 1
        for dim in shape[1:]:
            rows *= dim
        size = row_bytes(target.type, shape[0]) * rows
        tensors.append(Tensor(old.name, shape, target.type, offset, size))
        offset += pad(size, DEFAULT_ALIGNMENT)
    data_offset = _data_offset(source, tensors, new)
    return Header(
        path=path,
        version=3,
        metadata=_metadata(source, new),
        tensors=tuple(tensors),
        alignment=DEFAULT_ALIGNMENT,
        data_offset=data_offset,
        file_bytes=data_offset + offset,
        checksum=source.checksum,
    )


def _data_offset(source: Header, tensors: list[Tensor], new: Mapping[str, str | int]) -> int:
    """Where the data begins; a header that no file was read for has no length, and keeps the offset it claims."""
    if not source.keys_at:
        return source.data_offset
    kept = sum(end - start for key, (start, end) in source.keys_at.items() if _is_copied(key, new))
    added = sum(len(_pair(key, value)) for key, value in new.items())
    rows = sum(len(t.name.encode()) + 24 + 8 * len(t.shape) for t in tensors)
    return pad(_PREAMBLE_BYTES + kept + added + rows, DEFAULT_ALIGNMENT)


def _metadata(source: Header, new: Mapping[str, str | int]) -> dict[str, Any]:
    """The source's values in the new order, with measured arrays where they come to lie."""
    values: dict[str, Any] = {}
    moved = 0
    for key, value in source.metadata.items():
        start, end = source.keys_at.get(key, (0, 0))
        if not _is_copied(key, new):
            moved += end - start
        else:
            values[key] = replace(value, offset=value.offset - moved) if isinstance(value, ArrayInfo) else value
    return values | dict(new)


def _new_keys(quant: str, imatrix: Imatrix | None) -> dict[str, str | int]:
    keys: dict[str, str | int] = {_VERSION_KEY: QUANTIZATION_VERSION, _TYPE_KEY: MIXES[quant].number}
    return keys | (imatrix.keys() if imatrix else {})


def _is_copied(key: str, new: Mapping[str, str | int]) -> bool:
    return key not in _NOT_COPIED and key not in new


def _check_alignment(header: Header) -> None:
    value = header.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if value != DEFAULT_ALIGNMENT:
        raise BadInput(
            f"{header.path.name} is aligned to {value} bytes: llama-quantize copies that key and writes to "
            f"{DEFAULT_ALIGNMENT}, so what it makes cannot be read",
            do="convert the model again, without general.alignment",
        )


def _read_prefix(source: Model) -> bytes:
    """The source's first bytes, as far as its metadata goes."""
    end = max((end for _, end in source.header.keys_at.values()), default=0)
    try:
        with source.path.open("rb") as file:
            raw = file.read(end)
    except OSError as e:
        raise BadInput(f"{source.path} cannot be read: {e.strerror or e}", do=f"ls -l {source.path}") from None
    if not end or len(raw) < end:
        raise BadInput(f"{source.path} is not what it was when its header was read", do="try again")
    return raw


def _renamed(source: Model, quant: str) -> str:
    """The source's file name with the new quant in the place of its own."""
    stem = shard_stem(source.path) or source.path.name.removesuffix(".gguf")
    label = label_in_name(stem)
    if label and (match := re.search(rf"(?<![A-Za-z0-9]){re.escape(label)}(?![A-Za-z0-9])", stem, re.IGNORECASE)):
        return stem[: match.start()] + quant + stem[match.end() :]
    return f"{stem}-{quant}"


def _pair(key: str, value: str | int) -> bytes:
    if isinstance(value, int):
        return _text(key) + struct.pack("<II", _U32, value)
    return _text(key) + struct.pack("<I", _STRING) + _text(value)


def _row(tensor: Tensor) -> bytes:
    dims = len(tensor.shape)
    return _text(tensor.name) + struct.pack(f"<I{dims}QIQ", dims, *tensor.shape, tensor.type, tensor.offset)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _cut(value: str) -> str:
    """As much of a text as llama-quantize keeps."""
    return value.encode()[:_MOST_STRING_BYTES].decode("utf-8", "replace")
