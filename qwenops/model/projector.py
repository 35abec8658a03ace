"""Projector files (mmproj): reading one, finding the one that belongs to a model, refusing one that does not.

Whether they fit is decided as llama.cpp does when it loads both (tools/mtmd/mtmd.cpp and clip.cpp
clip_n_mmproj_embd, src/llama-hparams.cpp n_embd_inp, b10435): the width that the projector puts out, deepstack
paths included, must be the width that the text model takes in.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from qwenops.errors import BadInput, NotAGGUF, QwenopsError
from qwenops.model.gguf_header import read_header
from qwenops.model.quants import label_in_name, quality_rank
from qwenops.model.split import shard_stem
from qwenops.model.types import Header, Model, Projector

TAKEN_BY: dict[str, tuple[str, ...]] = {
    "qwen2vl_merger": ("qwen2vl",),
    "qwen2.5vl_merger": ("qwen2vl", "qwen25vl"),
    "qwen3vl_merger": ("qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"),
}
"""Projector kind to the text architectures that it was made for; other kinds are judged by width alone."""

_CLIP_MARK = b"general.architecture" + struct.pack("<IQ", 8, 4) + b"clip"
_DEEPSTACK = re.compile(r"^v\.deepstack\.(\d+)\.fc1\.weight$")
THIS, NONE, OTHER = range(3)
_PREFERRED = ("F16", "BF16", "Q8_0", "F32")


def is_projector(header: Header) -> bool:
    """Whether a header is a projector's, not a text model's."""
    return header.architecture == "clip" or header.metadata.get("general.type") == "mmproj"


def read_projector(path: Path | str) -> Projector:
    """Read a projector file. Raises BadInput when the file is a text model, NotAGGUF when it is broken."""
    return projector_of(read_header(Path(path).expanduser()))


def projector_of(header: Header) -> Projector:
    """A projector from its header alone. Raises as read_projector does."""
    path = header.path
    if not is_projector(header):
        raise BadInput(
            f"{path} is a {header.architecture or 'nameless'} model, not a projector",
            do="give the mmproj file of the model: its name usually begins with mmproj",
        )
    kind = header.metadata.get("clip.vision.projector_type") or header.metadata.get("clip.projector_type")
    if not isinstance(kind, str):
        raise NotAGGUF(
            f"{path} does not say which kind of projector it is (clip.projector_type)", do="download the file again"
        )
    return Projector(path, header, kind, _projection_dim(header), header.file_bytes)


def check_projector(model: Model, projector: Projector) -> None:
    """Raise BadInput, naming both kinds or both widths, unless the projector belongs to the model."""
    architectures = TAKEN_BY.get(projector.kind)
    if architectures and model.architecture not in architectures:
        raise BadInput(
            f"{projector.path.name} is a {projector.kind} for {' or '.join(architectures)}, "
            f"{model.path.name} is a {model.architecture} model",
            do="take the mmproj file from the repository of this model",
        )
    gives, takes = output_width(projector), input_width(model)
    if takes and gives != takes:
        raise BadInput(
            f"{projector.path.name} gives {gives} values a token, {model.path.name} takes {takes}",
            do="take the mmproj file from the repository of this model, in the same size",
        )


def output_width(projector: Projector) -> int:
    """Values that the projector puts out for each image token, deepstack paths included."""
    return projector.projection_dim * (1 + deepstack_layers(projector.header))


def input_width(model: Model) -> int:
    """Values that the text model takes in for each token, deepstack paths included; 0 when it does not say."""
    width, deepstack = model.hparam("embedding_length", 0), model.hparam("n_deepstack_layers", 0)
    if not isinstance(width, int) or not isinstance(deepstack, int):
        return 0
    return width * (1 + deepstack)


def deepstack_layers(header: Header) -> int:
    """How many encoder layers hand their features straight to the text model."""
    return sum(1 for t in header.tensors if _DEEPSTACK.match(t.name))


def find_projector(model: Model) -> Projector | None:
    """The best projector for the model in its own folder, or None."""
    return next(iter(projector_candidates(model)), None)


def projector_candidates(model: Model) -> tuple[Projector, ...]:
    """Every projector in the model's folder that belongs to it, the best first.

    A file named after the model comes first, then one with a plain name, then the rest; among equals F16 before
    BF16, Q8_0 and F32: F16 is what makers publish and runs fast on every card. Files of other models are passed
    over; when the only one that looks right is damaged, its NotAGGUF is raised.
    """
    found: list[Projector] = []
    broken: QwenopsError | None = None
    for path in _clip_files(model):
        try:
            projector = read_projector(path)
        except QwenopsError as e:
            broken = e
            continue
        try:
            check_projector(model, projector)
        except BadInput:
            continue
        # widths coincide: a kind whose models we do not know must be named after this one, or after none
        if projector.kind in TAKEN_BY or _names(model.path, projector.path) != OTHER:
            found.append(projector)
    if not found and broken:
        raise broken
    return tuple(sorted(found, key=lambda p: preference(model.path, p.path)))


def _clip_files(model: Model) -> list[Path]:
    folder = model.path.parent
    own = {p.name for p in model.shards}
    beside = [p for p in sorted(folder.glob("*.gguf")) if p.name not in own and not other_than_file(p)]
    return [p for p in beside if looks_like_projector(p)]


def other_than_file(path: Path) -> bool:
    """Whether a path is there and is a folder, a pipe or a device; to open a pipe would wait for ever."""
    return path.exists() and not path.is_file()


def looks_like_projector(path: Path) -> bool:
    """Whether a file is worth reading as a projector: by its name, else by its first bytes."""
    if "mmproj" in path.name.lower():
        return True
    try:
        with path.open("rb") as file:
            return _CLIP_MARK in file.read(4096)
    except OSError:
        return False


def preference(model: Path, projector: Path) -> tuple[int, int, float, str]:
    """Sorts projectors for a model by their file names: the one to take comes first."""
    label = label_in_name(projector.name) or ""
    order = _PREFERRED.index(label) if label in _PREFERRED else len(_PREFERRED)
    return _names(model, projector), order, -quality_rank(label), projector.name


def _names(model: Path, projector: Path) -> int:
    """Whom the file name names: this model, none, or another."""
    stem = base_name(projector)
    return THIS if stem == base_name(model) else NONE if not stem else OTHER


def base_name(path: Path) -> str:
    """A file name without mmproj, quant, shard and separators: what names the model in it."""
    stem = (shard_stem(path) or path.name.removesuffix(".gguf")).lower()
    label = label_in_name(path.name)
    if label:
        # "i1-" before a quant says that an importance matrix was used
        stem = stem.replace(f"i1-{label.lower()}", "").replace(label.lower(), "").replace("fp16", "")
    return re.sub(r"[^a-z0-9]+", "", stem.replace("mmproj", "").replace("-model", ""))


def _projection_dim(header: Header) -> int:
    bias = next((t for t in header.tensors if t.name == "mm.2.bias" and len(t.shape) == 1), None)
    value = bias.shape[0] if bias else header.metadata.get("clip.vision.projection_dim")
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotAGGUF(
            f"{header.path} does not say how wide its output is (clip.vision.projection_dim)",
            do="download the file again",
        )
    return value
