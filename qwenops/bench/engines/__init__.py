"""Who runs a model that is measured: llama-cpp-python, Ollama through its API, or its llama-server.

An engine opens a variant, which gives a session; a session times one repetition of one test at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from qwenops.bench.types import SpeedTest, Timing, Variant

EngineName = Literal["llama-cpp-python", "ollama", "llama-server"]
ENGINES: tuple[EngineName, ...] = ("llama-cpp-python", "ollama", "llama-server")


class Session(Protocol):
    """A loaded variant. `info` names the engine, its version, the devices and the threads in use."""

    @property
    def load_seconds(self) -> float:
        """How long the weights took."""
        ...

    @property
    def idle_host_bytes(self) -> int:
        """What its processes held of the host's memory before the model."""
        ...

    @property
    def info(self) -> Mapping[str, Any]:
        """The engine as it is kept with every result."""
        ...

    def processes(self) -> frozenset[int]:
        """The processes that hold the model, as far as they can be seen."""
        ...

    def time(self, test: SpeedTest) -> Timing:
        """One repetition of a test. Raises a QwenopsError; after ChildDied or ServerDown the session is over."""
        ...

    def close(self) -> None:
        """Take the model out of memory."""
        ...


class Engine(Protocol):
    """One way to run models."""

    @property
    def name(self) -> EngineName:
        """Its name, as it is asked for and kept."""
        ...

    @property
    def can_stay(self) -> bool:
        """Whether several variants can be loaded at once."""
        ...

    def cannot(self, variant: Variant, test: SpeedTest) -> str:
        """Why this engine cannot run this test; an empty string where it can."""
        ...

    def open(self, variant: Variant, tests: Sequence[SpeedTest]) -> Session:
        """Load a variant and warm it up for these tests."""
        ...

    def time_load(self, variant: Variant, test: SpeedTest) -> Timing:
        """The seconds that one cold or warm load takes."""
        ...
