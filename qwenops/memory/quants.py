"""Block and byte sizes by ggml type number, in the form the graph replay reads them thousands of times."""

from __future__ import annotations

from typing import Final

from qwenops.memory.types import KVType
from qwenops.model.ggml_types import GGML_TYPES

BLOCK: Final[dict[int, int]] = {number: t.block for number, t in GGML_TYPES.items()}
TYPE_BYTES: Final[dict[int, int]] = {number: t.bytes for number, t in GGML_TYPES.items()}
_NUMBER: Final[dict[str, int]] = {t.name.lower(): number for number, t in GGML_TYPES.items()}


def kv_type_number(kv_type: KVType) -> int:
    """ggml's number of a cache type."""
    return _NUMBER[kv_type]


def is_quantized(type_: int) -> bool:
    """Whether numbers of this type come in blocks."""
    return BLOCK[type_] > 1
