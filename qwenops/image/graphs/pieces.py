"""What those graphs are made of: helper functions of stable-diffusion.cpp, and the replay of a graph on a backend.

Each stage is one graph on one backend, with an allocator of its own (GGMLRunner::alloc_compute_buffer), so there is no
scheduler between them. Source: src/ggml_extend.hpp and src/rope.hpp, the allocator as in memory/allocator.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from qwenops.memory import tensor as tf
from qwenops.memory.allocator import Recorder
from qwenops.memory.backends import Backend
from qwenops.memory.tensor import F16, F32, I32, Tensor

_FLASH_PADDING = 256


def weight(*ne: int, type_: int = F32) -> Tensor:
    """A weight: it lies in a buffer already."""
    return tf.weight(type_, tf.shape(*ne), 0)


def buffer_bytes(out: Tensor, backend: Backend, *, inputs: Iterable[Tensor] = ()) -> int:
    """The compute buffer of the graph that ends in `out`, in bytes.

    `inputs` are tensors that the runner puts into every graph after the result: they are given a place whether the
    graph reads them or not.
    """
    nodes, leaves = _listed((out, *inputs))
    for tensor in (*nodes, *leaves):
        tensor.backend = 0
    return Recorder([backend]).record(leaves, nodes).play([backend])[0]


def _listed(ends: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Nodes and leaves in the order in which ggml visits them; without recursion, since these graphs are deep."""
    nodes: list[Tensor] = []
    leaves: list[Tensor] = []
    for end in ends:
        waiting = [(end, iter(end.src))]
        if end.listed:
            continue
        end.listed = True
        while waiting:
            tensor, sources = waiting[-1]
            for source in sources:
                if not source.listed:
                    source.listed = True
                    waiting.append((source, iter(source.src)))
                    break
            else:
                waiting.pop()
                (leaves if tensor.op == "NONE" else nodes).append(tensor)
    return nodes, leaves


# --- operations that write into their first source --------------------------------------------------------------------


def in_place(op: str, a: Tensor, *others: Tensor) -> Tensor:
    """An operation of the "_inplace" kind: its result is a view of `a`."""
    return Tensor(a.type, a.ne, op, (a, *others), a.nb, a)


def scaled(a: Tensor, *, inplace: bool = False) -> Tensor:
    """ggml_ext_scale: a copy first where there are gaps."""
    a = whole(a)
    return in_place("SCALE", a) if inplace else tf.same_shape("SCALE", a)


def gelu(a: Tensor, *, inplace: bool = False) -> Tensor:
    """ggml_ext_gelu."""
    a = whole(a)
    return in_place("UNARY", a) if inplace else tf.unary(a)


def whole(a: Tensor) -> Tensor:
    """ggml_ext_cont: a copy only where there are gaps."""
    return a if a.contiguous else tf.cont(a)


def torch_permute(a: Tensor, *axes: int) -> Tensor:
    """Dimension axes[i] of `a` becomes dimension i (ggml_ext_torch_permute)."""
    return tf.permute(a, *(axes.index(i) for i in range(4)))


def part(a: Tensor, axis: int, start: int, end: int) -> Tensor:
    """ggml_ext_slice: a copy of a stretch along one axis; the tensor itself where the axis has one element."""
    if a.ne[axis] == 1:
        return a
    ne = list(a.ne)
    ne[axis] = end - start
    cut = tf.view(a, (ne[0], ne[1], ne[2], ne[3]), a.nb, start * a.nb[axis])
    return tf.cont(cut)


def chunks(a: Tensor, count: int, axis: int) -> list[Tensor]:
    """ggml_ext_chunk: equal parts along one axis, each copied."""
    ne = list(a.ne)
    ne[axis] //= count
    size = (ne[0], ne[1], ne[2], ne[3])
    return [tf.cont(tf.view(a, size, a.nb, i * ne[axis] * a.nb[axis])) for i in range(count)]


# --- layers -----------------------------------------------------------------------------------------------------------


def linear(x: Tensor, out: int, *, bias: bool = True, scale: bool = False) -> Tensor:
    """ggml_ext_linear; `scale` where the input is scaled down and the product up again."""
    if scale:
        x = scaled(x)
    w = weight(x.ne[0], out)
    if x.ne[2] * x.ne[3] > 1024:
        rows = tf.reshape(x, x.ne[0], x.ne[1] * x.ne[2] * x.ne[3])
        y = tf.reshape(tf.mul_mat(w, rows), out, x.ne[1], x.ne[2], x.ne[3])
    else:
        y = tf.mul_mat(w, x)
    if scale:
        y = scaled(y)
    return in_place("ADD", y, weight(out)) if bias else y


def rms_norm(x: Tensor) -> Tensor:
    """RMSNorm."""
    return in_place("MUL", tf.same_shape("RMS_NORM", x), weight(x.ne[0]))


def layer_norm(x: Tensor) -> Tensor:
    """LayerNorm without weights."""
    return tf.same_shape("NORM", x)


def rotated(x: Tensor, pe: Tensor, *, interleaved: bool = True) -> Tensor:
    """Rope::apply_rope: the rotation as products with a table of sines; x is [head, heads, tokens, 1]."""
    head, heads, tokens, batch = x.ne
    x = tf.cont(tf.permute(x, 0, 2, 1, 3))
    if interleaved:
        x = tf.cont(tf.permute(tf.reshape(x, 2, head // 2, tokens, heads * batch), 3, 0, 1, 2))
    else:
        x = tf.cont(torch_permute(tf.reshape(x, head // 2, 2, tokens, heads * batch), 0, 2, 3, 1))
    half = x.nb[2] * x.ne[2]
    pairs = []
    for i in range(2):
        one = tf.view_3d(x, x.ne[:3], x.nb[1], x.nb[2], half * i)
        one = tf.reshape(one, 1, one.ne[0], one.ne[1], one.ne[2])
        pairs.append(tf.repeat(one, 2, one.ne[1], one.ne[2], one.ne[3]))
    table = tf.cont(tf.permute(pe, 3, 0, 1, 2))
    half = table.nb[2] * table.ne[2]
    sines = [tf.view_3d(table, table.ne[:3], table.nb[1], table.nb[2], half * i) for i in range(2)]
    turned = in_place("ADD", tf.mul(pairs[0], sines[0]), tf.mul(pairs[1], sines[1]))
    if not interleaved:
        turned = tf.cont(tf.permute(turned, 1, 0, 2, 3))
    return tf.reshape(turned, head, tokens, heads * batch)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    *,
    flash: bool = False,
    kv_scale: bool = False,
    one: Tensor | None = None,
) -> Tensor:
    """ggml_ext_attention_ext after its reshapes: q and k are [head, tokens, heads], v is [head, heads, tokens, 1].

    `one` is the runner's tensor of a single 1, of which masks are made where keys are padded.
    """
    queries, keys, head = q.ne[1], k.ne[1], v.ne[0]
    kv_heads = k.ne[2]
    if flash:
        out = _flash(q, k, v, mask, kv_heads, kv_scale=kv_scale, one=one)
        out = tf.view_3d(out, (head, heads, queries), out.nb[1], out.nb[2])
    else:
        v = tf.reshape(whole(tf.permute(v, 1, 2, 0, 3)), keys, head, kv_heads)
        kq = in_place("SCALE", tf.mul_mat(k, q))
        if mask is not None:
            kq = in_place("ADD", kq, mask)
        kq = in_place("SOFT_MAX", kq)
        out = tf.permute(tf.reshape(tf.mul_mat(v, kq), head, queries, heads, 1), 0, 2, 1, 3)
    return tf.reshape(whole(out), head * heads, queries, 1)


def _flash(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kv_heads: int, *, kv_scale: bool, one: Tensor | None
) -> Tensor:
    """The fused kind, with keys padded to whole blocks of 256 and K and V copied to F16."""
    queries, keys, head = q.ne[1], k.ne[1], v.ne[0]
    padding = -keys % _FLASH_PADDING
    k = tf.pad_to(k, head, keys + padding, kv_heads) if padding else k
    k = tf.cast(scaled(k) if kv_scale else k, F16)
    v = tf.reshape(whole(tf.permute(v, 0, 2, 1, 3)), head, keys, kv_heads)
    v = tf.pad_to(v, head, keys + padding, kv_heads) if padding else v
    v = tf.cast(scaled(v) if kv_scale else v, F16)
    if mask is not None:
        mask = tf.cast(tf.transpose(mask), F16)
    elif padding and one is not None:
        zeros = tf.repeat(scaled(one), keys, queries)
        mask = tf.cast(tf.concat(zeros, tf.repeat(scaled(one), padding, queries), 0), F16)
    out = tf.flash_attention(q, k, v, mask)
    return scaled(out) if kv_scale else out


def full_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, *, flash: bool = False, one: Tensor | None = None
) -> Tensor:
    """ggml_ext_attention_ext with its reshapes: q, k and v are [heads * head, tokens, 1]."""
    head = q.ne[0] // heads
    q = _by_head(q, head, heads)
    k = _by_head(k, head, heads)
    return attention(q, k, tf.reshape(v, head, heads, v.ne[1], v.ne[2]), heads, flash=flash, one=one)


def _by_head(x: Tensor, head: int, heads: int) -> Tensor:
    tokens, batch = x.ne[1], x.ne[2]
    x = whole(tf.permute(tf.reshape(x, head, heads, tokens, batch), 0, 2, 1, 3))
    return tf.reshape(x, head, tokens, heads * batch)


def conv_2d(x: Tensor, out: int, kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
    """ggml_ext_conv_2d with its bias: patches as rows, then a product."""
    w = weight(kernel, kernel, x.ne[2], out, type_=F16)
    width = (x.ne[0] + 2 * padding - kernel) // stride + 1
    height = (x.ne[1] + 2 * padding - kernel) // stride + 1
    rows = Tensor(F16, (kernel * kernel * x.ne[2], width, height, x.ne[3]), "IM2COL", (w, x))
    flat = tf.reshape(rows, rows.ne[0], width * height * x.ne[3])
    y = tf.mul_mat(flat, tf.reshape(w, kernel * kernel * x.ne[2], out))
    y = tf.reshape(y, width, height, x.ne[3], out)
    y = tf.cont(tf.permute(y, 0, 1, 3, 2))
    return in_place("ADD", y, tf.reshape(weight(out), 1, 1, out, 1))


def conv_3d(x: Tensor, inner: int, out: int, kernel: tuple[int, int, int]) -> Tensor:
    """ggml_ext_conv_3d with its bias, stride 1 and no padding of its own; x is [width, height, depth, channels]."""
    depth, height, width = kernel
    w = weight(width, height, depth, inner * out, type_=F16)
    across, down, deep = x.ne[0] - width + 1, x.ne[1] - height + 1, x.ne[2] - depth + 1
    rows = Tensor(F16, (width * height * depth * inner, across, down, deep), "IM2COL_3D", (w, x))
    flat = tf.reshape(rows, rows.ne[0], across * down * deep)
    y = tf.mul_mat(flat, tf.reshape(w, width * height * depth * inner, out))
    y = tf.reshape(y, across * down, deep, 1, out)
    y = tf.cont(tf.permute(y, 0, 1, 3, 2))
    y = tf.reshape(y, across, down, deep, out)
    return in_place("ADD", y, tf.reshape(weight(out), 1, 1, 1, out))


def number(type_: int = F32) -> Tensor:
    """A leaf of one number, such as the runner's own one and zero."""
    return tf.leaf(type_, 1)


def runner_inputs() -> tuple[Tensor, Tensor]:
    """The two leaves that a runner puts into each of its graphs: a one and an integer zero."""
    return number(F32), number(I32)
