"""The dimensions of a text model that decide its memory, read from its header."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qwenops.memory.remember import hashed_once
from qwenops.model.types import ArrayInfo, Header, Model, Tensor


@hashed_once
@dataclass(frozen=True)
class Shape:
    """Dimensions under llama.cpp's own names where it has one.

    `layers` counts every block of the file, `trunk_layers` those that the main graph runs (without MTP blocks).
    `kv_heads` and `recurrent` have one entry a block. `image_inputs` is how many embeddings wide an input row is
    (1, or 1 + deepstack layers), `latent_k` the width of the joint key and value of MLA, `sharing` how many of the last
    blocks use the cache of others, `extras` which operations the header asks for beyond those of its architecture.
    `side_by_side` is whether a block with a state attends as well, `wkv_head` the head of RWKV's time mix and `shifted`
    how many rows of a token its blocks pass on to the next one, `rescaled_every` after how many blocks it halves its
    numbers. `window_head_k` and `window_head_v` are the heads of
    the blocks that see only a window where those have other ones, `mla_head_k` and `mla_head_v` the heads that MLA's
    joint key and value stand for, `rotated` how many numbers of a head know their position, `expert_groups` how many
    groups experts are chosen from, `sparse_blocks` how many of the first blocks let only the largest activations on.
    `cached` is whether there is a cache at all, `causal` whether a token sees only what came before it, `pooling` how
    an embedding server makes one vector of a text (None where Ollama runs no such server), `added_images` by block
    which embedding of an input row comes in before it (-1 for none), where the file says so (Granite 4 Vision).
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
    side_by_side: bool = False
    wkv_head: int = 0
    shifted: int = 0
    rescaled_every: int = 0
    window_head_k: int = 0
    window_head_v: int = 0
    mla_head_k: int = 0
    mla_head_v: int = 0
    rotated: int = 0
    expert_groups: int = 0
    expert_groups_used: int = 0
    sparse_blocks: int = 0
    cached: bool = True
    causal: bool = True
    pooling: int | None = None
    added_images: tuple[int, ...] = ()

    def owns_cache(self, layer: int) -> bool:
        """Whether a block keeps keys and values; the draft block of a hybrid does not in the main context."""
        if any(self.recurrent) and layer >= self.trunk_layers:
            return False
        if layer >= self.layers - self.sharing:
            return False
        return self.cached and self.kv_heads[layer] > 0 and (self.side_by_side or not self.recurrent[layer])

    def k_width(self, layer: int) -> int:
        """Numbers of one cached key row."""
        return self.latent_k or self.key_head(layer) * self.kv_heads[layer]

    def v_width(self, layer: int) -> int:
        """Numbers of one cached value row; none where the value is part of the key (MLA)."""
        return 0 if self.latent_k else self.value_head(layer) * self.kv_heads[layer]

    def key_head(self, layer: int) -> int:
        """Numbers of one head's key."""
        return self.window_head_k if self.window_head_k and self.sliding[layer] else self.head_k

    def value_head(self, layer: int) -> int:
        """Numbers of one head's value."""
        return self.window_head_v if self.window_head_v and self.sliding[layer] else self.head_v

    def image_after(self, layer: int) -> int:
        """Which embedding of an input row is added to what a block gives; -1 for none."""
        if self.added_images:
            return self.added_images[layer + 1] if layer + 1 < len(self.added_images) else -1
        return layer + 1 if layer < self.image_inputs - 1 else -1

    def cache_of(self, layer: int) -> int:
        """The block whose cache a block uses: the last of its kind that has one (layer_reuse_cb of create_memory)."""
        return layer if layer < self.layers - self.sharing else self.layers - self.sharing - 1 - self.sliding[layer]

    @property
    def conv_width(self) -> int:
        """Channels of the short convolution."""
        return self.inner + 2 * self.groups * self.state

    @property
    def r_width(self) -> int:
        """Numbers a block remembers of the last tokens (n_embd_r): the tail of its convolution, or shifted rows."""
        return self.shifted * self.embedding if self.wkv_head else max(self.conv_kernel - 1, 0) * self.conv_width

    @property
    def s_width(self) -> int:
        """Numbers of a block's state matrix (n_embd_s)."""
        return (self.wkv_head or self.state) * (self.embedding if self.wkv_head else self.inner)


def shape_of(model: Model) -> Shape:
    """Read the dimensions of a model; keys that are missing take llama.cpp's defaults."""
    get = model.hparam
    layers = int(get("block_count", 0))
    trunk = _trunk(model)
    embedding = int(get("embedding_length", 0))
    heads = max(_each(get("attention.head_count", 0), layers), default=0)
    kv_heads = _each(get("attention.head_count_kv", heads), layers)
    head = embedding // heads if heads else 0
    tensors = {t.name: t for t in model.header.tensors}
    architecture = model.architecture
    added_images = _each(get("deepstack_mapping", ()), 0)
    deepstack = len({n for n in added_images if n >= 0}) or int(get("n_deepstack_layers", 0) or 0)
    short = int(get("shortconv.l_cache", 0) or 0)
    head_k = int(get("attention.key_length", head))
    mla_head_k, mla_head_v = (int(get(f"attention.{n}_length_mla", 0) or 0) for n in ("key", "value"))
    return Shape(
        architecture=architecture,
        layers=layers,
        trunk_layers=trunk,
        embedding=embedding,
        heads=heads,
        kv_heads=kv_heads,
        head_k=head_k,
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
        latent_k=head_k if mla_head_k and mla_head_v else 0,
        sharing=_sharing(model, layers),
        extras=frozenset(extra for extra, asked in _EXTRAS.items() if asked(model)),
        side_by_side=architecture == "falcon-h1",
        wkv_head=int(get("wkv.head_size", 0) or 0),
        rescaled_every=int(get("rescale_every_n_layers", 0) or 0),
        shifted=int(get("token_shift_count", 2) or 0),
        window_head_k=int(get("attention.key_length_swa", 0) or 0),
        window_head_v=int(get("attention.value_length_swa", 0) or 0),
        mla_head_k=mla_head_k,
        mla_head_v=mla_head_v,
        rotated=int(get("rope.dimension_count", head_k) or 0),
        expert_groups=int(get("expert_group_count", 0) or 0),
        expert_groups_used=int(get("expert_group_used_count", 0) or 0),
        sparse_blocks=_GEMMA3N_SPARSE if architecture == "gemma3n" else 0,
        cached=architecture not in UNCACHED,
        causal=bool(get("attention.causal", True)) and architecture not in _NEVER_CAUSAL,
        added_images=added_images,
        pooling=None if get("pooling_type") is None else int(get("pooling_type", 0)),
    )


# architectures without logits, and those for which llama_model::create_memory makes no memory
HEADLESS: Final = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert"})
UNCACHED: Final = HEADLESS | {"gemma-embedding", "neo-bert", "eurobert"}
_NEVER_CAUSAL: Final = frozenset({"gemma-embedding"})
_SIGMOID: Final = 2
# the gate of experts where the file does not say
_GATES: Final = {"glm4moe": _SIGMOID, "llama4": _SIGMOID, "nemotron_h_moe": _SIGMOID}

# operations that a graph has only where the header asks for them
_EXTRAS: Final[dict[str, Callable[[Model], bool]]] = {
    "logits capped": lambda m: bool(m.hparam("final_logit_softcapping")) or m.architecture == "gemma2",
    "logit scale": lambda m: bool(m.hparam("logit_scale")),
    "embedding scale": lambda m: bool(m.hparam("embedding_scale")) or m.architecture == "minicpm",
    "residual scale": lambda m: bool(m.hparam("residual_scale")) or m.architecture == "minicpm",
    "parallel residual": lambda m: bool(m.hparam("use_parallel_residual")),
    "shares sum to one": lambda m: bool(m.hparam("expert_weights_norm")),
    "expert scale": lambda m: m.hparam("expert_weights_scale", 0) not in (0, 1),
    "sigmoid gate": lambda m: (m.hparam("expert_gating_func") or _GATES.get(m.architecture)) == _SIGMOID,
    "temperature": lambda m: bool(m.hparam("attention.temperature_scale")),
    "no rope": lambda m: m.hparam("rope.scaling.finetuned") is False,
    "norms without weights": lambda m: bool(m.hparam("ssm.dt_b_c_rms")),
    "rope sections": lambda m: all((m.hparam("rope.dimension_sections") or (0, 0))[:2]),
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
    if model.hparam("wkv.head_size"):
        return (True,) * layers
    if model.hparam("ssm.inner_size"):
        states = {int(t.name.split(".")[1]) for t in model.header.tensors if ".ssm_" in t.name}
        return tuple(i in states for i in range(layers))
    return (False,) * layers


# every how many blocks one sees the whole context, where the file does not say (load_arch_hparams in src/models)
_EVERY: Final = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "cohere2": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma-embedding": 6,
    "llama4": 4,
    "modern-bert": 3,
    "olmo2": 4,
}
# those of which the first of so many blocks sees everything, and not the last
_WHOLE_FIRST: Final = frozenset({"modern-bert"})
# how far a block with a window sees, where the file does not say
_WINDOW: Final = {"gemma2": 4096, "exaone-moe": 128, "exaone4": 4096, "llama4": 8192}
_WINDOWED_EXAONE: Final = 64  # blocks of the one EXAONE 4 that has windows
_GEMMA3N_OWN_CACHES: Final = 20
_GEMMA3N_SPARSE: Final = 10
# files of these name a window that the runtime leaves out
_NO_WINDOW: Final = frozenset({"phi3"})


def _window(model: Model) -> int:
    """How far a block with a window sees; 0 where none has one."""
    if model.architecture in _NO_WINDOW:
        return 0
    named = model.hparam("attention.sliding_window")
    if model.architecture == "llama4" and named != 0:
        named = None  # only whether it is zero counts
    if model.architecture == "exaone4" and _trunk(model) != _WINDOWED_EXAONE:
        return 0
    return int(_WINDOW.get(model.architecture, 0) if named is None else named)


def _trunk(model: Model) -> int:
    return int(model.hparam("block_count", 0)) - int(model.hparam("nextn_predict_layers", 0) or 0)


def _sharing(model: Model, layers: int) -> int:
    """How many of the last blocks use the caches of others."""
    if model.architecture == "gemma3n":
        return max(0, layers - _GEMMA3N_OWN_CACHES)  # whatever the file says
    return int(model.hparam("attention.shared_kv_layers", 0) or 0)


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
    shift = 0 if model.architecture in _WHOLE_FIRST else 1
    # K-EXAONE lays its pattern before it learns how many of its blocks are for drafts
    trunk = layers if model.architecture == "exaone-moe" else _trunk(model)
    return tuple(i < trunk and every > 1 and (i + shift) % every != 0 for i in range(layers))
