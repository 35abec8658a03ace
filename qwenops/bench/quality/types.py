"""Value types of a quality run: what is read and how, and what one variant made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FlashAttention = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class QualitySettings:
    """How a text is read; the defaults are llama-perplexity's own.

    `ctx` is the length of a window in tokens, `chunks` how many windows are read. `batch` tokens are decoded at once:
    several windows where they are shorter. `threads` None means the physical cores, `gpu_layers` None all of them.
    """

    ctx: int = 512
    chunks: int = 32
    batch: int = 2048
    ubatch: int = 512
    threads: int | None = None
    flash_attn: FlashAttention = "auto"
    gpu_layers: int | None = None


@dataclass(frozen=True)
class Text:
    """A text to read: where it comes from, its words, and the SHA-256 of its bytes."""

    name: str
    content: str
    sha256: str
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """What a run over some windows says of a variant; errors are standard errors, rates shares of one.

    The divergences are None for the reference itself.
    """

    ppl: float
    ppl_error: float
    scored: int
    kld_mean: float | None = None
    kld_error: float | None = None
    kld_median: float | None = None
    kld_p99: float | None = None
    kld_max: float | None = None
    same_top: float | None = None
    same_top_error: float | None = None
    ppl_ratio: float | None = None
    ppl_ratio_error: float | None = None


@dataclass(frozen=True)
class Cell:
    """One variant under one KV type, measured; `seconds` are those of decoding and scoring, model load not counted.

    `here` is how many of its chunks this run has read; the others were kept from earlier ones. `samples` has for each
    chunk its perplexity and, beside a reference, its mean divergence and its share of same top tokens.
    """

    figures: Figures
    chunks: int
    here: int
    tokens: int
    seconds: float
    samples: Mapping[str, tuple[float, ...]]
    engine: Mapping[str, Any]
