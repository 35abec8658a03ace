"""A child of `bench speed` that is slower than it should be by a known share: it waits, busy, after every decode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenops import llama_library
from qwenops.bench import child
from qwenops.bench.engines import EngineName, Session
from qwenops.bench.engines.library import Library
from qwenops.bench.types import SpeedTest, Timing, Variant

Emit = Callable[..., None]
time_test = child.time_test


@dataclass(frozen=True)
class Slowed:
    """llama-cpp-python, with the variants of these labels slowed by these shares."""

    library: Library
    shares: Mapping[str, float]
    name: EngineName = "llama-cpp-python"
    can_stay: bool = True

    def cannot(self, variant: Variant, test: SpeedTest) -> str:
        """As the library."""
        return self.library.cannot(variant, test)

    def open(self, variant: Variant, tests: Sequence[SpeedTest]) -> Session:
        """In a child of this module where the variant is to be slow."""
        share = self.shares.get(variant.label, 0.0)
        if not share:
            return self.library.open(variant, tests)
        return Library(child=f"{__name__}", environment={"SLOWED_BY": str(share)}).open(variant, tests)

    def time_load(self, variant: Variant, test: SpeedTest) -> Timing:
        """As the library."""
        return self.library.time_load(variant, test)


def open_model(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Load as ever, then make every decode take its share longer: speed * (1 - share)."""
    import os

    share = float(os.environ["SLOWED_BY"])
    answer = child.open_model(request, emit)
    lib = llama_library.load()
    decode, synchronize = lib.llama_decode, lib.llama_synchronize

    def slow_decode(context: Any, batch: Any) -> int:
        started = time.perf_counter()
        code: int = decode(context, batch)
        synchronize(context)
        until = time.perf_counter() + (time.perf_counter() - started) * share / (1 - share)
        while time.perf_counter() < until:
            pass
        return code

    lib.llama_decode = slow_decode
    return answer
