"""The text encoder: Qwen2.5-VL without a head, the whole prompt at once; and its vision tower for references.

Source: src/llm.hpp of stable-diffusion.cpp. Its attention is not fused (flash attention is passed as off).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from qwenops.image.graphs import pieces as p
from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.tensor import F16, F32, I32, Tensor

HEADS: Final = 28
KV_HEADS: Final = 4
HEAD: Final = 128

_WINDOWLESS: Final = frozenset({7, 15, 23, 31})
_MERGE: Final = 2
_CELL: Final = 28


@dataclass(frozen=True)
class TextTower:
    """Dimensions that the library reads from the file; its 28 and 4 heads of 128 are fixed in its code."""

    layers: int = 28
    width: int = 3584
    feed_forward: int = 18944
    vocabulary: int = 152064


@dataclass(frozen=True)
class VisionTower:
    """The vision tower of Qwen2.5-VL-7B; all of it is fixed in the library's code."""

    layers: int = 32
    width: int = 1280
    feed_forward: int = 3420
    heads: int = 16
    patch: int = 14


@lru_cache(maxsize=64)
def encode_bytes(tower: TextTower, tokens: int, backend: Backend, *, picture_tokens: tuple[int, ...] = ()) -> int:
    """The compute buffer of encoding a prompt, in bytes.

    `tokens` are all of the prompt with its template, pictures included; `picture_tokens` those of each picture.
    """
    one, zero = p.runner_inputs()
    return p.buffer_bytes(_encoded(tower, tokens, picture_tokens), backend, inputs=(one, zero))


@lru_cache(maxsize=64)
def look_bytes(picture: tuple[int, int], backend: Backend, tower: VisionTower | None = None) -> int:
    """The compute buffer of looking at one reference of (width, height) pixels, in bytes."""
    one, zero = p.runner_inputs()
    return p.buffer_bytes(_seen(tower or VisionTower(), *picture), backend, inputs=(one, zero))


def _encoded(tower: TextTower, tokens: int, picture_tokens: tuple[int, ...]) -> Tensor:
    ids = tf.leaf(I32, tokens)
    pictures = [tf.leaf(F32, tower.width, count) for count in picture_tokens]
    positions = tf.leaf(I32, 4 * tokens)
    mask = tf.leaf(F32, tokens, tokens)
    rows = tf.reshape(tf.reshape(ids, tokens), tokens, 1, 1)
    x = tf.get_rows(p.weight(tower.width, tower.vocabulary), rows)
    x = tf.reshape(x, x.ne[0], tokens, 1)
    if pictures:
        x = _with_pictures(x, pictures)
    for _ in range(tower.layers):
        x = _layer(x, tower, positions, mask)
    return p.rms_norm(x)


def _with_pictures(x: Tensor, pictures: list[Tensor]) -> Tensor:
    """The rows of pictures in place of their placeholders; where each begins matters little, so evenly."""
    raw = tf.cast(x, F32)
    words = x.ne[1] - sum(one.ne[1] for one in pictures)
    each = max(1, words // (len(pictures) + 1))
    at, joined = 0, None
    for one in pictures:
        before = p.part(raw, 1, at, at + each)
        joined = before if joined is None else tf.concat(joined, before, 1)
        joined = tf.concat(joined, one, 1)
        at += each + one.ne[1]
    assert joined is not None
    return tf.concat(joined, p.part(raw, 1, at, x.ne[1]), 1)


def _layer(x: Tensor, tower: TextTower, positions: Tensor, mask: Tensor) -> Tensor:
    x = p.in_place("ADD", _self_attention(p.rms_norm(x), tower, positions, mask), x)
    return p.in_place("ADD", _gated(p.rms_norm(x), tower.feed_forward, tower.width, bias=False), x)


def _self_attention(x: Tensor, tower: TextTower, positions: Tensor, mask: Tensor) -> Tensor:
    tokens = x.ne[1]
    q = tf.reshape(p.linear(x, HEADS * HEAD), HEAD, HEADS, tokens, 1)
    k = tf.reshape(p.linear(x, KV_HEADS * HEAD), HEAD, KV_HEADS, tokens, 1)
    v = tf.reshape(p.linear(x, KV_HEADS * HEAD), HEAD, KV_HEADS, tokens, 1)
    q, k = tf.rope(q, positions), tf.rope(k, positions)
    q = tf.reshape(tf.cont(p.torch_permute(q, 0, 2, 1, 3)), HEAD, tokens, HEADS)
    k = tf.reshape(tf.cont(p.torch_permute(k, 0, 2, 1, 3)), HEAD, tokens, KV_HEADS)
    return p.linear(p.attention(q, k, v, HEADS, mask), tower.width, bias=False)


def _gated(x: Tensor, inner: int, out: int, *, bias: bool) -> Tensor:
    h = p.in_place("UNARY", p.linear(x, inner, bias=bias))
    h = p.in_place("MUL", h, p.linear(x, inner, bias=bias))
    return p.linear(h, out, bias=bias)


def _seen(tower: VisionTower, width: int, height: int) -> Tensor:
    image = tf.leaf(F32, width, height, 3)
    across, down = width // tower.patch, height // tower.patch
    cells = (across // _MERGE) * (down // _MERGE)
    window, back = tf.leaf(I32, cells), tf.leaf(I32, cells)
    mask = tf.leaf(F32, across * down, across * down)
    head = tower.width // tower.heads
    pe = tf.leaf(F32, 2, 2, head // 2, across * down)
    x = _embedded(_rows_of(image, tower.patch), tower)
    merged = _MERGE * _MERGE
    x = tf.reshape(x, x.ne[0] * merged, x.ne[1] // merged, x.ne[2], x.ne[3])
    x = tf.get_rows(x, window)
    x = tf.reshape(x, x.ne[0] // merged, x.ne[1] * merged, x.ne[2], x.ne[3])
    for layer in range(tower.layers):
        x = _vision_layer(x, tower, pe, None if layer in _WINDOWLESS else mask)
    x = tf.reshape(p.rms_norm(x), tower.width * merged, x.ne[1] // merged)
    x = p.linear(p.gelu(p.linear(x, tower.width * merged)), TextTower().width)
    return tf.get_rows(x, back)


def _vision_layer(x: Tensor, tower: VisionTower, pe: Tensor, mask: Tensor | None) -> Tensor:
    residual = x
    x = p.rms_norm(x)
    head, tokens = tower.width // tower.heads, x.ne[1]
    q, k, v = (tf.reshape(p.linear(x, tower.width), head, tower.heads, tokens, 1) for _ in range(3))
    q, k = p.rotated(q, pe, interleaved=False), p.rotated(k, pe, interleaved=False)
    x = p.linear(p.attention(q, k, v, tower.heads, mask), tower.width)
    x = p.in_place("ADD", x, residual)
    return p.in_place("ADD", _gated(p.rms_norm(x), tower.feed_forward, tower.width, bias=True), x)


def _rows_of(image: Tensor, patch: int) -> Tensor:
    """LLMRunner::process_image: patches in groups of four, each twice, since the tower expects two frames."""
    width, height, channels = image.ne[:3]
    m = _MERGE
    across, down = width // m // patch, height // m // patch
    x = tf.reshape(image, patch, m, across, height * channels)
    x = tf.cont(p.torch_permute(x, 0, 2, 3, 1))
    x = tf.reshape(x, patch * across, height, channels, m)
    x = tf.cont(p.torch_permute(x, 0, 2, 3, 1))
    x = tf.reshape(x, patch, across * channels * m, patch, m * down)
    x = tf.cont(p.torch_permute(x, 0, 2, 1, 3))
    x = tf.reshape(x, patch * patch, across, channels, m * m * down)
    x = tf.concat(x, x, 0)
    x = tf.cont(p.torch_permute(x, 0, 2, 1, 3))
    x = tf.reshape(x, patch * patch * 2 * channels, across, m * m, down)
    x = tf.cont(p.torch_permute(x, 0, 2, 1, 3))
    return tf.reshape(x, patch * patch * 2 * channels, m * m * across * down)


def _embedded(x: Tensor, tower: VisionTower) -> Tensor:
    """VisionPatchEmbed as llama.cpp's projector files have it: two convolutions, one a frame, added."""
    patch = tower.patch
    x = tf.reshape(x, patch, patch, 2, x.elements // (2 * patch * patch))
    halves = []
    for frame in range(2):
        one = p.part(x, 2, frame, frame + 1)
        one = tf.reshape(one, one.ne[0], one.ne[1], 3, one.ne[3] // 3)
        w = p.weight(patch, patch, 3, tower.width, type_=F16)
        rows = Tensor(F16, (patch * patch * 3, 1, 1, one.ne[3]), "IM2COL", (w, one))
        y = tf.mul_mat(tf.reshape(rows, rows.ne[0], one.ne[3]), tf.reshape(w, patch * patch * 3, tower.width))
        y = tf.reshape(y, 1, 1, one.ne[3], tower.width)
        halves.append(tf.cont(tf.permute(y, 0, 1, 3, 2)))
    x = tf.add(halves[0], halves[1])
    return tf.reshape(x, tower.width, x.elements // tower.width)
