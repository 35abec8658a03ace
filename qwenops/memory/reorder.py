"""How a GPU backend reorders a split before it is allocated, since the order decides what is alive together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from qwenops.machine.types import Kind
from qwenops.memory.tensor import Tensor

_EMPTY: Final = frozenset({"NONE", "RESHAPE", "TRANSPOSE", "VIEW", "PERMUTE"})
_LOOK_AHEAD: Final = 20

# chains that Vulkan fuses and therefore leaves together, by their operations
_KEPT: Final = (
    ("SOFT_MAX", "RESHAPE", "ARGSORT", "VIEW", "GET_ROWS", "RESHAPE", "SUM_ROWS", "CLAMP", "DIV", "RESHAPE"),
    ("UNARY", "RESHAPE", "ADD", "ARGSORT", "VIEW", "GET_ROWS", "RESHAPE", "SUM_ROWS", "CLAMP", "DIV", "RESHAPE"),
    ("SOFT_MAX", "RESHAPE", "ARGSORT", "VIEW", "GET_ROWS"),
    ("ARGSORT", "VIEW", "GET_ROWS", "RESHAPE", "SOFT_MAX", "RESHAPE"),
)
_PAIRS: Final = frozenset(
    {
        ("RMS_NORM", "MUL"),
        ("MUL_MAT", "ADD"),
        ("MUL_MAT_ID", "ADD_ID"),
        ("MUL_MAT_ID", "MUL"),
        ("ADD", "ADD"),
        ("SSM_CONV", "ADD"),
        ("SSM_CONV", "UNARY"),
    }
)


_METAL_AHEAD: Final = 64
_METAL_CHAIN: Final = 16
_METAL_FUSED: Final = frozenset({"ADD", "MUL", "NORM", "RMS_NORM"})
_METAL_MOVABLE: Final = _METAL_FUSED | {
    "MUL_MAT", "MUL_MAT_ID", "ROPE", "L2_NORM", "SUM_ROWS", "SSM_CONV", "SSM_SCAN", "CLAMP", "TRI", "DIAG", "SUB",
    "DIV", "GLU", "SCALE", "UNARY", "GET_ROWS", "SET_ROWS", "SET", "CPY", "CONT", "REPEAT",
}  # fmt: skip


def reorder(nodes: Sequence[Tensor], kind: Kind, uses: Mapping[int, int]) -> Sequence[Tensor]:
    """The order in which this kind of backend runs a split; `uses` counts how often each tensor is a source."""
    if kind == "vulkan":
        return _Vulkan(nodes).order()
    if kind == "metal":
        return _Metal(nodes, uses).order()
    return nodes


class _Vulkan:
    """ggml_vk_graph_optimize (ggml-vulkan.cpp, llama.cpp b10434): independent work moves up to 20 places forward."""

    def __init__(self, nodes: Sequence[Tensor]) -> None:
        self._nodes = nodes
        self._used = [False] * len(nodes)
        self._done: set[int] = set()
        self._next = 0
        self._result: list[Tensor] = []

    def order(self) -> list[Tensor]:
        """All nodes, once each."""
        while self._next < len(self._nodes):
            chain = next((p for p in _KEPT if self._matches(p, self._next)), None)
            if chain is not None:
                self._emit(range(self._next, self._next + len(chain)))
                continue
            together = self._real_work()
            if self._nodes[together[-1]].op != "ADD":
                self._views(together)
            self._emit(together)
        return self._result

    def _emit(self, which: Sequence[int]) -> None:
        for i in which:
            self._result.append(self._nodes[i])
            self._done.add(id(self._nodes[i]))
            self._used[i] = True
        while self._next < len(self._nodes) and self._used[self._next]:
            self._next += 1

    def _matches(self, pattern: Sequence[str], start: int) -> bool:
        if start + len(pattern) > len(self._nodes):
            return False
        return all(self._nodes[start + j].op == op and not self._used[start + j] for j, op in enumerate(pattern))

    def _window(self, start: int, length: int) -> range:
        return range(start, min(start + length, len(self._nodes)))

    def _real_work(self) -> list[int]:
        nodes, used, first = self._nodes, self._used, self._next
        together = [first]
        for j in self._window(first, _LOOK_AHEAD)[1:]:
            t = nodes[j]
            if used[j] or t.op in _EMPTY:
                continue
            if t.op in ("SOFT_MAX", "ARGSORT") and any(self._matches(p, j) for p in _KEPT):
                continue
            if self._waits(j, together):
                continue
            together.append(j)
            self._pull_followers(j, together)
        return together

    def _waits(self, j: int, together: list[int]) -> bool:
        """Whether node j needs one before it that has not run, other than a partner it is fused with."""
        nodes, used = self._nodes, self._used
        t = nodes[j]
        root = t if t.view_of is None else t.view_of
        for c in range(self._next, j):
            if used[c]:
                continue
            other = nodes[c]
            if other not in t.src and root is not (other if other.view_of is None else other.view_of):
                continue
            if not (j == c + 1 and c == together[-1] and (other.op, t.op) in _PAIRS):
                return True
        return False

    def _pull_followers(self, j: int, together: list[int]) -> None:
        nodes = self._nodes
        op = nodes[j].op
        before = nodes[j - 1].op if j > 0 else ""
        rope = j
        if op == "MUL" and before == "RMS_NORM":
            for k in self._window(j + 1, 14):
                t = nodes[k]
                if t.op == "ROPE" and t.src[0] is nodes[j] and all(s.op == "NONE" for s in t.src[1:3]):
                    rope = k
                    self._pull(k, together)
                    break
        if nodes[rope].op == "ROPE":
            self._pull_cache_write(rope, together)
        if op == "ADD_ID" and before == "MUL_MAT_ID":
            self._pull_first(j, "MUL", together, ready=True)
        if op == "ADD" and before == "MUL_MAT":
            self._pull_first(j, "ADD", together, ready=True)
        if op == "ADD" and before == "SSM_CONV":
            self._pull_first(j, "UNARY", together, ready=False)

    def _pull(self, k: int, together: list[int]) -> None:
        together.append(k)
        self._used[k] = True

    def _pull_first(self, j: int, op: str, together: list[int], *, ready: bool) -> None:
        for k in self._window(j + 1, 14):
            t = self._nodes[k]
            if t.op != op or t.src[0] is not self._nodes[j]:
                continue
            if ready and not (t.src[1].op == "NONE" or id(t.src[1]) in self._done):
                continue
            self._pull(k, together)
            return

    def _pull_cache_write(self, rope: int, together: list[int]) -> None:
        viewed = -1
        for k in self._window(rope + 1, 9):
            t = self._nodes[k]
            if viewed < 0 and t.op == "VIEW" and t.src[0] is self._nodes[rope]:
                viewed = k
            elif viewed >= 0 and t.op == "SET_ROWS" and t.src[0] is self._nodes[viewed]:
                self._pull(viewed, together)
                self._pull(k, together)
                return

    def _views(self, together: list[int]) -> None:
        nodes, used = self._nodes, self._used
        for j in self._window(self._next, _LOOK_AHEAD)[1:]:
            t = nodes[j]
            if used[j] or t.op not in _EMPTY:
                continue
            root = t if t.view_of is None else t.view_of
            ready = True
            for c in range(self._next, j):
                if used[c] or c in together:
                    continue
                other = nodes[c]
                if other in t.src or root is (other if other.view_of is None else other.view_of):
                    ready = False
                    break
            if ready:
                together.append(j)


class _Metal:
    """ggml_graph_optimize (ggml-metal-common.cpp, llama.cpp b10434): work that can run beside other work is put there.

    Chains that Metal fuses stay together. Two nodes may run side by side when neither writes what the other touches.
    """

    def __init__(self, nodes: Sequence[Tensor], uses: Mapping[int, int]) -> None:
        self._groups = _chains(nodes, uses)
        self._used = [False] * len(self._groups)
        self._touched = [_touched(g) for g in self._groups]
        self._result: list[Tensor] = []

    def order(self) -> list[Tensor]:
        """All nodes, once each."""
        beside = _Together()
        for i, group in enumerate(self._groups):
            if self._used[i]:
                continue
            if group[0].op not in _EMPTY and not beside.admits(*self._touched[i]):
                self._look_ahead(i, beside)
                beside = _Together()
            self._take(i, beside)
        return self._result

    def _take(self, i: int, beside: _Together) -> None:
        beside.add(*self._touched[i])
        self._used[i] = True
        self._result.extend(self._groups[i])

    def _look_ahead(self, i: int, beside: _Together) -> None:
        passed = _Together()
        passed.add(*self._touched[i])
        for j in range(i + 1, min(i + _METAL_AHEAD, len(self._groups))):
            if self._used[j]:
                continue
            op = self._groups[j][0].op
            if op not in _METAL_MOVABLE and op not in _EMPTY:
                return
            free = op in _EMPTY or beside.admits(*self._touched[j])
            if free and passed.admits(*self._touched[j]):
                self._take(j, beside)
            else:
                passed.add(*self._touched[j])


class _Together:
    """What a set of concurrent nodes reads and writes, by the tensors whose bytes they are."""

    def __init__(self) -> None:
        self.read: set[int] = set()
        self.written: set[int] = set()

    def add(self, read: frozenset[int], written: int) -> None:
        self.read |= read
        self.written.add(written)

    def admits(self, read: frozenset[int], written: int) -> bool:
        return self.written.isdisjoint(read) and written not in self.read and written not in self.written


def _touched(group: Sequence[Tensor]) -> tuple[frozenset[int], int]:
    return frozenset(_root(s) for t in group for s in t.src), _root(group[-1])


def _root(t: Tensor) -> int:
    return id(t if t.view_of is None else t.view_of)


def _chains(nodes: Sequence[Tensor], uses: Mapping[int, int]) -> list[Sequence[Tensor]]:
    groups: list[Sequence[Tensor]] = []
    i = 0
    while i < len(nodes):
        length = 1
        if nodes[i].op in ("ADD", "NORM", "RMS_NORM"):
            while length < _METAL_CHAIN and i + length < len(nodes) and _fuses(nodes, i + length, uses):
                length += 1
        groups.append(nodes[i : i + length])
        i += length
    return groups


def _fuses(nodes: Sequence[Tensor], i: int, uses: Mapping[int, int]) -> bool:
    """Whether node i can be computed with the one before it: its only user, of the same shape."""
    t, before = nodes[i], nodes[i - 1]
    if t.op not in _METAL_FUSED or uses.get(id(before), 0) != 1 or before.view_of is not None or before.is_output:
        return False
    return any(s is before for s in t.src[:2]) and t.ne == before.ne
