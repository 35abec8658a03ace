"""ExLlama's caches to the byte: what a context takes at 16, 8, 6 or 4 bits, by the tensors that the sources make.

EXL2 (exllamav2 0.3.2, cache.py): keys and values lie as bytes, with an fp16 scale for every 32 values; 6 bits are 8 for
keys and 4 for values. A quantized cache keeps one layer in fp16 beside it, for the whole context, to attend over.

EXL3 (exllamav3 1.4.1, cache/quant.py): 32 values are `bits` words of 32 bits and an fp16 scale; keys and values have
from 2 to 8 bits of their own. Prefill expands one layer for the whole context into fp16 as well (EXL3_QC_STAGING=1, the
default; modules/attention_fn/triton_paged.py). Pages hold 256 tokens (constants.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qwenops.errors import BadInput
from qwenops.model.exl import Format
from qwenops.units import pad

PAGE_TOKENS = 256
_GROUP = 32
_HALF_BYTES = 2
_EXL2_BYTES = {8: (1.0, 1.0), 6: (1.0, 0.5), 4: (0.5, 0.5)}


@dataclass(frozen=True)
class CacheBits:
    """The bits of keys and values, 16 both for fp16. As text it is TabbyAPI's cache_mode."""

    keys: int
    values: int

    @property
    def quantized(self) -> bool:
        """Whether it is anything but fp16."""
        return self.keys != 16

    def __str__(self) -> str:
        return f"{self.keys}" if self.keys == self.values else f"{self.keys},{self.values}"


USUAL_BITS = (CacheBits(16, 16), CacheBits(8, 8), CacheBits(6, 6), CacheBits(4, 4))
"""What both generations have."""


def parse_bits(text: str, engine: Format) -> CacheBits:
    """Read "8" or "6,4". Raises BadInput for what the engine has not."""
    match = re.fullmatch(r"\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?", text)
    keys, values = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if (keys, values) == (16, 16):
        return CacheBits(16, 16)
    if engine == "exl2" and keys == values and keys in _EXL2_BYTES:
        return CacheBits(keys, values)
    if engine == "exl3" and 2 <= keys <= 8 and 2 <= values <= 8:
        return CacheBits(keys, values)
    has = "16, 8, 6 or 4 bits" if engine == "exl2" else "16 bits, or 2 to 8 for keys and values (8 or 6,4)"
    raise BadInput(f"--cache-bits {text!r}: {engine.upper()} has {has}", do="--cache-bits 8")


@dataclass(frozen=True)
class CacheShape:
    """What a cache is made for: the layers that keep one, and how wide a token is in it."""

    layers: int
    kv_heads: int
    head_dim: int

    @property
    def token_values(self) -> int:
        """The values of one token in one layer's keys; its values have as many."""
        return self.kv_heads * self.head_dim


def cache_tokens(num_ctx: int) -> int:
    """The context in whole pages."""
    return pad(num_ctx, PAGE_TOKENS)


def cache_bytes(engine: Format, shape: CacheShape, num_ctx: int, bits: CacheBits) -> int:
    """What the cache of a context takes in all layers."""
    tokens, width = cache_tokens(num_ctx), shape.token_values
    if not bits.quantized:
        return 2 * _HALF_BYTES * tokens * width * shape.layers
    if engine == "exl2":
        stored = sum(int(share * shape.head_dim) for share in _EXL2_BYTES[bits.keys]) * shape.kv_heads
        scales = 2 * _HALF_BYTES * shape.kv_heads * (shape.head_dim // _GROUP)
        return tokens * (stored + scales) * shape.layers
    groups = width // _GROUP
    return tokens * groups * (4 * (bits.keys + bits.values) + 2 * _HALF_BYTES) * shape.layers


def expanded_bytes(shape: CacheShape, num_ctx: int, bits: CacheBits) -> int:
    """The fp16 keys and values of one layer that a quantized cache is expanded into; 0 for fp16."""
    return 2 * _HALF_BYTES * cache_tokens(num_ctx) * shape.token_values if bits.quantized and shape.layers else 0
