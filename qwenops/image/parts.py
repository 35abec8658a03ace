"""The parts of a model that makes pictures: which files, how large, and what each holds once it is loaded.

A part is known by the header of its file (GGUF here or on the hub, safetensors here), else by what was published of it.
stable-diffusion.cpp keeps a matrix in the file's type, vectors in F32 and convolutions in F16, and turns an embedding
whose type it cannot look rows up in into F32 (support_get_rows in src/ggml_extend.hpp): of a Q4_K_M encoder that makes
2 GiB of embeddings where the file has 0.3.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Final, Literal

from qwenops.errors import BadInput, PartMissing
from qwenops.image.tensors import (
    TEXT_WIDTH,
    WIDTH,
    Made,
    diffusion_rows,
    encoder_rows,
    projector_rows,
    vae_rows,
)
from qwenops.memory.backends import Backend
from qwenops.model.ggml_types import GGML_TYPES
from qwenops.units import pad

Role = Literal["diffusion", "encoder", "projector", "vae"]
Known = Literal["header", "dimensions", "published"]

ROLES: Final[dict[Role, str]] = {
    "diffusion": "diffusion model",
    "encoder": "text encoder",
    "projector": "vision projector",
    "vae": "VAE",
}
_F32, _F16, _BF16 = 0, 1, 30
_LOOKED_UP: Final = frozenset({1, 8, 7, 6, 3, 2})  # F16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0
_SAFETENSORS_TYPES: Final = {"F32": _F32, "F16": _F16, "BF16": _BF16, "F64": _F32, "F8_E4M3": _F16, "F8_E5M2": _F16}
_LARGEST_HEADER: Final = 100 << 20
_PREFIX: Final = re.compile(r"^(model\.diffusion_model\.|text_encoders\.llm\.|vae\.|first_stage_model\.)")
_HF_NAMES: Final = (
    (re.compile(r"^model\.(language_model\.)?layers\.(\d+)\."), r"blk.\2."),
    (re.compile(r"self_attn\.([qkv])_proj"), r"attn_\1"),
    (re.compile(r"self_attn\.o_proj"), "attn_output"),
    (re.compile(r"mlp\.(gate|up|down)_proj"), r"ffn_\1"),
    (re.compile(r"input_layernorm"), "attn_norm"),
    (re.compile(r"post_attention_layernorm"), "ffn_norm"),
    (re.compile(r"^model\.(language_model\.)?embed_tokens"), "token_embd"),
    (re.compile(r"^model\.(language_model\.)?norm\."), "output_norm."),
)


@dataclass(frozen=True)
class Stored:
    """One tensor as a file has it, innermost dimension first."""

    shape: tuple[int, ...]
    type: int


@dataclass(frozen=True, eq=False)
class Part:
    """One file of a model. `tensors` is None where only its size was published (`known` says how it is known).

    `path` is set where the file is here. `quant` is the name people give the type of its matrices.
    """

    role: Role
    name: str
    file_bytes: int
    known: Known
    tensors: Mapping[str, Stored] | None = None
    path: Path | None = None
    quant: str = ""
    published_header_bytes: int = 0

    @property
    def blocks(self) -> int:
        """Blocks of the diffusion model, layers of the encoder."""
        if self.tensors is None:
            return _PUBLISHED_BLOCKS[self.role]
        pattern = re.compile(r"^(?:transformer_blocks|blk)\.(\d+)\.")
        return max((int(m[1]) + 1 for name in self.tensors if (m := pattern.match(name))), default=0)

    @property
    def feed_forward(self) -> int:
        """Inner width of the encoder's layers."""
        gate = self._stored("blk.0.ffn_gate.weight")
        return gate.shape[1] if gate else 18944

    @property
    def vocabulary(self) -> int:
        """Tokens that the encoder has embeddings for."""
        table = self._stored("token_embd.weight")
        return table.shape[1] if table else 152064

    def _stored(self, name: str) -> Stored | None:
        return None if self.tensors is None else self.tensors.get(name)

    def loaded_bytes(self, backend: Backend, *, takes_pictures: bool = True) -> int:
        """What the part holds once it is loaded, in bytes; a VAE's encoder only where it `takes_pictures`."""
        return _loaded_bytes(self, backend, takes_pictures)

    def block_bytes(self, backend: Backend) -> int:
        """What the largest single block holds, in bytes."""
        if self.tensors is None:
            outside = sum(self._sizes((r for r in self._rows() if not _in_block(r.name)), backend, default=_F16))
            return (self.loaded_bytes(backend) - outside) // self.blocks
        by_block: dict[str, int] = {}
        rows = [row for row in self._rows() if _in_block(row.name)]
        for row, size in zip(rows, self._sizes(rows, backend), strict=True):
            block = row.name.split(".")[1]
            by_block[block] = by_block.get(block, 0) + size
        return max(by_block.values(), default=0)

    def outside_bytes(self, backend: Backend) -> int:
        """What lies outside of all blocks: embeddings, first and last layers."""
        return sum(self._sizes((r for r in self._rows() if not _in_block(r.name)), backend, default=_F16))

    def _rows(self, takes_pictures: bool = True) -> Iterable[Made]:
        if self.role == "diffusion":
            return diffusion_rows(self.blocks)
        if self.role == "encoder":
            return encoder_rows(self.blocks, self.feed_forward, self.vocabulary)
        return projector_rows() if self.role == "projector" else vae_rows(encoder=takes_pictures)

    def _sizes(self, rows: Iterable[Made], backend: Backend, default: int = _F32) -> Iterable[int]:
        for row in rows:
            stored = self._stored(row.name)
            kind = _kept_type(row, default if stored is None else stored.type)
            known = GGML_TYPES[kind]
            size = prod(row.shape) // known.block * known.bytes + backend.row_padding_bytes(kind, row.shape[0])
            yield pad(size, backend.alignment)


@lru_cache(maxsize=256)
def _loaded_bytes(part: Part, backend: Backend, takes_pictures: bool) -> int:
    if part.tensors is None and part.role != "vae":
        return part.file_bytes - part.published_header_bytes
    return sum(part._sizes(part._rows(takes_pictures), backend))


_PUBLISHED_BLOCKS: Final[dict[Role, int]] = {"diffusion": 60, "encoder": 28, "projector": 32, "vae": 0}


def _in_block(name: str) -> bool:
    return name.startswith(("transformer_blocks.", "blk.", "v.blk."))


def _kept_type(row: Made, stored: int) -> int:
    if row.kind == "vector":
        return _F32
    if row.kind == "convolution":
        return _F16
    if row.kind == "embedding" and stored not in _LOOKED_UP:
        return _F32
    return stored if row.shape[0] % GGML_TYPES[stored].block == 0 else _F32


# --- from a file ------------------------------------------------------------------------------------------------------


def read_part(role: Role, path: Path) -> Part:
    """A part from its file's header. Raises BadInput where it is another part, or of another model."""
    path = path.expanduser()
    if not path.is_file():
        raise BadInput(f"there is no file {path} for the {ROLES[role]}", do="look at the name")
    with path.open("rb") as file:
        begins = file.read(4)
    if begins == b"GGUF":
        from qwenops.model.gguf_header import read_header

        header = read_header(path)
        return part_of(
            role, path.name, header.file_bytes, {t.name: (t.shape, t.type) for t in header.tensors}, path=path
        )
    return part_of(role, path.name, path.stat().st_size, safetensors_table(path), path=path)


def part_of(
    role: Role,
    name: str,
    file_bytes: int,
    tensors: Mapping[str, tuple[tuple[int, ...], int]],
    *,
    path: Path | None = None,
    known: Known = "header",
) -> Part:
    """A part from a table of tensors, checked to be that part."""
    stored = {_plain_name(n, role): Stored(shape, kind) for n, (shape, kind) in tensors.items()}
    _check(role, name, stored)
    return Part(role, name, file_bytes, known, stored, path, _majority(stored))


def _plain_name(name: str, role: Role) -> str:
    name = _PREFIX.sub("", name)
    if role == "encoder" and name.startswith("model."):
        for pattern, better in _HF_NAMES:
            name = pattern.sub(better, name)
    return name


def _majority(stored: Mapping[str, Stored]) -> str:
    by_type: dict[int, int] = {}
    for one in stored.values():
        by_type[one.type] = by_type.get(one.type, 0) + prod(one.shape)
    return GGML_TYPES[max(by_type, key=lambda kind: by_type[kind])].name if by_type else ""


def _check(role: Role, name: str, stored: Mapping[str, Stored]) -> None:
    """Raise BadInput, saying what the file is, where it is not this part of a Qwen-Image model."""
    found = what_it_is(stored)
    if found != role:
        said = ROLES[found] if found else "no part of a Qwen-Image model"
        other = f"; as that it is given with --{found}" if found else ""
        raise BadInput(f"{name} is not a {ROLES[role]}: it is {_a(said)}{other}", do=f"give the {ROLES[role]}'s file")
    width = {"diffusion": "img_in.weight", "encoder": "token_embd.weight"}.get(role)
    if width is not None and stored[width].shape[0 if role == "encoder" else 1] != (
        TEXT_WIDTH if role == "encoder" else WIDTH
    ):
        raise BadInput(
            f"{name}: {width} is {stored[width].shape}, and Qwen-Image of the 20B line needs "
            + ("an encoder of width 3584: Qwen2.5-VL-7B" if role == "encoder" else "a model of width 3072"),
            do=f"give the {ROLES[role]} that belongs to the model",
        )
    missing = [row.name for row in _wanted(role, stored) if row.name not in stored]
    if missing:
        raise BadInput(
            f"{name} is not whole: {len(missing)} of its tensors are missing, the first is {missing[0]}",
            do="download it again",
        )


def _wanted(role: Role, stored: Mapping[str, Stored]) -> Iterable[Made]:
    part = Part(role, "", 0, "header", stored)
    rows = part._rows()
    return (row for row in rows if row.name != "v.post_ln.weight")


def what_it_is(names: Iterable[str]) -> Role | None:
    """Which part has tensors of these names."""
    names = set(names)
    if "transformer_blocks.0.img_mod.1.weight" in names:
        return "diffusion"
    if "token_embd.weight" in names:
        return "encoder"
    if "v.patch_embd.weight" in names:
        return "projector"
    return "vae" if "decoder.middle.0.residual.0.gamma" in names else None


def _a(what: str) -> str:
    return what if what.startswith("no ") else f"a {what}"


def safetensors_table(path: Path) -> dict[str, tuple[tuple[int, ...], int]]:
    """The tensor table of a safetensors file: its length in eight bytes, then JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 0 < length <= _LARGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            table = json.loads(file.read(length))
        rows = {name: row for name, row in table.items() if name != "__metadata__"}
        return {
            name: (tuple(reversed([int(n) for n in row["shape"]])) or (1,), _SAFETENSORS_TYPES[row["dtype"]])
            for name, row in rows.items()
            if row["dtype"] in _SAFETENSORS_TYPES
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise BadInput(
            f"{path.name} is neither a GGUF nor a safetensors file ({error})", do="give a .gguf or .safetensors file"
        ) from None


# --- from the hub -----------------------------------------------------------------------------------------------------


def remote_part(role: Role, reference: str, *, offline: bool = False) -> Part:
    """A GGUF on the hub by reference (hf:OWNER/REPO:QUANT or :FILE), of which only the header is read."""
    from qwenops.model import hub
    from qwenops.model.remote import read_remote_header

    if not reference.lower().startswith("hf:"):
        raise BadInput(f"{reference} does not name a file on the hub", do="hf:OWNER/REPO:QUANT, or a file here")
    wanted = hub.parse_hub("hf:" + reference[3:])
    offline = offline or hub.hub_offline()
    groups = hub.wanted_models(wanted, hub.list_files(wanted, offline=offline), most=64)
    if len(groups) != 1 or len(groups[0]) != 1:
        names = ", ".join(g[0].path for g in groups[:6])
        raise BadInput(f"{reference} is not one file: {names}", do="name the quant: hf:OWNER/REPO:Q4_K_M")
    file = hub.remote_file(wanted, groups[0][0], small=role != "encoder")
    header, _ = read_remote_header(file, offline=offline)
    table = {t.name: (t.shape, t.type) for t in header.tensors}
    return part_of(role, file.shown, header.file_bytes, table)


def part_key(part: Part) -> str:
    """A stable digest of which file it is, for the history: 32 hex digits; of its table of tensors and its length."""
    digest = hashlib.sha256(f"{part.role} {part.file_bytes}\n".encode())
    for name, stored in sorted((part.tensors or {}).items()):
        digest.update(f"{name} {stored.shape} {stored.type}\n".encode())
    return digest.hexdigest()[:32]


def needs_file(part: Part) -> Path:
    """The part's file. Raises PartMissing where it is not here."""
    if part.path is None:
        raise PartMissing(f"the {ROLES[part.role]} {part.name} is not here", do=f"download it, then --{part.role} FILE")
    return part.path
