"""Where each tensor of a model file lies, and how many bytes each backend must hold for them.

Rules of llama_model_loader::create_tensor (src/llama-model-loader.cpp, llama.cpp b10434): the embedding stays on the
host, a tied output head is a second copy on the output's device, a tensor whose operation the device cannot run (too
large for one of its buffers) stays on the host, blocks of a draft head are not loaded.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.placement import Placement
from qwenops.memory.remember import ByIdentity
from qwenops.memory.shape import HEADLESS, Shape
from qwenops.memory.tensor import F32, I32
from qwenops.memory.trials import own_trial
from qwenops.model.types import Header, Tensor
from qwenops.units import pad

_TEST_ROWS = 512  # the batch with which the loader asks whether a device can run a weight's operation
_EXPERTS = ("_exps.", "_chexps.")
_NONE_LEAVE: tuple[tuple[str, ...], int] = ((), -1)
_VISION = ("v.", "mm.", "a.")  # vision tensors inside the file belong to the projector


@dataclass(frozen=True)
class Weights:
    """Where the tensors lie, and the sums.

    `ends` is what belongs to no block, a tied head as output.weight, `blocks` the rest by block. `kinds` are numbers,
    one for the ends and one a block, that are equal where tensors have the same names, shapes, types and backends.
    `forms` are the same without the types of matrices, of which they know only which devices they are too large for.
    """

    ends: _Share
    blocks: Mapping[int, _Share]
    bytes_by_backend: tuple[int, ...]
    kinds: tuple[int, ...]
    forms: tuple[int, ...]

    def find(self, name: str) -> tf.Tensor | None:
        """The weight of that name as a graph leaf, or None."""
        found = self.placed(name)
        if found is None:
            return None
        t, place = found
        return tf.weight(t.type, t.shape, place, name)

    def placed(self, name: str) -> tuple[Tensor, int] | None:
        """The tensor of that name, or one of a block that is alike, and its backend."""
        if not name.startswith("blk."):
            return self.ends.places.get(name)
        _, layer, rest = name.split(".", 2)
        block = self.blocks.get(int(layer))
        return None if block is None else block.places.get(rest)

    def each(self) -> Iterator[tuple[Tensor, int]]:
        """Every tensor with its backend."""
        for share in (self.ends, *self.blocks.values()):
            yield from share.places.values()


def place_weights(header: Header, shape: Shape, placement: Placement, backends: Sequence[Backend]) -> Weights:
    """Give every tensor its backend. The last backend is the CPU."""
    shares = _shares(header).on(shape, tuple(backends))
    ends, blocks = shares.ends(placement.backends[0], placement.backends[-1]), shares.of_blocks(placement)
    kinds, forms = [0] * (shape.layers + 1), [0] * (shape.layers + 1)
    kinds[0], forms[0] = ends.kind, ends.form
    for layer, share in blocks.items():
        kinds[layer + 1], forms[layer + 1] = share.kind, share.form
    sums = tuple(map(sum, zip(ends.sums, *[share.sums for share in blocks.values()], strict=True)))
    return Weights(ends, blocks, sums, tuple(kinds), tuple(forms))


@dataclass(frozen=True)
class _Share:
    """Some of a file's tensors with their backends, the sums, and the numbers of what is alike.

    `places` has the tensors by their names, those of a block by what follows its number.
    """

    places: dict[str, tuple[Tensor, int]]
    sums: tuple[int, ...]
    kind: int
    form: int


class _Shares:
    """The shares of one file on one set of backends, made as they are asked for.

    A block's share is the same wherever the others lie, and blocks of the same tensors have one together.
    """

    def __init__(self, file: _Grouped, shape: Shape, backends: Sequence[Backend]) -> None:
        self._file = file
        self._shape = shape
        self._backends = backends
        self._cpu = len(backends) - 1
        self._made: dict[tuple[int, int, tuple[str, ...], int], _Share] = {}
        self._ends_made: dict[tuple[int, int], _Share] = {}
        self._nothing = self._share({}, [0] * len(backends))

    def of_blocks(self, placement: Placement) -> dict[int, _Share]:
        """The tensors of every block."""
        where, made, cpu, last = placement.backends, self._made, self._cpu, len(placement.backends) - 1
        leaving: dict[int, tuple[tuple[str, ...], int]] = dict.fromkeys(placement.host_experts, (_EXPERTS, cpu))
        leaving |= {over.block: (over.prefixes, over.backend) for over in placement.overflows}
        heads = () if placement.draft_head else range(self._shape.trunk_layers, self._shape.layers)
        shares = {}
        for layer, like in self._file.alike.items():
            if layer in heads:
                shares[layer] = self._nothing
                continue
            key = (like, where[min(layer, last)], *leaving.get(layer, _NONE_LEAVE))
            share = made.get(key)
            if share is None:
                share = made[key] = self._made_block(*key)
            shares[layer] = share
        return shares

    def ends(self, first: int, last: int) -> _Share:
        """What belongs to no block: the embedding, the head, the frequency factors."""
        found = self._ends_made.get((first, last))
        if found is None:
            found = self._ends_made[first, last] = self._made_ends(first, last)
        return found

    def _made_block(self, layer: int, backend: int, leaving: tuple[str, ...], there: int) -> _Share:
        sums = [0] * len(self._backends)
        places: dict[str, tuple[Tensor, int]] = {}
        for name, t in self._file.blocks[layer].items():
            leaves = any(e in name for e in _EXPERTS) if leaving is _EXPERTS else name.startswith(leaving)
            where = _possible(t, t.name, there if leaves else backend, self._backends, self._shape)
            places[name] = (t, where)
            sums[where] += stored_bytes(t, self._backends[where])
        return self._share(places, sums)

    def _made_ends(self, first: int, last: int) -> _Share:
        backends, cpu = self._backends, self._cpu
        sums = [0] * len(backends)
        places: dict[str, tuple[Tensor, int]] = {}
        for t in self._file.ends:
            places[t.name] = (t, _possible(t, t.name, self._end_wanted(t.name, first, last), backends, self._shape))
        embedding = places.get("token_embd.weight")
        if "output.weight" not in places and embedding is not None and self._shape.architecture not in HEADLESS:
            tied = embedding[0]
            places["output.weight"] = (tied, _possible(tied, "output.weight", last, backends, self._shape))
        for name, (t, backend) in places.items():
            if backend == cpu and name == "output.weight" and embedding is not None and t is embedding[0]:
                continue  # on the host the tied head is the embedding itself
            sums[backend] += stored_bytes(t, backends[backend])
        return self._share(places, sums)

    def _share(self, places: dict[str, tuple[Tensor, int]], sums: Sequence[int]) -> _Share:
        rows = [(name, t.shape, t.type, where) for name, (t, where) in places.items()]
        form = [
            (name, t.shape, t.type if len(t.shape) == 1 else self._too_large_for(t), where)
            for name, (t, where) in places.items()
        ]
        return _Share(places, tuple(sums), _number_of(frozenset(rows)), _number_of(frozenset(form)))

    def _too_large_for(self, t: Tensor) -> tuple[bool, ...]:
        """For each backend, whether it refuses to compute with a tensor of this size."""
        return tuple(t.size_bytes > b.max_tensor_bytes for b in self._backends)

    def _end_wanted(self, name: str, first: int, last: int) -> int:
        """The backend a tensor outside the blocks is meant for, by those of the first block and of the output."""
        if name.startswith("token_embd_norm."):
            # of the first block; in LFM2 it is the output norm under another name
            return last if self._shape.architecture.startswith("lfm2") else first
        if name.startswith(("token_embd", "token_types", "position_embd", "per_layer_token_embd")):
            return self._cpu
        return first if name.startswith(("rope_freqs", "rope_factors", "per_layer_")) else last


class _Grouped:
    """The tensors of one file by block, and its shares on the backends it was asked about.

    `blocks` has the tensors of a block by what follows its number in their names; `alike` gives for every block the
    first one with the same names, shapes and types. `ends` is what belongs to no block.
    """

    def __init__(self, header: Header) -> None:
        self.blocks: dict[int, dict[str, Tensor]] = {}
        self.ends: list[Tensor] = []
        for t in header.tensors:
            if t.name.startswith("blk."):
                _, layer, name = t.name.split(".", 2)
                self.blocks.setdefault(int(layer), {})[name] = t
            elif not t.name.startswith(_VISION):
                self.ends.append(t)
        first: dict[Hashable, int] = {}
        self.alike = {
            layer: first.setdefault(frozenset((name, t.shape, t.type) for name, t in block.items()), layer)
            for layer, block in self.blocks.items()
        }
        self._shares: dict[tuple[Shape, tuple[Backend, ...]], _Shares] = {}

    def on(self, shape: Shape, backends: tuple[Backend, ...]) -> _Shares:
        """The shares of the file on these backends."""
        key = (shape, backends)
        found = self._shares.get(key)
        if found is None:
            found = self._shares[key] = _Shares(self, shape, backends)
        return found


_shares = ByIdentity(_Grouped)
_numbers: dict[Hashable, int] = {}


def _number_of(kind: Hashable) -> int:
    """The same small number for what is equal: quick to compare and to hash."""
    return _numbers.setdefault(kind, len(_numbers) + 1)


def stored_bytes(t: Tensor, backend: Backend) -> int:
    """Bytes of a weight in a backend's buffer, with what the backend adds to its last row and its alignment."""
    if backend.is_host:
        return t.size_bytes
    return pad(t.size_bytes + backend.row_padding_bytes(t.type, t.shape[0]), backend.alignment)


def _possible(t: Tensor, name: str, backend: int, backends: Sequence[Backend], shape: Shape) -> int:
    """The wanted backend, or the CPU where the device cannot run the weight's operation."""
    cpu, limit = len(backends) - 1, backends[backend].max_tensor_bytes
    if backend == cpu:
        return backend
    trial = own_trial(t, name, shape)
    if trial is not None:
        return backend if backends[backend].supports(trial) else cpu
    columns = 4 * _TEST_ROWS * max(shape.experts_used, 3) * (max(t.shape) + _TEST_ROWS)
    if max(t.size_bytes, columns) <= limit:
        return backend  # nothing in the trial could be too large
    return backend if backends[backend].supports(_trial(t, name, shape)) else cpu


def _trial(t: Tensor, name: str, shape: Shape) -> tf.Tensor:
    """The operation with which the loader tries a weight (weight_buft_supported)."""
    w = tf.leaf(t.type, *t.shape)
    if name.endswith(".bias") or len(t.shape) == 1:
        return tf.add(tf.leaf(F32, *t.shape), w)
    if any(e in name for e in _EXPERTS):
        used = max(shape.experts_used, 1)
        return tf.mul_mat_id(w, tf.leaf(F32, w.ne[0], used, _TEST_ROWS), tf.leaf(I32, used, _TEST_ROWS))
    return tf.mul_mat(w, tf.leaf(F32, w.ne[0], _TEST_ROWS, w.ne[2], w.ne[3]))
