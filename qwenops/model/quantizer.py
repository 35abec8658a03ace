"""Which type llama-quantize gives each tensor of a model, from the header alone.

Five questions in the quantizer's own order: is the tensor left as it is, does the caller name its type, which type
does the mix want, does that type divide the tensor's rows, and does it need an importance matrix.
Source: src/llama-quant.cpp and the loader's order of tensors in src/llama-model-loader.h, llama.cpp b10435.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.model.ggml_types import GGML_TYPES
from qwenops.model.quant_mixes import MIXES, Mix, Place, Role, quant_named
from qwenops.model.types import Header, Tensor

NUMBER: Final = {kind.name: number for number, kind in GGML_TYPES.items()}
_FLOATS: Final = frozenset({"F32", "F16", "BF16"})
QUANTIZED: Final = frozenset(number for name, number in NUMBER.items() if name[0] not in "FBI" or name[:2] == "IQ")
"""Types whose numbers come in blocks: what is stored in one of them is not the original any more."""

_ROLES: Final = (
    ("attn_qkv.weight", Role.VALUE),
    ("attn_kv_b.weight", Role.VALUE),
    ("attn_v.weight", Role.VALUE),
    ("attn_k.weight", Role.KEY),
    ("attn_q.weight", Role.QUERY),
    ("attn_output.weight", Role.ATTENTION_OUT),
    ("ffn_up", Role.UP),
    ("ffn_gate", Role.GATE),
    ("ffn_down", Role.DOWN),
)
_EMBEDDINGS: Final = frozenset({"token_embd.weight", "per_layer_token_embd.weight"})
_HEAD: Final = "output.weight"
_LEFT_ALONE_NAMES: Final = frozenset({"position_embd.weight", "token_types.weight"})
_LEFT_ALONE: Final = re.compile(
    "|".join(
        re.escape(part)
        for part in (
            # norms, routers, and what is too small or too delicate to gain by it
            "_norm.weight",
            "ffn_gate_inp.weight",
            "ffn_gate_tid2eid.weight",
            "altup",
            "laurel",
            "per_layer_model_proj",
            "ssm_conv1d",
            "shortconv.conv.weight",
            "indexer.k_proj.weight",
            "indexer.q_proj.weight",
            *(
                f"time_mix_{x}.weight"
                for x in ["first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2", "lerp_fused"]
            ),
            "time_mix_decay_w1.weight",
            "time_mix_decay_w2.weight",
            "attn_rel_b.weight",
            # of projectors
            ".position_embd",
            "sam.pos_embd",
            "sam.neck.",
            "sam.net_",
            ".rel_pos",
            ".patch_embd",
            ".patch_merger",
            "a.rvq.codebook",
            "mm.a.code_embd",
        )
    )
)
_FALLBACK: Final = {
    **dict.fromkeys(
        ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"),
        "IQ4_NL",
    ),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
"""What stands in for a type whose blocks do not divide a tensor's rows."""

_NEED_IMATRIX: Final = frozenset({"IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S"})
_SEVENTY_B: Final = {"llama": 80, "llama-embed": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}
"""Layers by which llama.cpp takes a model for one of 70B, whose value tensors get more bits."""

_LAYER = re.compile(r"blk\.\s*([+-]?\d+)")


@dataclass(frozen=True)
class Recipe:
    """What llama-quantize is told: the file type and its options.

    `imatrix` is whether there is an importance matrix. `overrides` are its --tensor-type: a pattern and a type each,
    the first that is found in a tensor's name.
    """

    quant: str
    imatrix: bool = False
    pure: bool = False
    leave_output: bool = False
    output_type: str | None = None
    embedding_type: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Target:
    """A tensor with the type it gets. `fallback` where its rows forced another than the mix wanted."""

    tensor: Tensor
    type: int
    fallback: bool = False


@dataclass(frozen=True)
class Outcome:
    """All tensors in the order in which they are written, and the first that needs an importance matrix."""

    targets: tuple[Target, ...]
    needs_imatrix: str | None


@dataclass(frozen=True)
class _Row:
    tensor: Tensor
    role: Role
    layer: int | None
    kept: bool


class Quantizer:
    """The quantizer over one header: what does not depend on the file type is worked out once."""

    def __init__(self, header: Header) -> None:
        self.architecture = header.architecture
        self.layers = _layers(header)
        self.experts = _number(_hparam(header, "expert_count"))
        self.heads_per_kv = _heads_per_kv(header)
        ordered = sorted(header.tensors, key=_written_order)
        self.rows = tuple(_row(t) for t in ordered)
        self.tied = all(t.name != _HEAD for t in ordered)
        self.values = sum(row.role is Role.VALUE for row in self.rows)
        self.seventy_b = self._is_seventy_b(header)

    def outcome(self, recipe: Recipe) -> Outcome:
        """The type of every tensor under one recipe. Raises BadInput, naming the tensor, where the quantizer would."""
        name = quant_named(recipe.quant)
        targets = tuple(self._targets(name, recipe))
        needs = None
        if not recipe.imatrix:
            types = {NUMBER[t] for t in types_that_need_imatrix(name)}
            needs = next(
                (t.tensor.name for t, row in zip(targets, self.rows, strict=True) if _needs(t, row, types)), None
            )
        return Outcome(targets, needs)

    def _targets(self, name: str, recipe: Recipe) -> Iterator[Target]:
        mix = MIXES[name]
        seen = dict.fromkeys(Role, 0)
        for row in self.rows:
            tensor = row.tensor
            if row.kept or (recipe.leave_output and tensor.name == _HEAD):
                yield Target(tensor, tensor.type)
                continue
            wanted, by_mix = self._wanted(row, mix, name, recipe, seen)
            type_ = _dividing(tensor, wanted) if by_mix else wanted
            _check_possible(tensor, type_)
            yield Target(tensor, NUMBER[type_], fallback=type_ != wanted)

    def _wanted(self, row: _Row, mix: Mix, name: str, recipe: Recipe, seen: dict[Role, int]) -> tuple[str, bool]:
        """The type before its blocks are looked at, and whether they will be: what is named outright is taken so."""
        if recipe.embedding_type and row.role is Role.EMBEDDING:
            return _type_named(recipe.embedding_type), False
        if recipe.output_type and row.role is Role.HEAD:
            return _type_named(recipe.output_type), False
        if mix.base in _FLOATS:
            return mix.base, False
        for pattern, type_ in recipe.overrides:
            if re.search(pattern.lower(), row.tensor.name):
                return _type_named(type_), True
        if recipe.pure:
            return mix.base, True
        return self._mixed(row, mix, name, recipe, seen), True

    def _mixed(self, row: _Row, mix: Mix, name: str, recipe: Recipe, seen: dict[Role, int]) -> str:
        role, tensor = row.role, row.tensor
        if role is Role.HEAD or (role is Role.EMBEDDING and self.tied):
            return _type_named(recipe.output_type) if recipe.output_type else self._head(mix, tensor)
        if name == "MXFP4_MOE":
            return "MXFP4" if len(_dims(tensor)) > 2 and tensor.shape[2] > 1 else "Q8_0"
        if role is Role.EMBEDDING:
            return mix.embedding or mix.base
        place = self._place(row, mix, recipe, seen)
        seen[role] += 1
        rule = mix.rules.get(role)
        type_ = (rule(place) if rule else None) or mix.base
        return type_ if mix.extreme else self._bumped(role, type_)

    def _head(self, mix: Mix, tensor: Tensor) -> str:
        """The output head's type; the tied embedding's too, since it is the head."""
        if self.architecture == "falcon" or tensor.shape[0] % GGML_TYPES[NUMBER[mix.base]].block:
            return "Q8_0"
        return mix.head

    def _bumped(self, role: Role, type_: str) -> str:
        """What all mixes but the extreme ones add for models of a certain shape."""
        if role is Role.VALUE and self.seventy_b and type_ in ("Q3_K", "Q4_K"):
            type_ = "Q5_K"
        if role in (Role.VALUE, Role.KEY) and self.experts == 8:
            return "Q8_0"
        return type_

    def _place(self, row: _Row, mix: Mix, recipe: Recipe, seen: dict[Role, int]) -> Place:
        index = seen[row.role]
        count = self.values if row.role is Role.VALUE else self.layers
        if self.experts > 1 and not mix.extreme and row.role in (Role.DOWN, Role.GATE, Role.UP):
            # experts need not be stored layer by layer, so the layer is read from the name
            index = self._layer(row)
        return Place(index, count, self.experts, recipe.imatrix, self.architecture == "falcon", self.heads_per_kv)

    def _layer(self, row: _Row) -> int:
        if row.layer is None:
            raise BadInput(f"llama-quantize refuses this model: tensor {row.tensor.name} names no layer")
        if not 0 <= row.layer < self.layers:
            raise BadInput(
                f"llama-quantize refuses this model: tensor {row.tensor.name} names layer {row.layer} of {self.layers}"
            )
        return row.layer

    def _is_seventy_b(self, header: Header) -> bool:
        layers = _number(_hparam(header, "block_count"))
        if _SEVENTY_B.get(self.architecture) != layers:
            return False
        return not self.architecture.startswith("llama") or (
            self.experts != 8 and _first(_hparam(header, "attention.head_count")) != _kv_heads(header)
        )


def _row(tensor: Tensor) -> _Row:
    match = _LAYER.match(tensor.name)
    return _Row(tensor, _role(tensor.name), int(match[1]) if match else None, _is_kept(tensor))


def types_that_need_imatrix(quant: str) -> frozenset[str]:
    """The tensor types for which the quantizer wants an importance matrix when it makes this file type."""
    return _NEED_IMATRIX | {"Q2_K"} if quant == "Q2_K_S" else _NEED_IMATRIX


def _written_order(tensor: Tensor) -> tuple[int, str]:
    """Outside of layers first, then layer by layer; each by name."""
    match = _LAYER.match(tensor.name)
    return (int(match[1]) if match else -1, tensor.name)


def _role(name: str) -> Role:
    if name == _HEAD:
        return Role.HEAD
    if name in _EMBEDDINGS:
        return Role.EMBEDDING
    return next((role for part, role in _ROLES if part in name), Role.OTHER)


def _is_kept(tensor: Tensor) -> bool:
    """Whether the tensor keeps its type whatever is asked for."""
    name = tensor.name
    if len(_dims(tensor)) < 2:
        return True
    # The quantizer looks for "weight" six bytes from the end, and in a name of five that place is "not found" as well.
    if not (name.endswith("weight") or len(name.encode()) == 5):
        return True
    return name in _LEFT_ALONE_NAMES or _LEFT_ALONE.search(name) is not None


def _dims(tensor: Tensor) -> tuple[int, ...]:
    """The shape without trailing ones, as ggml counts dimensions; at least one."""
    return stripped(tensor.shape)


def stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without trailing ones, as ggml writes it; at least one dimension."""
    end = len(shape)
    while end > 1 and shape[end - 1] == 1:
        end -= 1
    return shape[:end] or (1,)


def _dividing(tensor: Tensor, wanted: str) -> str:
    """The type, or what stands in for it where its blocks do not divide the tensor's rows."""
    row = tensor.shape[0]
    if row % GGML_TYPES[NUMBER[wanted]].block == 0:
        return wanted
    instead = _FALLBACK.get(wanted)
    if instead is None:
        raise BadInput(
            f"llama-quantize refuses this type: tensor {tensor.name} has rows of {row}, which blocks of {wanted} "
            "do not divide, and nothing stands in for it",
            do="take another type",
        )
    return instead if row % GGML_TYPES[NUMBER[instead]].block == 0 else "F16"


def _check_possible(tensor: Tensor, type_: str) -> None:
    if tensor.type == NUMBER[type_]:
        return
    if tensor.shape[0] % GGML_TYPES[NUMBER[type_]].block:
        raise BadInput(f"tensor {tensor.name} has rows of {tensor.shape[0]}, which blocks of {type_} do not divide")
    if len(_dims(tensor)) > 3:
        raise BadInput(f"llama-quantize aborts on this model: tensor {tensor.name} has four dimensions")


def _needs(target: Target, row: _Row, types: set[int]) -> bool:
    return not row.kept and row.role not in (Role.HEAD, Role.EMBEDDING) and target.type in types


def _type_named(name: str) -> str:
    word = name.upper()
    if word not in NUMBER:
        raise BadInput(f"{name!r} is no tensor type", do=f"one of {' '.join(NUMBER)}")
    return word


def _hparam(header: Header, key: str) -> Any:
    return header.metadata.get(f"{header.architecture}.{key}")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _first(value: Any) -> int:
    """A number that may be given layer by layer; then the first layer's counts."""
    return _number(value[0] if isinstance(value, list) and value else value)


def _kv_heads(header: Header) -> int:
    kv = _hparam(header, "attention.head_count_kv")
    return _first(kv if kv is not None else _hparam(header, "attention.head_count"))


def _heads_per_kv(header: Header) -> int | None:
    """Query heads to a value head in the first layer, 0 where that has none; None for a projector."""
    if header.architecture == "clip":
        return None
    kv = _kv_heads(header)
    return _first(_hparam(header, "attention.head_count")) // kv if kv else 0


def _layers(header: Header) -> int:
    """Layers as llama.cpp counts them once it has read the model's settings."""
    if header.architecture == "clip":
        return 0
    layers = _number(_hparam(header, "block_count"))
    if header.architecture == "graniteswitch":
        return layers + 1
    if header.architecture == "nanbeige":
        return layers * max(1, _number(_hparam(header, "num_loops")))
    return layers
