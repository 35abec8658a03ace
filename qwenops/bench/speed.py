"""One variant by itself, for scripts and tests: open it, run its tests some times, close it."""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.bench.engines import Engine
from qwenops.bench.engines.library import Library, physical_cores
from qwenops.bench.types import SpeedSettings, SpeedTest, Variant
from qwenops.model.types import Model

__all__ = ["measure", "physical_cores"]


def measure(
    model: Model,
    tests: Sequence[SpeedTest],
    settings: SpeedSettings,
    *,
    repetitions: int = 5,
    engine: Engine | None = None,
) -> dict[str, tuple[float, ...]]:
    """The samples of each test by its name, test after test as llama-bench runs them.

    Raises PartMissing without llama-cpp-python, BadInput when it refuses the model, ChildDied when it aborts.
    """
    session = (engine or Library()).open(Variant(model.quant, settings, model), tests)
    try:
        return {test.name: tuple(session.time(test).values[test.name] for _ in range(repetitions)) for test in tests}
    finally:
        session.close()
