"""Value types of a speed benchmark: what is measured under which settings, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from qwenops.memory.types import KVType
from qwenops.model.types import Model

TestKind = Literal["prompt", "generate", "image", "load cold", "load warm"]
Status = Literal["ok", "failed", "stopped", "cannot"]
SECONDS, RATE = "s", "t/s"


@dataclass(frozen=True)
class SpeedTest:
    """One test, named as llama-bench names it: pp512, tg128, tg128 @ d4096.

    Prompt tests decode `prompt` random tokens, generation tests `generate` tokens one by one, both behind `depth`
    tokens that are already in the cache and are not timed. An image test encodes a made picture of `image` pixels and
    decodes its tokens. A `load` test reads the weights, "cold" after the page cache has let go of the file.
    """

    prompt: int
    generate: int
    depth: int = 0
    image: tuple[int, int] | None = None
    load: Literal["", "cold", "warm"] = ""

    @property
    def name(self) -> str:
        """The test's name."""
        if self.load:
            return f"load {self.load}"
        if self.image:
            return f"encode {self.image[0]}x{self.image[1]}"
        base = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        return f"{base} @ d{self.depth}" if self.depth else base

    @property
    def unit(self) -> str:
        """What its own samples are counted in: tokens per second, or seconds."""
        return SECONDS if self.load or self.image else RATE

    @property
    def tokens(self) -> int:
        """How many tokens are timed, where it says so itself."""
        return self.prompt or self.generate

    @property
    def context(self) -> int:
        """How long a context it needs; an image's tokens come on top."""
        return self.prompt + self.generate + self.depth


@dataclass(frozen=True)
class SpeedSettings:
    """How every test is run; the defaults are llama-bench's own, so that the figures can be compared.

    `threads` None means the physical cores, `gpu_layers` None all layers where the library has a GPU backend.
    """

    threads: int | None = None
    batch: int = 2048
    ubatch: int = 512
    kv_type: KVType = "f16"
    flash_attn: Literal["auto", "on", "off"] = "auto"
    gpu_layers: int | None = None


@dataclass(frozen=True)
class Variant:
    """A model under settings, by a name that tells it from the others of its run ("Q4_K_M ub256").

    `registered` is its name in Ollama, where that is what runs it. `model` may then be unknown.
    """

    label: str
    settings: SpeedSettings
    model: Model | None = None
    registered: str = ""

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.model.name if self.model else self.registered

    @property
    def quant(self) -> str:
        """The quant, where the model's file is known."""
        return self.model.quant if self.model else ""


@dataclass(frozen=True)
class Timing:
    """One repetition: the value of each series that it adds to (its own test first), and when it was timed.

    `began` and `ended` are of time.monotonic, which all processes of a machine share; `tokens` were done between them.
    """

    values: Mapping[str, float]
    began: float
    ended: float
    tokens: int
    major_faults: int = 0


@dataclass
class Cell:
    """One variant in one test: its series of samples by name, each value of a round in its place.

    `rounds` has for each round the value of its own series that is compared with other variants' (a median where a
    round has several repetitions). `reason` says why a cell failed or cannot be.
    """

    variant: int
    test: SpeedTest
    status: Status = "ok"
    reason: str = ""
    do: tuple[str, ...] = ()
    series: dict[str, list[float]] = field(default_factory=dict)
    rounds: dict[int, float] = field(default_factory=dict)
    tokens: int = 0

    @property
    def samples(self) -> list[float]:
        """The samples of the test itself."""
        return self.series.get(self.test.name, [])

    def add(self, round_: int, timings: list[Timing]) -> None:
        """Take in the repetitions of one round."""
        import statistics

        for timing in timings:
            for name, value in timing.values.items():
                self.series.setdefault(name, []).append(value)
            self.tokens += timing.tokens
        self.rounds[round_] = statistics.median(timing.values[self.test.name] for timing in timings)


def unit_of(series: str) -> str:
    """What the samples of a series are counted in, by its name."""
    return SECONDS if series.startswith(("first-token", "load", "encode")) else RATE


def settings_data(settings: SpeedSettings) -> dict[str, Any]:
    """Plain JSON values."""
    return asdict(settings)
