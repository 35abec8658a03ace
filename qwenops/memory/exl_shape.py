"""The figures of config.json that ExLlama's memory follows from, held against the tensors that are there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qwenops.errors import BadInput
from qwenops.memory.exl_cache import CacheShape
from qwenops.model.exl import ExlModel

_LAYER = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d{1,4})\.")
_LINEAR = re.compile(_LAYER.pattern + r"linear_attn\.")


@dataclass(frozen=True)
class RecurrentShape:
    """The layers without a cache (gated delta rule): how many values a token has there, and a sequence's state."""

    layers: int
    width: int
    convolution_bytes: int
    state_bytes: int

    @property
    def total_bytes(self) -> int:
        """The state of one sequence in all layers."""
        return self.layers * (self.convolution_bytes + self.state_bytes)


@dataclass(frozen=True)
class VisionShape:
    """The vision tower's widths; `patches_per_token` is the merge, both ways."""

    hidden: int
    feed_forward: int
    patches_per_token: int


@dataclass(frozen=True)
class ExlShape:
    """Widths and counts of the language model, and the vision tower's where it has one."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    feed_forward: int
    experts: int
    experts_used: int
    vocabulary: int
    cache: CacheShape
    recurrent: RecurrentShape | None
    vision: VisionShape | None


def shape_of(model: ExlModel) -> ExlShape:
    """Read the shape. Raises BadInput where config.json and the tensors contradict each other."""
    layers = model.number("num_hidden_layers")
    stored = {int(match[1]) for t in model.tensors if (match := _LAYER.match(t.name))}
    if stored != set(range(layers)):
        raise BadInput(
            f"{model.source}: config.json has {layers} layers, the files have {len(stored)}",
            do="the files are not whole, or not those of this config.json",
        )
    hidden, heads = model.number("hidden_size"), model.number("num_attention_heads")
    head_dim = model.number("head_dim", default=max(1, hidden // heads))
    kv_heads = model.number("num_key_value_heads", default=heads)
    linear = {int(match[1]) for t in model.tensors if (match := _LINEAR.match(t.name))}
    experts = model.number("num_experts", default=1)
    return ExlShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_dim=head_dim,
        feed_forward=model.number(*(("moe_intermediate_size",) if experts > 1 else ()), "intermediate_size"),
        experts=experts,
        experts_used=model.number("num_experts_per_tok", default=8) if experts > 1 else 1,
        vocabulary=model.number("vocab_size"),
        cache=CacheShape(layers - len(linear), kv_heads, head_dim),
        recurrent=_recurrent(model, len(linear)) if linear else None,
        vision=_vision(model),
    )


def _recurrent(model: ExlModel, layers: int) -> RecurrentShape:
    """exllamav3 1.4.1, modules/gated_delta_net.py, GDNLayerState, without a history for drafts; the defaults are those
    of architecture/qwen3_5.py."""
    heads = model.number("linear_num_key_heads", default=16)
    key_dim = model.number("linear_key_head_dim", default=128)
    value_heads = model.number("linear_num_value_heads", default=32)
    value_dim = model.number("linear_value_head_dim", default=128)
    width = 2 * heads * key_dim + value_heads * value_dim
    return RecurrentShape(
        layers=layers,
        width=width,
        convolution_bytes=2 * width * model.number("linear_conv_kernel_dim", default=4),
        state_bytes=4 * value_heads * key_dim * value_dim,
    )


def _vision(model: ExlModel) -> VisionShape | None:
    part = model.config.get("vision_config")
    if not isinstance(part, dict):
        return None

    def number(*keys: str, default: int) -> int:
        found = (part.get(key) for key in keys)
        return next((n for n in found if type(n) is int and 0 < n < 1 << 24), default)

    # Qwen2-VL calls its width embed_dim, and hidden_size what comes out
    hidden = number("embed_dim", "hidden_size", default=1280)
    return VisionShape(
        hidden=hidden,
        feed_forward=number("intermediate_size", default=4 * hidden),
        patches_per_token=number("spatial_merge_size", default=2) ** 2,
    )
