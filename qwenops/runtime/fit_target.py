"""The fit target: what llama-server keeps free on each device, beyond what the model needs.

Sources: llm/llama_server.go (mmprojFitTargetMiB, extraEnvsForStart), Ollama v0.32.14; common/common.h
(fit_params_target), common/arg.cpp (--fit-target, --fit), llama.cpp b10434.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qwenops.errors import BadInput
from qwenops.units import GIB, MIB

FIT_TARGET = "LLAMA_ARG_FIT_TARGET"
# llama.cpp's own margin per device, and what Ollama adds to a projector's weights.
DEFAULT_TARGET_BYTES = 1024 * MIB
PROJECTOR_HEADROOM_BYTES = 1 * GIB

_NUMBER = re.compile(r"^\s*\+?([0-9]+)")
_OFF = frozenset({"off", "disabled", "false", "0"})


def projector_requirement_bytes(projector_bytes: int) -> int:
    """The free memory that Ollama wants on every device before it puts a projector on the GPU."""
    return projector_bytes + PROJECTOR_HEADROOM_BYTES


def projector_fit_target_mib(projector_bytes: int) -> int:
    """The fit target, in whole MiB, that Ollama sets for a projector on the GPU: weights and 1 GiB, rounded up."""
    return -(-projector_requirement_bytes(projector_bytes) // MIB)


def fit_is_on(environment: Mapping[str, str]) -> bool:
    """Whether llama-server fits the model to free memory at all (LLAMA_ARG_FIT)."""
    return environment.get("LLAMA_ARG_FIT", "on") not in _OFF


def fit_target_bytes(projector_bytes: int, environment: Mapping[str, str], *, devices: int = 1) -> tuple[int, ...]:
    """What is kept free on each device, in bytes.

    LLAMA_ARG_FIT_TARGET in the server's environment rules over everything: one value is for all devices, a list
    ("1024,512", in MiB) is for the first ones, the rest keep 1024. Without it, `projector_bytes` above 0 (a projector
    that goes to the GPU) makes it the projector's weights and 1 GiB on every device. llama-server adds its own figure
    for the projector on top. Raises BadInput for a value with which llama-server does not start.
    """
    if not fit_is_on(environment):
        return (0,) * devices
    if FIT_TARGET in environment:
        return _parsed(environment[FIT_TARGET], devices)
    one = projector_fit_target_mib(projector_bytes) * MIB if projector_bytes else DEFAULT_TARGET_BYTES
    return (one,) * devices


def _parsed(text: str, devices: int) -> tuple[int, ...]:
    numbers = [_NUMBER.match(part) for part in re.split(r"[,/]+", text)]
    values = [int(n.group(1)) * MIB for n in numbers if n]
    if len(values) != len(numbers):
        raise BadInput(
            f"{FIT_TARGET}={text!r} is not a list of MiB: llama-server will not start with it",
            do=f"set {FIT_TARGET} to a number of MiB such as 256, or take it out of the server's environment",
        )
    if len(values) == 1:
        return tuple(values) * devices
    return tuple(values[i] if i < len(values) else DEFAULT_TARGET_BYTES for i in range(devices))
