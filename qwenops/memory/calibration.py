"""Three small models of zeros to load and to learn from: what a device holds beyond the buffers of a load.

They are plain llama models in the three weight formats that people run most, from 7 to 72 MiB. A load allocates their
true buffers; on disk they are holes behind a header of some kilobytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwenops.errors import PartMissing
from qwenops.memory.ghost import ghost_folder, sweep
from qwenops.memory.types import LoadSettings
from qwenops.model.gguf_write import Row, write_sparse
from qwenops.units import human

_F32, _F16, _Q8_0, _Q4_K = 0, 1, 8, 12
_WIDTH, _FEED_FORWARD, _HEADS, _KV_HEADS, _HEAD = 512, 1536, 8, 2, 64
_VOCABULARY, _CONTEXT = 2048, 4096
SETTINGS = LoadSettings(num_ctx=2048, batch=512, ubatch=512)
"""Under what they are loaded."""


@dataclass(frozen=True)
class Sample:
    """One model to calibrate with: blocks of one weight format."""

    name: str
    layers: int
    weights: int
    file_type: int

    @property
    def size_bytes(self) -> int:
        """About as much as its weights take."""
        from qwenops.model.ggml_types import GGML_TYPES

        kind = GGML_TYPES[self.weights]
        return sum(_elements(row) for row in _tensors(self)) * kind.bytes // kind.block


SAMPLES = (
    Sample("calibration-q4_k", 4, _Q4_K, 15),
    Sample("calibration-q8_0", 8, _Q8_0, 7),
    Sample("calibration-f16", 12, _F16, 1),
)


@contextlib.contextmanager
def calibration_files(folder: Path) -> Iterator[tuple[Path, ...]]:
    """The samples as files while the context lasts, in the order of SAMPLES; nothing of them is left behind.

    Raises PartMissing where `folder` cannot hold sparse files or its disk is full, NotAllowed where it may not be
    written.
    """
    sweep(folder)
    with ghost_folder(folder) as home:
        try:
            files = tuple(write_sparse(home / f"{s.name}.gguf", _metadata(s), _tensors(s)) for s in SAMPLES)
        except OSError as error:
            size = human(sum(sample.size_bytes for sample in SAMPLES))
            raise PartMissing(
                f"sparse files of {size} cannot be made in {folder}: {error.strerror or error}", do=f"df -h {folder}"
            ) from None
        yield files


def _metadata(sample: Sample) -> dict[str, str | int | float | list[str] | list[int]]:
    return {
        "general.architecture": "llama",
        "general.name": sample.name,
        "general.file_type": sample.file_type,
        "llama.block_count": sample.layers,
        "llama.context_length": _CONTEXT,
        "llama.embedding_length": _WIDTH,
        "llama.feed_forward_length": _FEED_FORWARD,
        "llama.attention.head_count": _HEADS,
        "llama.attention.head_count_kv": _KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": _HEAD,
        "llama.vocab_size": _VOCABULARY,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(_VOCABULARY)],
        "tokenizer.ggml.token_type": [1] * _VOCABULARY,
        "tokenizer.ggml.merges": ["t 0"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    }


def _tensors(sample: Sample) -> list[Row]:
    weights, kv = sample.weights, _KV_HEADS * _HEAD
    rows: list[Row] = [
        ("token_embd.weight", (_WIDTH, _VOCABULARY), weights),
        ("output_norm.weight", (_WIDTH,), _F32),
        ("output.weight", (_WIDTH, _VOCABULARY), weights),
    ]
    for i in range(sample.layers):
        rows += [
            (f"blk.{i}.attn_norm.weight", (_WIDTH,), _F32),
            (f"blk.{i}.attn_q.weight", (_WIDTH, _WIDTH), weights),
            (f"blk.{i}.attn_k.weight", (_WIDTH, kv), weights),
            (f"blk.{i}.attn_v.weight", (_WIDTH, kv), weights),
            (f"blk.{i}.attn_output.weight", (_WIDTH, _WIDTH), weights),
            (f"blk.{i}.ffn_norm.weight", (_WIDTH,), _F32),
            (f"blk.{i}.ffn_gate.weight", (_WIDTH, _FEED_FORWARD), weights),
            (f"blk.{i}.ffn_up.weight", (_WIDTH, _FEED_FORWARD), weights),
            (f"blk.{i}.ffn_down.weight", (_FEED_FORWARD, _WIDTH), weights),
        ]
    return rows


def _elements(row: Row) -> int:
    import math

    return math.prod(row[1])
