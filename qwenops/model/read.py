"""From a path to a Model: the shards joined, the projector found, the quant named."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from qwenops.errors import BadInput, NotAGGUF
from qwenops.model.projector import (
    check_projector,
    find_projector,
    is_projector,
    looks_like_projector,
    other_than_file,
    read_projector,
)
from qwenops.model.quants import label_in_name, parameter_count, quality_rank, quant_label
from qwenops.model.split import first_shard, merged_header, shard_stem
from qwenops.model.types import Header, Model

_BESIDE_MODELS = ("adapter", "imatrix", "mmproj", "vocab")
"""Values of general.type that lie in a model's folder without being one of its quants."""


def read_model(path: Path | str, mmproj: Path | str | Literal["auto"] | None = "auto") -> Model:
    """Read a model from any of its files; `mmproj` names a projector, None wants none, "auto" looks beside it.

    Raises BadInput for a path that is no text model or a projector that does not match, NotAGGUF for a broken file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give one file in it", do=f"ls {path}/*.gguf")
    header, shards = merged_header(path)
    return _model(path, header, shards, mmproj)


def model_of(header: Header, shards: tuple[Path, ...], file_name: str) -> Model:
    """A model from the header of all its shards, without a projector. Raises BadInput where it is no text model."""
    _check_is_model(header)
    return Model(
        name=_name(header),
        architecture=header.architecture,
        header=header,
        shards=shards,
        quant=quant_label(header, file_name),
        parameters=parameter_count(header),
        file_bytes=header.file_bytes,
        inline_vision=any(t.name.startswith("v.") for t in header.tensors),
    )


def _model(path: Path, header: Header, shards: tuple[Path, ...], mmproj: Path | str | None) -> Model:
    model = model_of(header, shards, path.name)
    if mmproj == "auto":
        return replace(model, projector=None if model.inline_vision else find_projector(model))
    if mmproj is None:
        return model
    projector = read_projector(mmproj)
    check_projector(model, projector)
    return replace(model, projector=projector)


def read_variants(
    paths: Path | str | Iterable[Path | str], mmproj: Path | str | Literal["auto"] | None = "auto"
) -> tuple[Model, ...]:
    """Read several quants of one model, from a folder or from files, the best quant first.

    Projectors, adapters and importance matrices in a folder are passed over, and shards joined. Raises BadInput,
    naming the odd one, when they are not one model.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    models: dict[Path, Model] = {}
    for path in (Path(p).expanduser() for p in given):
        for file in _model_files(path) if path.is_dir() else [path]:
            if _identity(file) in models:
                continue
            header, shards = merged_header(file)
            if path.is_dir() and header.metadata.get("general.type") in _BESIDE_MODELS:
                continue
            models[_identity(file)] = _model(file, header, shards, mmproj)
    if not models:
        raise BadInput(f"no model in {', '.join(str(p) for p in given)}", do="give a .gguf file, or a folder of them")
    return in_order(models.values())


def in_order(models: Iterable[Model]) -> tuple[Model, ...]:
    """Variants of one model, the best quant first. Raises BadInput, naming the odd one, when they are not one model."""
    models = list(models)
    _check_one_model(models)
    return tuple(sorted(models, key=lambda m: (-quality_rank(m.quant), -m.file_bytes, m.path.name)))


def model_key(model: Model) -> str:
    """A stable digest of what the model is, for caches and the history: 32 hex digits.

    It is made of the headers and the file sizes, the projector's included; not of the path, so a model that moved
    is still known, and not of the weights, so it takes milliseconds.
    """
    digest = hashlib.sha256()
    for header in (model.header, model.projector.header if model.projector else None):
        if header is None:
            continue
        for key in sorted(header.metadata):
            digest.update(f"{key}={header.metadata[key]!r}\n".encode("utf-8", "surrogatepass"))
        for t in header.tensors:
            digest.update(f"{t.name} {t.shape} {t.type} {t.offset} {t.shard}\n".encode())
        digest.update(f"{header.file_bytes} {header.checksum}\n".encode())
    return digest.hexdigest()[:32]


def _check_is_model(header: Header) -> None:
    if is_projector(header):
        raise BadInput(
            f"{header.path} is a projector, not a model",
            do=f"give the model's own file, and this one as: --mmproj {header.path}",
        )
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        raise BadInput(f"{header.path} is of the type {kind!r}, not a model", do="give the model's own file")
    if not isinstance(header.metadata.get("general.architecture"), str) or not header.architecture:
        raise NotAGGUF(f"{header.path} does not say its architecture (general.architecture)", do="give a model file")
    if not header.tensors:
        raise BadInput(f"{header.path} holds no weights, only metadata", do="give the model's own file")


def _name(header: Header) -> str:
    name = header.metadata.get("general.name")
    if isinstance(name, str) and name.strip():
        return name.strip()
    stem = shard_stem(header.path) or header.path.name.removesuffix(".gguf")
    label = label_in_name(stem)
    return re.sub(rf"[-._]?{re.escape(label)}", "", stem, flags=re.IGNORECASE) if label else stem


def _identity(path: Path) -> Path:
    """The file behind links, and the first shard for any of a split model's."""
    return first_shard(path).resolve()


def _model_files(folder: Path) -> list[Path]:
    """The model files of a folder, and of its subfolders that are named after a quant; pipes are passed over."""
    places = [folder, *(d for d in sorted(folder.iterdir()) if d.is_dir() and label_in_name(d.name))]
    files = [f for place in places for f in sorted(place.glob("*.gguf")) if not other_than_file(f)]
    return [f for f in files if not looks_like_projector(f)]


_SHAPE_KEYS = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "expert_count")


def _what_it_is(model: Model) -> tuple[str, ...]:
    name = model.header.metadata.get("general.name")
    plain = re.sub(r"[^a-z0-9]", "", name.lower()) if isinstance(name, str) else ""
    return (model.architecture, *(str(model.hparam(k)) for k in _SHAPE_KEYS), plain)


def _check_one_model(models: list[Model]) -> None:
    kinds = Counter(_what_it_is(m) for m in models)
    usual = kinds.most_common(1)[0][0]
    odd = [m for m in models if _what_it_is(m) != usual]
    if not odd:
        return
    like = next(m for m in models if _what_it_is(m) == usual)
    raise BadInput(
        f"{odd[0].path.name} ({odd[0].name}, {odd[0].architecture}) is not a quant of {like.name} "
        f"({like.architecture}) like {like.path.name}",
        do="give files of one model only",
    )
