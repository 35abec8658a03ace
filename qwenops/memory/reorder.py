"""How a GPU backend reorders a split before it is allocated, since the order decides what is alive together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qwenops.machine.types import Kind
from qwenops.memory.tensor import Tensor

_EMPTY: Final = frozenset({"NONE", "RESHAPE", "TRANSPOSE", "VIEW", "PERMUTE"})
_LOOK_AHEAD: Final = 20

# chains that Vulkan fuses and therefore leaves together, by their operations
_KEPT: Final = (
    ("SOFT_MAX", "RESHAPE", "ARGSORT", "VIEW", "GET_ROWS", "RESHAPE", "SUM_ROWS", "CLAMP", "DIV", "RESHAPE"),
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


def reorder(nodes: Sequence[Tensor], kind: Kind) -> Sequence[Tensor]:
    """The order in which this kind of backend runs a split."""
    if kind == "vulkan":
        return _Vulkan(nodes).order()
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
