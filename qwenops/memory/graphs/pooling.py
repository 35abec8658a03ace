"""What an embedding server adds behind the last rows: one vector a sequence, or a score.

As build_pooling and build_dense_out of src/llama-graph.cpp, llama.cpp b10434.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qwenops.memory import tensor as tf
from qwenops.memory.tensor import F32, I32, Tensor

MEAN: Final = 1
CLS: Final = 2
LAST: Final = 3
RANK: Final = 4
_SOFTMAX: Final = frozenset({"qwen3", "qwen3vl"})  # rerankers that answer yes or no


def pooled(
    hidden: Tensor,
    pooling: int,
    *,
    tokens: int,
    sequences: int,
    architecture: str,
    weight: Callable[[str], Tensor | None],
) -> Tensor | None:
    """The pooled vectors of `hidden`, or None where every row stays (pooling "none")."""
    if pooling not in (MEAN, CLS, LAST, RANK):
        return _projected(hidden, weight)
    if pooling == MEAN or (pooling == RANK and architecture == "modern-bert"):
        means = tf.graph_input(F32, tokens, sequences)
        vectors = tf.mul_mat(tf.cont(tf.transpose(hidden)), means)
    else:
        vectors = tf.get_rows(hidden, tf.graph_input(I32, sequences))
    if pooling == RANK:
        vectors = _scored(vectors, architecture, weight)
    return _projected(vectors, weight) or vectors


def _scored(vectors: Tensor, architecture: str, weight: Callable[[str], Tensor | None]) -> Tensor:
    """The classification head of a reranker."""
    dense = weight("cls.weight")
    if dense is not None:
        vectors = tf.unary(_with_bias(tf.mul_mat(dense, vectors), weight("cls.bias")))
        norm = weight("cls.norm.weight")
        if norm is not None:
            vectors = tf.mul(tf.same_shape("NORM", vectors), norm)
    out = weight("cls.output.weight")
    if out is not None:
        vectors = _with_bias(tf.mul_mat(out, vectors), weight("cls.output.bias"))
    return tf.soft_max(vectors) if architecture in _SOFTMAX else vectors


def _projected(vectors: Tensor, weight: Callable[[str], Tensor | None]) -> Tensor | None:
    """The dense layers of a sentence transformer, where the file has them."""
    second, third = weight("dense_2.weight"), weight("dense_3.weight")
    if second is None and third is None:
        return None
    if second is not None:
        vectors = _with_bias(tf.mul_mat(second, vectors), weight("dense_2.bias"))
    return vectors if third is None else tf.mul_mat(third, vectors)


def _with_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else tf.add(x, bias)
