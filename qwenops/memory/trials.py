"""Weights that the loader tries with an operation of their own before it puts them on a device.

As in weight_buft_supported (src/llama-model-loader.cpp, llama.cpp b10434). The weight of an operation that a device
cannot compute stays on the host: the decay of the first Mamba on Vulkan, a convolution that CUDA's threads do not
divide.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.recurrences import ssm_scan, wkv6
from qwenops.memory.shape import Shape
from qwenops.memory.tensor import F32, I32
from qwenops.model.types import Tensor

_ROWS = 512
_SEQUENCES = 3
_ANY = 123  # the loader's made-up dimensions for a time mix


def own_trial(t: Tensor, name: str, shape: Shape) -> tf.Tensor | None:
    """The operation with which this weight is tried, None where a usual one will do."""
    w = tf.leaf(t.type, *t.shape)
    if name.endswith(("ssm_conv1d.weight", "shortconv.conv.weight")):
        return tf.ssm_conv(tf.leaf(F32, w.ne[0] - 1 + _ROWS, w.ne[1], _SEQUENCES), w)
    if name.endswith(".ssm_a") and shape.architecture not in _DECAY_IS_A_FACTOR:
        return _scan(w, shape)
    if name.endswith("time_mix_first.weight"):
        many = tf.leaf(F32, _ANY, _ANY, _ANY)
        return wkv6(many, many, many, w, many, tf.leaf(F32, _ANY, _ANY, _ANY, _ANY))
    return None


# in these the decay is multiplied with, not scanned over (SSM_A_NOSCAN)
_DECAY_IS_A_FACTOR = frozenset({"qwen3next", "qwen35", "qwen35moe"})


def _scan(decay: tf.Tensor, shape: Shape) -> tf.Tensor:
    state = shape.state if decay.ne[0] == 1 else decay.ne[0]
    heads, groups = decay.ne[1], max(shape.groups, 1)
    head = shape.inner // heads
    x = tf.leaf(F32, head, heads, _ROWS, _SEQUENCES)
    dt = tf.leaf(F32, heads, _ROWS, _SEQUENCES)
    b = tf.leaf(F32, state, groups, _ROWS, _SEQUENCES)
    return ssm_scan(tf.leaf(F32, state, head, heads, _SEQUENCES), x, dt, decay, b, b, tf.leaf(I32, _SEQUENCES))
