"""What was measured of the models at hand, and what to type for what was not."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwenops.machine.types import Machine
from qwenops.model.types import Model
from qwenops.plan.measured import Measured
from qwenops.setup.given import Given

if TYPE_CHECKING:
    from qwenops.runtime.types import Runtime

_LIBRARY = "llama-cpp-python"
ROUNDS = 10
"""A difference between two variants can be claimed from 8 rounds on (plan/intervals.py)."""


def measured_of(models: Sequence[Model], machine: Machine, runtime: Runtime | None) -> Measured:
    """What the history has of exactly these files that counts on this machine under this runtime.

    A history that cannot be read is no reason against a plan: then nothing was measured.
    """
    from qwenops import history
    from qwenops.errors import QwenopsError
    from qwenops.plan.ground import ground
    from qwenops.plan.measured import Here, gather

    base = ground(machine, runtime)
    here = Here(base.devices, base.host, engines_in_use(runtime), described=machine.hypothetical)
    try:
        with history.open() as kept:
            return gather(kept, models, here, kv_type=base.kv_type)
    except QwenopsError:
        return Measured()


def engines_in_use(runtime: Runtime | None) -> dict[str, str]:
    """The builds that would measure now, by the engine's name as the history has it; those that are here."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"ollama": runtime.version or "", "llama-server": runtime.llama_server_build or ""} if runtime else {}
    with contextlib.suppress(PackageNotFoundError):
        found[_LIBRARY] = version(_LIBRARY)
    return {name: build for name, build in found.items() if build}


def to_measure(missing: Sequence[str], given: Sequence[Given], models: Sequence[Model]) -> list[str]:
    """The commands that would measure what is missing; none for models whose files are not here.

    Quality is held against the variant of most bits, which comes first.
    """
    if not missing or any(model.remote for model in models):
        return []
    files = shlex.join(str(one) for one in given)
    commands = {
        "speed": f"qwenops bench speed {files} --repetitions {ROUNDS}",
        "quality": f"qwenops bench quality --reference {shlex.quote(models[0].source)} {files}",
        "reading": f"qwenops bench ocr {files}",
        "vision": f"qwenops bench vision {files}",
    }
    return [commands[kind] for kind in missing]
