"""Value types of a speed benchmark: what to run, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from qwenops.memory.types import KVType


@dataclass(frozen=True)
class SpeedTest:
    """One test, named as llama-bench names it: pp512, tg128, tg128 @ d4096.

    Prompt tests decode `prompt` random tokens, generation tests `generate` tokens one by one, both behind `depth`
    tokens that are already in the cache and are not timed.
    """

    prompt: int
    generate: int
    depth: int = 0

    @property
    def name(self) -> str:
        """The test's name."""
        base = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        return f"{base} @ d{self.depth}" if self.depth else base


@dataclass(frozen=True)
class SpeedSettings:
    """How every test is run; the defaults are llama-bench's own, so that the figures can be compared.

    `threads` None means the physical cores, `gpu_layers` None all layers where the library has a GPU backend.
    """

    repetitions: int = 5
    threads: int | None = None
    batch: int = 2048
    ubatch: int = 512
    kv_type: KVType = "f16"
    flash_attn: Literal["auto", "on", "off"] = "auto"
    gpu_layers: int | None = None


@dataclass(frozen=True)
class Speed:
    """The result of one test: tokens per second over the repetitions, and the raw samples."""

    test: SpeedTest
    samples: tuple[float, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values: mean, sd, median, spread, samples."""
        from qwenops.bench.stats import summary

        return {"test": self.test.name, **asdict(self.test), "tokens_per_second": summary(self.samples)}


@dataclass(frozen=True)
class ModelSpeed:
    """Everything one model's child measured. Times in seconds, sizes in bytes."""

    model: str
    model_key: str
    file: str
    quant: str
    file_bytes: int
    speeds: tuple[Speed, ...]
    load_seconds: float
    first_token_seconds: tuple[float, ...]
    first_token_prompt: int
    peak_host_bytes: int
    peak_device_bytes: int | None
    engine: Mapping[str, Any]
