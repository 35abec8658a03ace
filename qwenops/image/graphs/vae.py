"""The decoder and the encoder between latents and pictures: the VAE of Wan 2.1, with one frame.

Source: src/wan.hpp of stable-diffusion.cpp (WanVAE with dim 96, z 16); the cached frames of a video are None here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from qwenops.image.graphs import pieces as p
from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.tensor import F32, Tensor

SCALE: Final = 8
CHANNELS: Final = 16
WIDTHS: Final = (96, 192, 384, 384)
_RESIDUAL: Final = 2
_CUBE: Final = (3, 3, 3)
_POINT: Final = (1, 1, 1)


@lru_cache(maxsize=64)
def decode_bytes(latent: tuple[int, int], backend: Backend, *, flash: bool = False) -> int:
    """The compute buffer of decoding a latent of (width, height), in bytes."""
    one, zero = p.runner_inputs()
    z = tf.leaf(F32, latent[0], latent[1], 1, CHANNELS)
    return p.buffer_bytes(_decoded(z, one, flash=flash), backend, inputs=(one, zero))


@lru_cache(maxsize=64)
def encode_bytes(picture: tuple[int, int], backend: Backend, *, flash: bool = False) -> int:
    """The compute buffer of encoding a picture of (width, height) pixels, in bytes."""
    one, zero = p.runner_inputs()
    x = tf.leaf(F32, picture[0], picture[1], 1, 3)
    return p.buffer_bytes(_encoded(x, one, flash=flash), backend, inputs=(one, zero))


def _decoded(z: Tensor, one: Tensor, *, flash: bool) -> Tensor:
    x = _causal(z, CHANNELS, _POINT, padding=0)
    x = _causal(x, WIDTHS[-1], _CUBE)
    x = _middle(x, one, flash=flash)
    for level, width in enumerate(reversed(WIDTHS)):
        for _ in range(_RESIDUAL + 1):
            x = _residual(x, width)
        if level < len(WIDTHS) - 1:
            x = _larger(x, width // 2)
    return _causal(tf.unary(_norm(x)), 3, _CUBE)


def _encoded(x: Tensor, one: Tensor, *, flash: bool) -> Tensor:
    x = _causal(x, WIDTHS[0], _CUBE)
    for level, width in enumerate(WIDTHS):
        for _ in range(_RESIDUAL):
            x = _residual(x, width)
        if level < len(WIDTHS) - 1:
            x = _smaller(x, width)
    x = _middle(x, one, flash=flash)
    x = _causal(tf.unary(_norm(x)), 2 * CHANNELS, _CUBE)
    x = _causal(x, 2 * CHANNELS, _POINT, padding=0)
    return p.chunks(x, 2, 3)[0]


def _middle(x: Tensor, one: Tensor, *, flash: bool) -> Tensor:
    width = x.ne[3]
    return _residual(_attended(_residual(x, width), one, flash=flash), width)


def _causal(x: Tensor, out: int, kernel: tuple[int, int, int], padding: int = 1) -> Tensor:
    """CausalConv3d: zeros around and, for the time, before."""
    if padding:
        x = tf.pad_to(x, x.ne[0] + 2 * padding, x.ne[1] + 2 * padding, x.ne[2] + 2 * padding, x.ne[3])
    return p.conv_3d(x, x.ne[3], out, kernel)


def _norm(x: Tensor) -> Tensor:
    """RMS_norm over channels, which are the outermost dimension here."""
    gamma = tf.reshape(p.weight(x.ne[3]), x.ne[3])
    h = p.whole(p.torch_permute(x, 3, 0, 1, 2))
    h = tf.mul(tf.same_shape("RMS_NORM", h), gamma)
    return p.whole(p.torch_permute(h, 1, 2, 3, 0))


def _residual(x: Tensor, out: int) -> Tensor:
    h = x if x.ne[3] == out else _causal(x, out, _POINT, padding=0)
    for _ in range(2):
        x = _causal(tf.unary(_norm(x)), out, _CUBE)
    return tf.add(x, h)


def _attended(x: Tensor, one: Tensor, *, flash: bool) -> Tensor:
    identity = x
    x = p.whole(p.torch_permute(_norm(x), 0, 1, 3, 2))
    width, height, channels, frames = x.ne
    qkv = p.conv_2d(x, 3 * channels, 1)
    row, plane = qkv.nb[1], qkv.nb[2]
    qkv = tf.reshape(qkv, width * height, channels, 3, frames)
    qkv = tf.cont(p.torch_permute(qkv, 0, 1, 3, 2))
    third = qkv.nb[2] * qkv.ne[2]
    q, k, v = (tf.view_4d(qkv, (width, height, channels, frames), row, plane, qkv.nb[3], third * i) for i in range(3))
    q, k = (
        tf.reshape(p.whole(p.torch_permute(one_of, 2, 0, 1, 3)), channels, width * height, frames) for one_of in (q, k)
    )
    v = tf.reshape(v, width * height, channels, frames)
    v = tf.cont(p.torch_permute(v, 1, 0, 2, 3))
    x = p.full_attention(q, k, v, 1, flash=flash, one=one)
    x = p.whole(tf.permute(x, 1, 0, 2, 3))
    x = p.conv_2d(tf.reshape(x, width, height, channels, frames), channels, 1)
    return tf.add(p.whole(p.torch_permute(x, 0, 1, 3, 2)), identity)


def _larger(x: Tensor, out: int) -> Tensor:
    x = p.whole(p.torch_permute(x, 0, 1, 3, 2))
    x = tf.upscale(x, 2 * x.ne[0], 2 * x.ne[1], x.ne[2], x.ne[3])
    x = p.conv_2d(x, out, 3, padding=1)
    return p.whole(p.torch_permute(x, 0, 1, 3, 2))


def _smaller(x: Tensor, out: int) -> Tensor:
    x = p.whole(p.torch_permute(x, 0, 1, 3, 2))
    x = tf.pad_to(x, x.ne[0] + 1, x.ne[1] + 1, x.ne[2], x.ne[3])
    x = p.conv_2d(x, out, 3, stride=2)
    return p.whole(p.torch_permute(x, 0, 1, 3, 2))
