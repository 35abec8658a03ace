"""The vision encoder: the projector's weights, and the compute buffer for an image of a given size.

The runtime reserves the buffer for a square of 46 x 46 tokens when it loads; a larger image makes it grow and it stays
so. Graphs as in tools/mtmd/models/qwen2vl.cpp and qwen3vl.cpp, reservation as in tools/mtmd/clip.cpp, llama.cpp b10434.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Final

from qwenops.machine.types import Device
from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend, backend_of, encoder_host_backend
from qwenops.memory.remember import ByIdentity
from qwenops.memory.scheduler import Scheduler
from qwenops.memory.tensor import F16, F32, I32, Graph, Tensor
from qwenops.memory.weights import stored_bytes
from qwenops.model.types import Header, Projector

WARMUP_TOKENS: Final = 46 * 46
KNOWN_KINDS: Final = frozenset({"qwen2vl_merger", "qwen2.5vl_merger", "qwen3vl_merger"})
_MERGE: Final = 4  # patches that become one token
_GUESSED_ROWS: Final = 7


@dataclass(frozen=True)
class Encoder:
    """What a projector takes: weights on the backend that runs it, compute there and on the CPU."""

    weights_bytes: int
    device_bytes: int
    host_bytes: int
    flash: bool


def projector_bytes(projector: Projector, backend: Backend) -> int:
    """Bytes of the projector's weights in a backend's buffer."""
    sums = _sums(projector.header)
    if backend not in sums:
        sums[backend] = sum(stored_bytes(t, backend) for t in projector.header.tensors)
    return sums[backend]


def _no_sums(_: Header) -> dict[Backend, int]:
    return {}


_sums = ByIdentity(_no_sums)


def encoder_bytes(projector: Projector, tokens: int, *, flash_attn: bool = True, device: Device | None = None) -> int:
    """Compute buffer in bytes for an image of `tokens` tokens, never less than what was reserved at load.

    On the device that runs it, a plain GPU if none is named. With `flash_attn` the fused attention is used where the
    device has it, else the scores are stored in full.
    """
    return encoder_of(projector, tokens, flash_attn=flash_attn, backend=_backend(device)).device_bytes


def encoder_warmup_bytes(projector: Projector, *, flash_attn: bool = True, device: Device | None = None) -> int:
    """Compute buffer in bytes that the runtime reserves when it loads the projector."""
    return encoder_bytes(projector, WARMUP_TOKENS, flash_attn=flash_attn, device=device)


def encoder_of(projector: Projector, tokens: int, *, flash_attn: bool, backend: Backend) -> Encoder:
    """Weights and compute of a projector on one backend; the CPU's own buffers where that backend is the CPU."""
    if projector.kind not in KNOWN_KINDS:
        return _guess(projector, tokens, flash_attn=flash_attn, backend=backend)
    warm = _reserved(projector.header, projector.kind, WARMUP_TOKENS, flash_attn, backend)
    most = warm
    if tokens > WARMUP_TOKENS:
        grown = _compute(projector.header, projector.kind, tokens, warm.flash, backend)
        most = _Reserved(tuple(max(a, b) for a, b in zip(warm.peaks, grown, strict=True)), warm.flash)
    device = 0 if backend.is_host else most.peaks[0]
    return Encoder(projector_bytes(projector, backend), device, most.peaks[-1], warm.flash)


def _guess(projector: Projector, tokens: int, *, flash_attn: bool, backend: Backend) -> Encoder:
    """A projector whose graph is not replayed: seven rows of its width a patch, as the known ones need or less."""
    header, positions = projector.header, max(tokens, WARMUP_TOKENS) * _MERGE
    compute = _GUESSED_ROWS * 4 * positions * _number(header, "embedding_length", 1152)
    if not flash_attn:
        compute += 4 * positions * positions * _number(header, "attention.head_count", 16)
    return Encoder(projector_bytes(projector, backend), 0 if backend.is_host else compute, compute, flash_attn)


@dataclass(frozen=True)
class _Reserved:
    peaks: tuple[int, ...]
    flash: bool


def _backend(device: Device | None) -> Backend:
    return backend_of(device) if device is not None else Backend("GPU0", "cuda", 128)


def _reserved(header: Header, kind: str, tokens: int, flash_attn: bool, backend: Backend) -> _Reserved:
    """With the fused attention first; where the device cannot run it, once more without it, keeping the larger."""
    if not flash_attn:
        return _Reserved(_compute(header, kind, tokens, False, backend), False)
    peaks = _compute(header, kind, tokens, True, backend)
    if backend.is_host or _flash_runs(header, kind, tokens, backend):
        return _Reserved(peaks, True)
    plain = _compute(header, kind, tokens, False, backend)
    return _Reserved(tuple(max(a, b) for a, b in zip(peaks, plain, strict=True)), False)


def _flash_runs(header: Header, kind: str, tokens: int, backend: Backend) -> bool:
    """Whether the device has the fused attention for this head, and for the window mask where there is one."""
    head, positions = _number(header, "embedding_length") // _number(header, "attention.head_count"), tokens * _MERGE
    q, kv = tf.leaf(F32, head, positions, 1), tf.leaf(F16, head, positions, 1)
    windowed = kind == "qwen2.5vl_merger" and _number(header, "n_wa_pattern") > 0
    mask = tf.leaf(F16, positions, positions) if windowed else None
    return backend.supports(tf.flash_attention(q, kv, kv, mask))


def _compute(header: Header, kind: str, tokens: int, flash: bool, backend: Backend) -> tuple[int, ...]:
    key = (id(header), kind, tokens, flash, backend)
    found = _cache.get(key)
    if found is None or found[0] is not header:
        graph = EncoderGraph(header, kind, tokens, flash=flash).build()
        backends = [backend] if backend.is_host else [backend, encoder_host_backend()]
        found = (header, tuple(Scheduler(backends).peaks(graph)))
        _cache[key] = found
    return found[1]


_cache: dict[tuple[int, str, int, bool, Backend], tuple[Header, tuple[int, ...]]] = {}


def _number(header: Header, key: str, default: int = 0) -> int:
    return int(header.metadata.get(f"clip.vision.{key}", default))


class EncoderGraph:
    """Patches to embeddings, block by block. All weights lie on the first backend."""

    def __init__(self, header: Header, kind: str, tokens: int, *, flash: bool) -> None:
        self._tensors = {t.name: t for t in header.tensors}
        self._weights: dict[str, Tensor] = {}
        self.kind = kind
        self.flash = flash
        self.graph = Graph()
        self.hidden = _number(header, "embedding_length")
        self.heads = _number(header, "attention.head_count")
        self.head = self.hidden // self.heads
        self.blocks = _number(header, "block_count")
        self.out = _number(header, "projection_dim")
        self.patch = _number(header, "patch_size")
        self.windows = _number(header, "n_wa_pattern") if kind == "qwen2.5vl_merger" else 0
        across = next(n for n in range(isqrt(tokens), 0, -1) if tokens % n == 0)
        self.across, self.down = 2 * across, 2 * (tokens // across)
        self.positions = self.across * self.down

    def build(self) -> Graph:
        """The whole graph for one picture."""
        current = self._by_merge(self._patches())
        bias = self._maybe("v.patch_embd.bias")
        if bias is not None:
            current = tf.add(current, bias)
        if self._maybe("v.position_embd.weight") is not None:
            current = tf.add(current, self._by_merge(self._place_embeddings()))
        self.rope_positions = tf.graph_input(I32, self.positions * 4)
        if self._maybe("v.pre_ln.weight") is not None:
            current = self._norm(current, "v.pre_ln")
        mask = None
        if self.windows:
            mask, current = self._window(current)
        features: Tensor | None = None
        for i in self._sample():
            whole = not self.windows or (i + 1) % self.windows == 0
            current = self._block(current, f"v.blk.{i}", None if whole else mask)
            if self._maybe(f"v.deepstack.{i}.fc1.weight") is not None:
                feature = self._deepstack(current, f"v.deepstack.{i}")
                features = feature if features is None else tf.concat(features, feature, 0)
        if self._maybe("v.post_ln.weight") is not None:
            current = self._norm(current, "v.post_ln")
        current = tf.reshape(current, self.hidden * _MERGE, self.positions // _MERGE)
        current = self._mlp(current, "mm.0", "mm.2")
        if self.windows:
            rows = tf.graph_input(I32, self.positions // _MERGE)
            current = tf.reshape(current, self.out, self.positions // _MERGE)
            current = tf.reshape(tf.get_rows(current, rows), self.out, self.positions // _MERGE)
        if features is not None:
            current = tf.concat(current, features, 0)
        self.graph.expand(current)
        return self.graph

    def _sample(self) -> list[int]:
        """The blocks to build: blocks alike repeat, so their ends and two rounds of windows are enough."""
        if any(name.startswith("v.deepstack.") for name in self._tensors):
            return list(range(self.blocks))  # a feature of each deepstack block stays alive to the end
        kept = {0, 1, 2, self.blocks - 2, self.blocks - 1}
        for i in range(self.windows - 1, min(2 * self.windows, self.blocks), self.windows or 1):
            kept.update((i - 1, i, i + 1))
        return sorted(kept & set(range(self.blocks)))

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _patches(self) -> Tensor:
        image = tf.graph_input(F32, self.across * self.patch, self.down * self.patch, 3)
        first, second = (self._convolved(name, image) for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"))
        return tf.permute(tf.add(first, second), 1, 2, 0, 3)

    def _convolved(self, name: str, image: Tensor) -> Tensor:
        kernel = self._weight(name)
        rows = tf.im2col(kernel, image, self.patch, F32 if kernel.type == 30 else F16)
        flat = tf.reshape(rows, rows.ne[0], rows.ne[1] * rows.ne[2] * rows.ne[3])
        product = tf.mul_mat(flat, tf.reshape(kernel, kernel.ne[0] * kernel.ne[1] * kernel.ne[2], kernel.ne[3]))
        product = tf.reshape(product, rows.ne[1], rows.ne[2], rows.ne[3], kernel.ne[3])
        return tf.cont(tf.permute(product, 0, 1, 3, 2))

    def _by_merge(self, x: Tensor) -> Tensor:
        """Put the four patches of a token next to each other."""
        x = tf.cont(x, self.hidden * 2, self.across // 2, self.down)
        x = tf.reshape(x, self.hidden * 2, self.across // 2, 2, self.down // 2)
        return tf.cont(tf.permute(x, 0, 2, 1, 3), self.hidden, self.positions)

    def _place_embeddings(self) -> Tensor:
        learned = self._weight("v.position_embd.weight")
        side = isqrt(learned.ne[1])
        if side == self.across == self.down:
            return learned
        spread = tf.permute(tf.reshape(learned, self.hidden, side, side), 2, 0, 1, 3)
        spread = tf.permute(tf.upscale(spread, self.across, self.down, self.hidden), 1, 2, 0, 3)
        return tf.cont(spread, self.hidden, self.positions)

    def _window(self, x: Tensor) -> tuple[Tensor, Tensor]:
        order = tf.graph_input(I32, self.positions // _MERGE)
        mask = tf.graph_input(F32, self.positions, self.positions)
        if self.flash:
            mask = tf.cast(mask, F16)
        x = tf.get_rows(tf.reshape(x, self.hidden * _MERGE, self.positions // _MERGE), order)
        return mask, tf.reshape(x, self.hidden, self.positions)

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _maybe(self, name: str) -> Tensor | None:
        found = self._weights.get(name)
        if found is None and name in self._tensors:
            t = self._tensors[name]
            found = self._weights[name] = tf.weight(t.type, t.shape, 0)
        return found

    def _weight(self, name: str) -> Tensor:
        found = self._maybe(name)
        if found is None:
            raise LookupError(name)
        return found

    def _linear(self, x: Tensor, name: str) -> Tensor:
        y = tf.mul_mat(self._weight(f"{name}.weight"), x)
        bias = self._maybe(f"{name}.bias")
        return y if bias is None else tf.add(y, bias)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        kind = "RMS_NORM" if self.kind == "qwen2.5vl_merger" else "NORM"
        x = tf.mul(tf.same_shape(kind, x), self._weight(f"{name}.weight"))
        bias = self._maybe(f"{name}.bias")
        return x if bias is None else tf.add(x, bias)

    def _block(self, x: Tensor, name: str, mask: Tensor | None) -> Tensor:
        attended = self._attention(self._norm(x, f"{name}.ln1"), name, mask)
        x = tf.add(attended, x)
        return tf.add(x, self._feed_forward(self._norm(x, f"{name}.ln2"), name))

    def _feed_forward(self, x: Tensor, name: str) -> Tensor:
        up, down = f"{name}.ffn_up", f"{name}.ffn_down"
        if self._weight(f"{up}.weight").ne[0] != self.hidden:
            up, down = down, up  # files of the first converter have the two names swapped
        wide = self._linear(x, up)
        if self._maybe(f"{name}.ffn_gate.weight") is not None:
            return self._linear(tf.glu(self._linear(x, f"{name}.ffn_gate"), wide), down)
        return self._linear(tf.unary(wide), down)

    def _mlp(self, x: Tensor, first: str, second: str) -> Tensor:
        return self._linear(tf.unary(self._linear(x, first)), second)

    def _deepstack(self, x: Tensor, name: str) -> Tensor:
        x = tf.reshape(x, self.hidden * _MERGE, self.positions // _MERGE)
        return self._mlp(self._norm(x, f"{name}.norm"), f"{name}.fc1", f"{name}.fc2")

    def _attention(self, x: Tensor, name: str, mask: Tensor | None) -> Tensor:
        q, k, v = self._qkv(x, name)
        q, k = tf.rope(q, self.rope_positions), tf.rope(k, self.rope_positions)
        for t in (q, k, v):
            self.graph.expand(t)
        q, k = tf.permute(q, 0, 2, 1, 3), tf.permute(k, 0, 2, 1, 3)
        if self.flash:
            v = tf.cast(tf.permute(v, 0, 2, 1, 3), F16)
            k = tf.cast(k, F16)
            out = tf.flash_attention(q, k, v, None if mask is None else tf.cast(mask, F16))
            out = tf.reshape(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3])
        else:
            v = tf.cont(tf.permute(v, 1, 2, 0, 3))
            scores = tf.soft_max(tf.mul_mat(k, q), mask)
            out = tf.permute(tf.mul_mat(v, scores), 0, 2, 1, 3)
            out = tf.cont(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3])
        return self._linear(out, f"{name}.attn_out")

    def _qkv(self, x: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
        size = (self.head, self.heads, self.positions)
        if self._maybe(f"{name}.attn_qkv.weight") is None:
            q, k, v = (tf.reshape(self._linear(x, f"{name}.attn_{n}"), *size) for n in ("q", "k", "v"))
            return q, k, v
        joined = self._linear(x, f"{name}.attn_qkv")
        q, k, v = (tf.view_3d(joined, size, 4 * self.head, joined.nb[1], 4 * self.hidden * part) for part in range(3))
        return q, k, v
