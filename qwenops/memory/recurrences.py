"""The operations that carry a state from token to token: outputs of all tokens, then the final state, in one tensor.

Shapes follow ggml/src/ggml.c of llama.cpp b10434. Which backends compute them is in backends.py.
"""

from __future__ import annotations

from qwenops.memory.tensor import F32, Tensor


def ssm_scan(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, ids: Tensor) -> Tensor:
    """The selective scan of Mamba (a decay for each number of the state) and Mamba 2 (one for each head)."""
    head_state = state.ne[0] * state.ne[1] * state.ne[2]
    return Tensor(F32, (x.elements + head_state * ids.ne[0], 1, 1, 1), "SSM_SCAN", (state, x, dt, a, b, c, ids))


def wkv6(k: Tensor, v: Tensor, r: Tensor, first: Tensor, decay: Tensor, state: Tensor) -> Tensor:
    """The time mix of RWKV 6."""
    return _by_heads("RWKV_WKV6", k, state, (k, v, r, first, decay, state))


def wkv7(r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """The time mix of RWKV 7."""
    return _by_heads("RWKV_WKV7", k, state, (r, w, k, v, a, b, state))


def gated_linear_attention(k: Tensor, v: Tensor, q: Tensor, gate: Tensor, state: Tensor) -> Tensor:
    """The time mix of RWKV 6 grafted on Qwen."""
    return _by_heads("GATED_LINEAR_ATTN", k, state, (k, v, q, gate, state))


def _by_heads(op: str, k: Tensor, state: Tensor, src: tuple[Tensor, ...]) -> Tensor:
    head, heads, tokens, _ = k.ne
    return Tensor(F32, (head * heads, tokens + head * state.ne[1], 1, 1), op, src)
