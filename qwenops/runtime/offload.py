"""What the server's environment says about where weights go: llama-server inherits it, and Ollama has no word for it.

Source: common/arg.cpp of llama.cpp b10434 (the options with an environment variable, common_params_parse); Ollama
0.32.14 passes only --n-gpu-layers, --split-mode none and --main-gpu itself, which win over the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qwenops.errors import BadInput

N_CPU_MOE, CPU_MOE = "LLAMA_ARG_N_CPU_MOE", "LLAMA_ARG_CPU_MOE"
TENSOR_SPLIT, SPLIT_MODE, MAIN_GPU = "LLAMA_ARG_TENSOR_SPLIT", "LLAMA_ARG_SPLIT_MODE", "LLAMA_ARG_MAIN_GPU"
KV_UNIFIED, NO_KV_UNIFIED = "LLAMA_ARG_KV_UNIFIED", "LLAMA_ARG_NO_KV_UNIFIED"
# What the variables here stand for is said by flags when a load is asked about: these must not say it again.
SAID_BY_FLAGS = (N_CPU_MOE, CPU_MOE, TENSOR_SPLIT, SPLIT_MODE, MAIN_GPU, KV_UNIFIED, NO_KV_UNIFIED)
# They move weights or caches as well, and only the runtime itself knows how.
_NOT_FOLLOWED = (
    "LLAMA_ARG_OVERRIDE_TENSOR",
    "LLAMA_ARG_DEVICE",
    "LLAMA_ARG_N_GPU_LAYERS",
    "LLAMA_ARG_KV_OFFLOAD",
    "LLAMA_ARG_NO_KV_OFFLOAD",
    "LLAMA_ARG_SWA_FULL",
    "LLAMA_ARG_NO_HOST",
)
_TRUTHY = frozenset({"on", "enabled", "true", "1"})
_FALSY = frozenset({"off", "disabled", "false", "0"})
_INTEGER = re.compile(r"\s*([+-]?\d+)")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


@dataclass(frozen=True)
class Offload:
    """Where weights go beyond the number of layers.

    `n_cpu_moe` is of how many first blocks the experts stay on the host. `tensor_split` are the devices' shares of the
    layers, in any unit; none means by free memory. `main_gpu` is the one device that is used, None where layers are
    split over all. `kv_unified` is whether sequences share one cache. `not_followed` are variables that move memory
    too, and whose effect only the runtime knows.
    """

    n_cpu_moe: int | Literal["all"] = 0
    tensor_split: tuple[float, ...] = ()
    main_gpu: int | None = None
    kv_unified: bool = False
    not_followed: tuple[str, ...] = ()


def offload_in_force(environment: Mapping[str, str]) -> Offload:
    """What a server with this environment gives every model. Raises BadInput for what llama-server refuses."""
    alone = environment.get(SPLIT_MODE, "") == "none"
    other_modes = (SPLIT_MODE,) if environment.get(SPLIT_MODE, "layer") not in ("none", "layer") else ()
    return Offload(
        n_cpu_moe=_experts_on_host(environment),
        tensor_split=parse_split(environment[TENSOR_SPLIT], TENSOR_SPLIT) if TENSOR_SPLIT in environment else (),
        main_gpu=_integer(environment, MAIN_GPU) if alone else None,
        kv_unified=_one_cache(environment),
        not_followed=(
            *other_modes,
            *(name for name in environment if name in _NOT_FOLLOWED or name.startswith("LLAMA_ARG_SPEC_")),
        ),
    )


def offload_flags(n_cpu_moe: int | Literal["all"], tensor_split: Sequence[float]) -> list[str]:
    """The same as flags of llama-server; the single device is Ollama's own to say."""
    flags = []
    if n_cpu_moe == "all":
        flags += ["--cpu-moe"]
    elif n_cpu_moe:
        flags += ["--n-cpu-moe", str(n_cpu_moe)]
    if tensor_split:
        flags += ["--tensor-split", ",".join(f"{share:g}" for share in tensor_split)]
    return flags


def parse_split(text: str, name: str) -> tuple[float, ...]:
    """Shares of devices as llama-server reads them: numbers between commas or slashes, none below 0."""
    shares = [_NUMBER.match(part) for part in re.split(r"[,/]+", text)]
    values = tuple(float(share[1]) for share in shares if share)
    if len(values) != len(shares) or min(values) < 0:
        raise BadInput(f"{name} {text!r} is not a list of the devices' shares", do=f"{name} 3,1 for three quarters")
    return values if any(values) else ()


def _one_cache(environment: Mapping[str, str]) -> bool:
    """Whether sequences share a cache; the variable that denies it wins, whatever it says."""
    said = environment.get(KV_UNIFIED)
    if NO_KV_UNIFIED in environment or said is None:
        return False
    if said not in _TRUTHY | _FALSY:
        raise BadInput(
            f"{KV_UNIFIED}={said!r} is neither on nor off: llama-server does not start with it",
            do=f"give {KV_UNIFIED} 1 or 0 in the server's environment",
        )
    return said in _TRUTHY


def _experts_on_host(environment: Mapping[str, str]) -> int | Literal["all"]:
    if environment.get(CPU_MOE, "") in _TRUTHY:
        return "all"
    blocks = _integer(environment, N_CPU_MOE)
    if blocks < 0:
        raise BadInput(
            f"{N_CPU_MOE}={environment[N_CPU_MOE]}: llama-server does not start with a number below 0",
            do=f"take {N_CPU_MOE} out of the server's environment",
        )
    return blocks


def _integer(environment: Mapping[str, str], name: str) -> int:
    """std::stoi: what stands before the number and behind it does not matter."""
    if name not in environment:
        return 0
    found = _INTEGER.match(environment[name])
    if not found:
        raise BadInput(
            f"{name}={environment[name]!r} is no number: llama-server does not start with it",
            do=f"take {name} out of the server's environment, or give it a number",
        )
    return int(found[1])
