"""Where each tensor of a model file lies, and how many bytes each backend must hold for them.

Rules of llama_model_loader::create_tensor (src/llama-model-loader.cpp, llama.cpp b10434): the embedding stays on the
host, a tied output head is a second copy on the output's device, a tensor whose operation the device cannot run (too
large for one of its buffers) stays on the host, blocks of a draft head are not loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.placement import Placement
from qwenops.memory.shape import Shape
from qwenops.memory.tensor import F32, I32
from qwenops.model.types import Header, Tensor
from qwenops.units import pad

_TEST_ROWS = 512  # the batch with which the loader asks whether a device can run a weight's operation
_EXPERTS = ("_exps.", "_chexps.")


@dataclass(frozen=True)
class Weights:
    """Tensors by their name in the graph (a tied head appears as output.weight) with their backend, and the sums.

    `mixes` says of each block which types its tensors have and where they lie, in a form that compares equal for blocks
    that are alike.
    """

    places: dict[str, tuple[Tensor, int]]
    bytes_by_backend: tuple[int, ...]
    mixes: tuple[frozenset[tuple[str, int, int]], ...]

    def find(self, name: str) -> tf.Tensor | None:
        """The weight of that name as a graph leaf, or None."""
        found = self.places.get(name)
        if found is None:
            return None
        t, place = found
        return tf.weight(t.type, t.shape, place)


def place_weights(header: Header, shape: Shape, placement: Placement, backends: Sequence[Backend]) -> Weights:
    """Give every tensor its backend. The last backend is the CPU."""
    places: dict[str, tuple[Tensor, int]] = {}
    for t in header.tensors:
        backend = _wanted(t.name, shape, placement)
        if backend is not None:
            places[t.name] = (t, _possible(t, t.name, backend, backends, shape))
    embedding = places.get("token_embd.weight")
    if "output.weight" not in places and embedding is not None:
        tied = embedding[0]
        places["output.weight"] = (tied, _possible(tied, "output.weight", placement.backends[-1], backends, shape))
    sums = [0] * len(backends)
    mixes: list[set[tuple[str, int, int]]] = [set() for _ in range(shape.layers)]
    for name, (t, backend) in places.items():
        if name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            mixes[int(layer)].add((rest, t.type, backend))
        if backend == placement.cpu and name == "output.weight" and embedding is not None and t is embedding[0]:
            continue  # on the host the tied head is the embedding itself
        sums[backend] += stored_bytes(t, backends[backend])
    return Weights(places, tuple(sums), tuple(frozenset(m) for m in mixes))


def stored_bytes(t: Tensor, backend: Backend) -> int:
    """Bytes of a weight in a backend's buffer, with what the backend adds to its last row and its alignment."""
    if backend.is_host:
        return t.size_bytes
    return pad(t.size_bytes + backend.row_padding_bytes(t.type, t.shape[0]), backend.alignment)


def _wanted(name: str, shape: Shape, placement: Placement) -> int | None:
    """The backend a tensor is meant for, None when it is not loaded."""
    if name.startswith("blk."):
        number, rest = name.split(".", 2)[1:]
        layer = int(number)
        if layer >= shape.trunk_layers and layer < shape.layers and shape.trunk_layers < shape.layers:
            return None
        if placement.overflow is not None and layer == placement.overflow[0]:
            return placement.cpu if rest.startswith(placement.overflow[1]) else placement.backends[layer]
        if layer in placement.host_experts and any(e in name for e in _EXPERTS):
            return placement.cpu
        return placement.backends[min(layer, len(placement.backends) - 1)]
    if name == "token_embd_norm.weight" and shape.architecture.startswith("lfm2"):
        return placement.backends[-1]  # the output norm under another name
    if name.startswith(("token_embd", "token_types", "position_embd", "per_layer_token_embd")):
        return placement.cpu
    if name.startswith(("rope_freqs", "rope_factors")):
        return placement.backends[0]
    if name.startswith(("v.", "mm.", "a.")):
        return None  # vision tensors inside the file belong to the projector
    return placement.backends[-1]


def _possible(t: Tensor, name: str, backend: int, backends: Sequence[Backend], shape: Shape) -> int:
    """The wanted backend, or the CPU where the device cannot run the weight's operation."""
    cpu, limit = len(backends) - 1, backends[backend].max_tensor_bytes
    columns = 4 * _TEST_ROWS * max(shape.experts_used, 3) * (max(t.shape) + _TEST_ROWS)
    if backend == cpu or max(t.size_bytes, columns) <= limit:
        return backend  # nothing in the trial could be too large
    return backend if backends[backend].supports(_trial(t, name, shape)) else cpu


def _trial(t: Tensor, name: str, shape: Shape) -> tf.Tensor:
    """The operation with which the loader tries a weight (weight_buft_supported)."""
    w = tf.leaf(t.type, *t.shape)
    if name.endswith(".bias") or len(t.shape) == 1:
        return tf.add(tf.leaf(F32, *t.shape), w)
    if "ssm_conv1d" in name:
        return tf.ssm_conv(tf.leaf(F32, w.ne[0] - 1 + _TEST_ROWS, w.ne[1], 3), w)
    if any(e in name for e in _EXPERTS):
        used = max(shape.experts_used, 1)
        return tf.mul_mat_id(w, tf.leaf(F32, w.ne[0], used, _TEST_ROWS), tf.leaf(I32, used, _TEST_ROWS))
    return tf.mul_mat(w, tf.leaf(F32, w.ne[0], _TEST_ROWS, w.ne[2], w.ne[3]))
