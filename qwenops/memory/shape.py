"""The dimensions of a text model that decide its memory, read from its header."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qwenops.model.types import ArrayInfo, Header, Model, Tensor


@dataclass(frozen=True)
class Shape:
    """Dimensions under llama.cpp's own names where it has one.

    `layers` counts every block of the file, `trunk_layers` those that the main graph runs (without MTP blocks).
    `kv_heads` and `recurrent` have one entry a block. `image_inputs` is how many embeddings wide an input row is
    (1, or 1 + deepstack layers), `latent_k` the width of the joint key and value of MLA, `sharing` how many of the last
    blocks use the cache of others, `extras` which operations the header asks for beyond those of its architecture.
    """

    architecture: str
    layers: int
    trunk_layers: int
    embedding: int
    heads: int
    kv_heads: tuple[int, ...]
    head_k: int
    head_v: int
    vocabulary: int
    context: int
    experts: int = 0
    experts_used: int = 0
    image_inputs: int = 1
    recurrent: tuple[bool, ...] = ()
    window: int = 0
    sliding: tuple[bool, ...] = ()
    conv_kernel: int = 0
    inner: int = 0
    state: int = 0
    groups: int = 0
    rank: int = 0
    latent_k: int = 0
    sharing: int = 0
    extras: frozenset[str] = frozenset()

    def owns_cache(self, layer: int) -> bool:
        """Whether a block keeps keys and values; the draft block of a hybrid does not in the main context."""
        if any(self.recurrent) and layer >= self.trunk_layers:
            return False
        if layer >= self.layers - self.sharing:
            return False
        return not self.recurrent[layer] and self.kv_heads[layer] > 0

    def k_width(self, layer: int) -> int:
        """Numbers of one cached key row."""
        return self.latent_k or self.head_k * self.kv_heads[layer]

    def v_width(self, layer: int) -> int:
        """Numbers of one cached value row; none where the value is part of the key (MLA)."""
        return 0 if self.latent_k else self.head_v * self.kv_heads[layer]

    @property
    def conv_width(self) -> int:
        """Channels of the short convolution."""
        return self.inner + 2 * self.groups * self.state


def shape_of(model: Model) -> Shape:
    """Read the dimensions of a model; keys that are missing take llama.cpp's defaults."""
    get = model.hparam
    layers = int(get("block_count", 0))
    trunk = layers - int(get("nextn_predict_layers", 0) or 0)
    embedding = int(get("embedding_length", 0))
    heads = max(_each(get("attention.head_count", 0), layers), default=0)
    kv_heads = _each(get("attention.head_count_kv", heads), layers)
    head = embedding // heads if heads else 0
    tensors = {t.name: t for t in model.header.tensors}
    architecture = model.architecture
    deepstack = int(get("n_deepstack_layers", 0) or 0)
    short = int(get("shortconv.l_cache", 0) or 0)
    latent = int(get("attention.kv_lora_rank", 0) or 0)
    return Shape(
        architecture=architecture,
        layers=layers,
        trunk_layers=trunk,
        embedding=embedding,
        heads=heads,
        kv_heads=kv_heads,
        head_k=int(get("attention.key_length", head)),
        head_v=int(get("attention.value_length", head)),
        vocabulary=_vocabulary(model.header, tensors, architecture),
        context=int(get("context_length", 0)),
        experts=int(get("expert_count", 0) or 0),
        experts_used=int(get("expert_used_count", 0) or 0),
        image_inputs=1 + deepstack,
        recurrent=tuple(not n for n in kv_heads) if short else _recurrent(model, layers, trunk),
        window=_window(model),
        sliding=_sliding(model, layers),
        conv_kernel=int(get("ssm.conv_kernel", 0) or short or 0),
        inner=int(get("ssm.inner_size", 0) or (embedding if short else 0)),
        state=int(get("ssm.state_size", 0) or 0),
        groups=int(get("ssm.group_count", 0) or 0),
        rank=int(get("ssm.time_step_rank", 0) or 0),
        latent_k=latent + int(get("rope.dimension_count", 0) or 0) if latent else 0,
        sharing=int(get("attention.shared_kv_layers", 0) or 0),
        extras=frozenset(extra for extra, asked in _EXTRAS.items() if asked(model)),
    )


# operations that a graph has only where the header asks for them
_EXTRAS: Final[dict[str, Callable[[Model], bool]]] = {
    "logits capped": lambda m: bool(m.hparam("final_logit_softcapping")) or m.architecture == "gemma2",
    "logit scale": lambda m: bool(m.hparam("logit_scale")),
    "embedding scale": lambda m: bool(m.hparam("embedding_scale")),
    "residual scale": lambda m: bool(m.hparam("residual_scale")),
    "expert scale": lambda m: m.hparam("expert_weights_scale", 0) not in (0, 1),
    "sigmoid gate": lambda m: m.hparam("expert_gating_func") == 2,
    "temperature": lambda m: bool(m.hparam("attention.temperature_scale")),
    "no rope": lambda m: m.hparam("rope.scaling.finetuned") is False,
}


def _each(value: Any, layers: int) -> tuple[int, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(int(v) for v in value)
    return (int(value or 0),) * layers


def _vocabulary(header: Header, tensors: Mapping[str, Tensor], architecture: str) -> int:
    embedding = tensors.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) > 1:
        return embedding.shape[1]
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, ArrayInfo):
        return tokens.length
    return int(header.metadata.get(f"{architecture}.vocab_size", 0))


def _recurrent(model: Model, layers: int, trunk: int) -> tuple[bool, ...]:
    """Which blocks keep a state in place of a cache (hybrid models)."""
    listed = model.hparam("attention.recurrent_layers")
    if isinstance(listed, Sequence) and len(listed) == layers:
        return tuple(bool(v) for v in listed)
    if model.architecture in ("qwen35", "qwen35moe", "qwen3next"):
        interval = int(model.hparam("full_attention_interval", 4))
        return tuple(i < trunk and (i + 1) % interval != 0 for i in range(layers))
    if model.hparam("ssm.inner_size"):
        states = {int(t.name.split(".")[1]) for t in model.header.tensors if ".ssm_" in t.name}
        return tuple(i in states for i in range(layers))
    return (False,) * layers


# every how many blocks one sees the whole context, where the file does not say (load_arch_hparams in src/models)
_EVERY: Final = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4, "llama4": 4}
# files of these name a window that the runtime leaves out
_NO_WINDOW: Final = frozenset({"phi3"})


def _window(model: Model) -> int:
    """How far a block with a window sees; 0 where none has one."""
    if model.architecture in _NO_WINDOW:
        return 0
    return int(model.hparam("attention.sliding_window", 4096 if model.architecture == "gemma2" else 0) or 0)


def _sliding(model: Model, layers: int) -> tuple[bool, ...]:
    """Which blocks see only a window."""
    every = _EVERY.get(model.architecture, 0)
    pattern = model.hparam("attention.sliding_window_pattern")
    if not _window(model):
        return (False,) * layers
    if isinstance(pattern, int) and not isinstance(pattern, bool):
        every = pattern
    elif isinstance(pattern, Sequence) and len(pattern) == layers and not every:
        return tuple(bool(v) for v in pattern)  # where the runtime expects a number it ignores a list
    return tuple(every > 1 and (i + 1) % every != 0 for i in range(layers))
