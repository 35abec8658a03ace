"""Tensors as ggml sees them before any byte is allocated: type, shape, strides, sources, and whose bytes they view.

The closed form predicts buffers by laying out the same tensors in the same order as the runtime does. This module is
the vocabulary: a tensor, the operations that make one out of others, and the graph that lists them in order of use.
Shapes follow ggml/src/ggml.c of llama.cpp b10434.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qwenops.memory.quants import BLOCK, TYPE_BYTES

F32: Final = 0
F16: Final = 1
I32: Final = 26
I64: Final = 27

Shape = tuple[int, int, int, int]

VIEW_OPS: Final = frozenset({"VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE"})


class Tensor:
    """One tensor: `ne` is its shape and `nb` its strides in bytes, both innermost first.

    `place` is the number of the backend whose buffer holds it already (a weight, a cache), None when the graph
    allocator must find it a place. `pin` is a backend the runtime insists on. `name` is that of a weight in the file,
    which copies of it keep.
    """

    handle: int
    __slots__ = (
        "allocated",
        "backend",
        "children",
        "handle",
        "is_input",
        "is_output",
        "is_weight",
        "listed",
        "name",
        "nb",
        "ne",
        "offset",
        "op",
        "pin",
        "place",
        "size",
        "src",
        "type",
        "view_of",
        "views",
    )

    def __init__(
        self,
        type_: int,
        ne: Shape,
        op: str = "NONE",
        src: tuple[Tensor, ...] = (),
        nb: Shape | None = None,
        view_of: Tensor | None = None,
        offset: int = 0,
    ) -> None:
        self.type = type_
        self.ne = ne
        self.op = op
        self.src = list(src)
        if nb is None:
            # strides() and byte_size() of a tensor without gaps, by hand: this runs for every node of every graph
            n0, n1, n2, n3 = ne
            first, block = TYPE_BYTES[type_], BLOCK[type_]
            second = first * n0 if block == 1 else first * (n0 // block)
            third = second * n1
            fourth = third * n2
            self.nb: Shape = (first, second, third, fourth)
            self.size = fourth * n3 if block == 1 or n0 % block == 0 else byte_size(type_, ne, self.nb)
        else:
            self.nb = nb
            self.size = byte_size(type_, ne, nb)
        if view_of is None:
            self.view_of: Tensor | None = None
            self.offset = 0
        else:
            self.view_of = view_of.view_of or view_of
            self.offset = view_of.offset + offset
        self.place: int | None = None
        self.pin: int | None = None
        self.name = ""
        self.backend = -1
        # marks of the graph and the allocator's own notes; `handle` is set when a place is found
        self.is_weight = self.is_input = self.is_output = self.listed = self.allocated = False
        self.children = self.views = 0

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        a, b, c, d = self.ne
        return a * b * c * d

    @property
    def rows(self) -> int:
        """How many rows of the innermost dimension it has."""
        return self.ne[1] * self.ne[2] * self.ne[3]

    @property
    def contiguous(self) -> bool:
        """Whether the strides are those of a tensor without gaps; dimensions of one element do not count."""
        expected = TYPE_BYTES[self.type]
        if self.ne[0] != BLOCK[self.type] and self.nb[0] != expected:
            return False
        expected = expected * self.ne[0] // BLOCK[self.type]
        for n, stride in zip(self.ne[1:], self.nb[1:], strict=True):
            if n != 1:
                if stride != expected:
                    return False
                expected *= n
        return True


def shape(*ne: int) -> Shape:
    """Fill a shape up to four dimensions."""
    if len(ne) == 2:
        return (ne[0], ne[1], 1, 1)
    a, b, c, d = (*ne, 1, 1, 1, 1)[:4]
    return (a, b, c, d)


def strides(type_: int, ne: Shape) -> Shape:
    """Strides in bytes of a tensor without gaps."""
    first = TYPE_BYTES[type_]
    second = first * (ne[0] // BLOCK[type_])
    third = second * ne[1]
    return (first, second, third, third * ne[2])


def row_bytes(type_: int, n: int) -> int:
    """Bytes of `n` numbers in a row."""
    return TYPE_BYTES[type_] * n // BLOCK[type_]


def byte_size(type_: int, ne: Shape, nb: Shape) -> int:
    """Bytes from the first number to the last, gaps included."""
    n0, n1, n2, n3 = ne
    if n0 <= 0 or n1 <= 0 or n2 <= 0 or n3 <= 0:
        return 0
    outer = (n1 - 1) * nb[1] + (n2 - 1) * nb[2] + (n3 - 1) * nb[3]
    block = BLOCK[type_]
    if block == 1:
        return TYPE_BYTES[type_] + (n0 - 1) * nb[0] + outer
    return n0 * nb[0] // block + outer


# --- leaves -----------------------------------------------------------------------------------------------------------


def leaf(type_: int, *ne: int) -> Tensor:
    """A tensor that nothing computes."""
    return Tensor(type_, shape(*ne))


def graph_input(type_: int, *ne: int) -> Tensor:
    """A leaf that the runtime fills before each run."""
    t = leaf(type_, *ne)
    t.is_input = True
    return t


def weight(type_: int, ne: Iterable[int], place: int, name: str = "") -> Tensor:
    """A weight that lies in the buffer of backend `place`."""
    t = Tensor(type_, shape(*ne))
    t.place = place
    t.name = name
    t.is_weight = True
    return t


def cache(type_: int, place: int, *ne: int) -> Tensor:
    """A cache or state tensor that lies in the buffer of backend `place`."""
    t = leaf(type_, *ne)
    t.place = place
    return t


# --- views ------------------------------------------------------------------------------------------------------------


def view(a: Tensor, ne: Shape, nb: Shape | None = None, offset: int = 0) -> Tensor:
    """Another shape over a part of `a`."""
    return Tensor(a.type, ne, "VIEW", (a,), nb, a, offset)


def view_2d(a: Tensor, ne0: int, ne1: int, nb1: int, offset: int = 0) -> Tensor:
    """Rows `nb1` bytes apart."""
    return view(a, (ne0, ne1, 1, 1), (TYPE_BYTES[a.type], nb1, nb1 * ne1, nb1 * ne1), offset)


def view_3d(a: Tensor, ne: tuple[int, int, int], nb1: int, nb2: int, offset: int = 0) -> Tensor:
    """Planes `nb2` bytes apart of rows `nb1` bytes apart."""
    return view(a, (*ne, 1), (TYPE_BYTES[a.type], nb1, nb2, nb2 * ne[2]), offset)


def view_4d(a: Tensor, ne: Shape, nb1: int, nb2: int, nb3: int, offset: int = 0) -> Tensor:
    """Four dimensions with their strides."""
    return view(a, ne, (TYPE_BYTES[a.type], nb1, nb2, nb3), offset)


def reshape(a: Tensor, *ne: int) -> Tensor:
    """The same numbers in another shape."""
    return Tensor(a.type, shape(*ne), "RESHAPE", (a,), None, a)


def permute(a: Tensor, *axes: int) -> Tensor:
    """Dimension i of `a` becomes dimension axes[i]."""
    ne, nb = [0] * 4, [0] * 4
    for i, axis in enumerate(axes):
        ne[axis], nb[axis] = a.ne[i], a.nb[i]
    return Tensor(a.type, (ne[0], ne[1], ne[2], ne[3]), "PERMUTE", (a,), (nb[0], nb[1], nb[2], nb[3]), a)


def transpose(a: Tensor) -> Tensor:
    """The first two dimensions swapped."""
    (n0, n1, n2, n3), (b0, b1, b2, b3) = a.ne, a.nb
    return Tensor(a.type, (n1, n0, n2, n3), "TRANSPOSE", (a,), (b1, b0, b2, b3), a)


def _over(a: Tensor, op: str, *src: Tensor) -> Tensor:
    """The result of an operation that writes into `a` itself."""
    return Tensor(a.type, a.ne, op, src, a.nb, a)


# --- operations -------------------------------------------------------------------------------------------------------


def same_shape(op: str, a: Tensor, *others: Tensor) -> Tensor:
    """An operation whose result has the shape and type of its first source."""
    return Tensor(a.type, a.ne, op, (a, *others))


def add(a: Tensor, b: Tensor) -> Tensor:
    """Sum, b repeated over a."""
    return same_shape("ADD", a, b)


def mul(a: Tensor, b: Tensor) -> Tensor:
    """Product, b repeated over a."""
    return same_shape("MUL", a, b)


def unary(a: Tensor) -> Tensor:
    """SiLU, sigmoid, GELU, softplus: they differ in nothing that matters here."""
    return same_shape("UNARY", a)


def rope(a: Tensor, positions: Tensor, factors: Tensor | None = None) -> Tensor:
    """Rotary position encoding."""
    return same_shape("ROPE", a, positions, *(() if factors is None else (factors,)))


def mul_mat(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product; always float."""
    return Tensor(F32, (a.ne[1], b.ne[1], b.ne[2], b.ne[3]), "MUL_MAT", (a, b))


def mul_mat_id(experts: Tensor, b: Tensor, ids: Tensor) -> Tensor:
    """Matrix product with the chosen experts of each token."""
    return Tensor(F32, (experts.ne[1], ids.ne[0], b.ne[2], 1), "MUL_MAT_ID", (experts, b, ids))


def get_rows(a: Tensor, ids: Tensor) -> Tensor:
    """Rows of `a` by number; float unless they are integers."""
    return Tensor(I32 if a.type == I32 else F32, (a.ne[0], ids.ne[0], ids.ne[1], ids.ne[2]), "GET_ROWS", (a, ids))


def set_rows(into: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
    """Write rows into a cache; the result is the cache."""
    return _over(into, "SET_ROWS", rows, ids, into)


def copy_into(a: Tensor, b: Tensor) -> Tensor:
    """Write a into b; the result is b."""
    return _over(b, "CPY", a, b)


def cast(a: Tensor, type_: int) -> Tensor:
    """A copy in another type. Its second source is itself, as in ggml."""
    t = Tensor(type_, a.ne, "CPY", (a,))
    t.src.append(t)
    return t


def cont(a: Tensor, *ne: int) -> Tensor:
    """A copy without gaps, in a new shape if one is given."""
    return Tensor(a.type, shape(*ne) if ne else a.ne, "CONT", (a,))


def clamp(a: Tensor) -> Tensor:
    """Clamp in place."""
    return _over(a, "CLAMP", a)


def set_in_place(a: Tensor, part: Tensor) -> Tensor:
    """Write a part of `a`; the result is `a`."""
    return _over(a, "SET", a, part)


def scale_in_place(a: Tensor) -> Tensor:
    """Scale in place."""
    return _over(a, "SCALE", a)


def soft_max(a: Tensor, mask: Tensor | None = None, sinks: Tensor | None = None) -> Tensor:
    """Softmax over the innermost dimension, with a mask or without, with a sink for each head or without."""
    return same_shape("SOFT_MAX", a, *(t for t in (mask, sinks) if t is not None))


def glu(gate: Tensor, up: Tensor) -> Tensor:
    """SwiGLU and its kin on two separate halves."""
    return same_shape("GLU", gate, up)


def glu_halves(a: Tensor) -> Tensor:
    """The same on a tensor that has gate and up side by side."""
    return Tensor(a.type, (a.ne[0] // 2, *a.ne[1:]), "GLU", (a,))


def sum_rows(a: Tensor) -> Tensor:
    """Sum over the innermost dimension."""
    return Tensor(a.type, (1, a.ne[1], a.ne[2], a.ne[3]), "SUM_ROWS", (a,))


def top_k(a: Tensor, k: int) -> Tensor:
    """The numbers of the k largest: a full sort of which the first k are viewed."""
    order = Tensor(I32, a.ne, "ARGSORT", (a,))
    return view(order, (k, a.ne[1], a.ne[2], a.ne[3]), order.nb)


def concat(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Join along one axis."""
    ne = list(a.ne)
    ne[axis] += b.ne[axis]
    return Tensor(a.type, (ne[0], ne[1], ne[2], ne[3]), "CONCAT", (a, b))


def pad_to(a: Tensor, *ne: int) -> Tensor:
    """Zeros behind each dimension up to a shape."""
    return Tensor(a.type, shape(*ne), "PAD", (a,))


def repeat(a: Tensor, *ne: int) -> Tensor:
    """Repeat up to a shape."""
    return Tensor(a.type, shape(*ne), "REPEAT", (a,))


def flash_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, sinks: Tensor | None = None) -> Tensor:
    """Attention in one operation; float, heads before tokens."""
    src = (q, k, v, *(t for t in (mask, sinks) if t is not None))
    return Tensor(F32, (v.ne[0], q.ne[2], q.ne[1], q.ne[3]), "FLASH_ATTN_EXT", src)


def ssm_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """The short convolution of a recurrent layer."""
    return Tensor(F32, (kernel.ne[1], x.ne[0] - kernel.ne[0] + 1, x.ne[2], 1), "SSM_CONV", (x, kernel))


def gated_delta_net(
    q: Tensor, k: Tensor, v: Tensor, gate: Tensor, beta: Tensor, state: Tensor, *, snapshots: int = 1
) -> Tensor:
    """The fused delta rule: outputs of all tokens, then the states after the last few of them, in one tensor."""
    head, heads, tokens, sequences = v.ne
    rows = tokens * sequences + snapshots * head * sequences
    return Tensor(F32, (head * heads, rows, 1, 1), "GATED_DELTA_NET", (q, k, v, gate, beta, state))


def im2col(kernel: Tensor, image: Tensor, stride: int, type_: int) -> Tensor:
    """Patches of an image as rows."""
    width = (image.ne[0] - kernel.ne[0]) // stride + 1
    height = (image.ne[1] - kernel.ne[1]) // stride + 1
    row = kernel.ne[0] * kernel.ne[1] * kernel.ne[2]
    return Tensor(type_, (row, width, height, image.ne[3]), "IM2COL", (kernel, image))


def upscale(a: Tensor, *ne: int) -> Tensor:
    """Interpolate to a new size."""
    return Tensor(a.type, shape(*ne), "UPSCALE", (a,))


# --- the graph --------------------------------------------------------------------------------------------------------


class Graph:
    """Nodes and leaves in the order in which ggml would visit them. A tensor belongs to one graph."""

    def __init__(self) -> None:
        self.nodes: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.ends: list[Tensor] = []  # what each block gives

    def expand(self, t: Tensor) -> Tensor:
        """Append what `t` needs and `t` itself, sources first, each once."""
        if not t.listed:
            t.listed = True
            for s in t.src:
                if s.listed:
                    continue
                if s.op == "NONE":
                    s.listed = True
                    self.leaves.append(s)
                else:
                    self.expand(s)
            (self.leaves if t.op == "NONE" else self.nodes).append(t)
        return t
