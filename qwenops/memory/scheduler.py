"""Which backend runs which operation, and what must be copied between them.

A replay of ggml_backend_sched (ggml/src/ggml-backend.cpp, llama.cpp b10434): operations run where their weights lie,
large ones on host weights are taken over by the GPU, the rest follows its neighbours; where a source lies elsewhere a
copy of it is set aside at the start of the split. The result is an order of nodes that the allocator can walk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qwenops.memory.allocator import Recorder, Tape
from qwenops.memory.backends import ENDLESS, Backend
from qwenops.memory.cells import ANY_STEPS, steps_within
from qwenops.memory.reorder import reorder
from qwenops.memory.tensor import VIEW_OPS, Graph, Tensor

_SPLIT_INPUTS: Final = 30
PIPELINE_COPIES: Final = 4

# their small extra sources (factors, sinks) must not decide where they run
_NOT_BY_WEIGHT: Final = frozenset({"ROPE", "FLASH_ATTN_EXT"})


@dataclass
class _Split:
    backend: int
    start: int
    end: int = 0
    inputs: list[Tensor] = field(default_factory=list)


class Scheduler:
    """Assigns and splits one graph. The last backend is the CPU.

    `room` is how many inputs a split of a number can take before another one is begun. A split that got more at once
    has twice the room from then on, and the runtime plans its largest batch twice: hand the room of one to the next.
    `steps` are the steps of cells for which a graph is scheduled that was built for any number of them; `least_steps`
    and `most_steps` are those with which everything would have been decided alike.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        copies: int = 1,
        offload: bool = True,
        room: Mapping[int, int] | None = None,
        steps: int = 0,
    ) -> None:
        self.least_steps, self.most_steps = 0, ANY_STEPS
        self._steps = steps
        self.room = dict(room or {})
        self._backends = backends
        self._cpu = len(backends) - 1
        self._copies = copies
        self._offload = offload
        self._twins: dict[tuple[int, int], list[Tensor]] = {}
        self._shared_inputs: list[Tensor] = []
        self._copied_at: set[int] = set()  # numbers of nodes

    def peaks(self, graph: Graph) -> list[int]:
        """Compute buffer bytes of each backend for this graph, which is changed on the way."""
        return self.tape(graph).play(self._backends)

    def tape(self, graph: Graph) -> Tape:
        """What the graph takes and gives back in the buffers of the backends; the graph is changed on the way."""
        metal = any(b.kind == "metal" for b in self._backends)
        uses = Counter(id(s) for t in graph.nodes for s in t.src) if metal else Counter()
        self.assign(graph)
        splits = self._split(graph.nodes)
        leaves: list[Tensor] = []
        nodes: list[Tensor] = []
        for split in splits:
            part = graph.nodes[split.start : split.end]
            for source in split.inputs:
                dependency = Tensor(source.type, source.ne, "NONE", (source,), source.nb, source)
                dependency.backend = source.backend
                nodes.append(dependency)
                nodes.append(self._twins[id(source), split.backend][0])
            nodes.extend(reorder(part, self._backends[split.backend].kind, uses))
        if self._copies > 1:
            for source in self._shared_inputs:
                leaves.extend(self._twins[id(source), source.backend])
            for split in splits:
                for source in split.inputs:
                    leaves.extend(self._twins[id(source), split.backend])
        leaves.extend(graph.leaves)
        tape = Recorder(self._backends).record(leaves, nodes, graph.ends)
        return replace(tape, ahead=self._copying_blocks(graph)) if self._copies > 1 else tape

    def _copying_blocks(self, graph: Graph) -> frozenset[int]:
        """The numbers of the blocks that need copies of what lies elsewhere, which a pipeline takes ahead of all."""
        ends = {id(t): block for block, t in enumerate(graph.ends)}
        copying, block = set(), 0
        for i, t in enumerate(graph.nodes):
            if i in self._copied_at:
                copying.add(block)
            block = ends.get(id(t), block - 1) + 1
        return frozenset(copying)

    # --- where things run ---------------------------------------------------------------------------------------------

    def assign(self, graph: Graph) -> None:
        """Give every tensor its backend."""
        for t in graph.leaves:
            t.backend = t.place if t.place is not None else self._by_place(t)
        for t in graph.nodes:
            t.backend = t.pin if t.pin is not None else self._by_place(t)
        work = [t for t in graph.nodes if t.op not in VIEW_OPS]
        self._spread(work, skip_cpu=True)
        self._spread(reversed(work), skip_cpu=True)
        self._spread(work, skip_cpu=False)
        self._spread(reversed(work), skip_cpu=False)
        for t in work:
            if t.backend < 0:
                t.backend = self._most_sources(t)
        for t in graph.nodes:
            if t.view_of is not None and t.backend < 0:
                t.backend = t.view_of.backend
            for s in t.src:
                if s.backend < 0:
                    s.backend = s.view_of.backend if s.view_of is not None else t.backend
            if t.backend < 0:
                t.backend = next(b for b in range(self._cpu + 1) if self._supports(b, t))

    def _supports(self, backend: int, t: Tensor) -> bool:
        which = self._backends[backend]
        if which.max_tensor_bytes < ENDLESS and not self._small_enough(t, which.max_tensor_bytes):
            return False
        return which.computes(t)

    def _small_enough(self, t: Tensor, limit: int) -> bool:
        for size in (t.size, *(s.size for s in t.src)):
            if size <= limit:
                continue
            most = steps_within(size, limit)
            if self._steps > most:
                self.least_steps = max(self.least_steps, most + 1)
                return False
            self.most_steps = min(self.most_steps, most)
        return True

    def _by_place(self, t: Tensor) -> int:
        held = t if t.view_of is None else t.view_of
        if held.place is not None:
            # where its buffer is, if that backend can compute it; a buffer on the host is for the CPU alone
            return held.place
        if t.is_input:
            return self._cpu
        if t.op in _NOT_BY_WEIGHT:
            return -1
        for s in t.src:
            if s.is_weight and s.place is not None:
                return self._by_weight(t, s.place)
        return -1

    def _by_weight(self, t: Tensor, place: int) -> int:
        if place != self._cpu:
            return place if self._supports(place, t) else -1
        if self._offload:
            for b in range(self._cpu):
                if self._supports(b, t) and self._backends[b].takes_over(t):
                    return b
        return place

    def _spread(self, work: Iterable[Tensor], *, skip_cpu: bool) -> None:
        current, skipped = -1, self._cpu if skip_cpu else -1
        for t in work:
            if t.backend >= 0:
                current = -1 if t.backend == skipped else t.backend
            elif current >= 0 and (current == self._cpu or self._supports(current, t)):
                t.backend = current

    def _most_sources(self, t: Tensor) -> int:
        best, most = -1, -1
        for b in range(self._cpu + 1):
            if not self._supports(b, t):
                continue
            near = sum(1 for s in t.src if self._known(s) and self._reaches(s, b))
            if near > most:
                best, most = b, near
        return best

    @staticmethod
    def _known(s: Tensor) -> bool:
        return s.backend >= 0 or (s.view_of is not None and s.view_of.backend >= 0)

    def _reaches(self, s: Tensor, backend: int) -> bool:
        """Whether a backend can read the buffer that holds, or will hold, a tensor."""
        held = s if s.view_of is None else s.view_of
        if held.place is not None:
            return held.place == backend
        where = s.backend if s.backend >= 0 else held.backend
        return where == backend

    # --- what is copied -----------------------------------------------------------------------------------------------

    def _split(self, nodes: Sequence[Tensor]) -> list[_Split]:
        first = next(t for t in nodes if t.op not in VIEW_OPS)
        current = _Split(first.backend, 0)
        splits = [current]
        for i in range(nodes.index(first), len(nodes)):
            t = nodes[i]
            if t.op in VIEW_OPS:
                continue
            backend, alone = t.backend, self._copies == 1
            for s in t.src:
                if s.backend != backend:
                    alone = False
                    break
            if alone and backend == current.backend:
                continue  # it reads nothing from elsewhere
            room = self.room.get(len(splits) - 1, _SPLIT_INPUTS)
            if backend != current.backend or (current.inputs and self._must_break(t, current, room)):
                current.end = i
                current = _Split(backend, i)
                splits.append(current)
                room = self.room.get(len(splits) - 1, _SPLIT_INPUTS)
            known = len(self._twins)
            self._collect_inputs(t, current)
            if len(self._twins) > known:
                self._copied_at.add(i)
            if len(current.inputs) > room:
                self.room[len(splits) - 1] = 2 * room
        current.end = len(nodes)
        return splits

    def _must_break(self, t: Tensor, split: _Split, room: int) -> bool:
        # a new split for every host weight lets the copy of the last one go
        full = len(split.inputs) >= room
        for s in t.src:
            if s.backend == split.backend or not (s.is_weight or full) or self._reaches(s, split.backend):
                continue
            if s.is_weight or (id(s), split.backend) not in self._twins:
                return True
        return False

    def _collect_inputs(self, t: Tensor, split: _Split) -> None:
        backend = split.backend
        for j, s in enumerate(t.src):
            if s.is_input and self._copies > 1:
                self._share_input(s)
            if s.backend == backend or self._reaches(s, backend):
                continue
            key = (id(s), backend)
            if key not in self._twins:
                self._twins[key] = [self._twin(s, backend) for _ in range(self._copies)]
                split.inputs.append(s)
            t.src[j] = self._twins[key][0]

    def _share_input(self, s: Tensor) -> None:
        key = (id(s), s.backend)
        if key in self._twins:
            return
        self._twins[key] = [s, *(self._twin(s, s.backend) for _ in range(self._copies - 1))]
        s.is_output = True
        self._shared_inputs.append(s)

    def _twin(self, s: Tensor, backend: int) -> Tensor:
        twin = Tensor(s.type, s.ne, "NONE", (), s.nb)
        twin.backend = backend
        twin.name = s.name
        if self._copies > 1:
            twin.is_input = twin.is_output = True
        return twin
