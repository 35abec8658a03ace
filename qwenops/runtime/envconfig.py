"""Ollama's environment variables, read with the same meaning as Ollama reads them.

Source: envconfig/config.go (Var, Bool, Uint, KeepAlive, String) and Go's strconv.ParseBool, Ollama v0.32.14.
Everything here is a function of a mapping, so that the environment of another process can be asked as well as ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_UINT = re.compile(r"^[0-9]+$")
_DURATION_PART = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

FOREVER = float("inf")

# What a llama-server child inherits and is changed by, and what the server itself reads. Nothing else is kept.
_KEPT_PREFIXES = ("OLLAMA_", "LLAMA_ARG_", "GGML_", "CUDA_", "HIP_", "ROCR_", "ROCM_", "HSA_", "VK_", "MESA_")
_KEPT_NAMES = frozenset(
    {
        "GPU_DEVICE_ORDINAL",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "JETSON_JETPACK",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    }
)
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "AUTH")
_USER_IN_URL = re.compile(r"(://)[^/@\s]+@")


def var(environment: Mapping[str, str], name: str) -> str:
    """One variable, without the spaces and the quotes around it (envconfig.Var)."""
    return environment.get(name, "").strip().strip("\"'")


def parse_bool(text: str) -> bool | None:
    """Go's strconv.ParseBool; None where Go reports an error."""
    return True if text in _TRUE else False if text in _FALSE else None


def boolean(environment: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A switch: what is set but is no boolean counts as on (envconfig.BoolWithDefault)."""
    text = var(environment, name)
    if not text:
        return default
    value = parse_bool(text)
    return True if value is None else value


def switch(environment: Mapping[str, str], name: str) -> bool | None:
    """A switch that also knows "not set": None then."""
    return boolean(environment, name) if var(environment, name) else None


def unsigned(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    """A number without sign; what is not one gives the default (envconfig.Uint)."""
    text = var(environment, name)
    if not _UINT.match(text):
        return default
    value = int(text)
    return value if value < 1 << 64 else default


def parse_duration(text: str) -> float | None:
    """Go's time.ParseDuration in seconds ("1h30m", "-1s"); None where Go reports an error."""
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text.lstrip("+-") if text[:1] in "+-" else text
    if rest == "0":
        return 0.0
    seconds, at = 0.0, 0
    while at < len(rest):
        part = _DURATION_PART.match(rest, at)
        if not part or part.group(1) in ("", "."):
            return None
        seconds += float(part.group(1)) * _UNIT_SECONDS[part.group(2)]
        at = part.end()
    return sign * seconds if at else None


def keep_alive_s(environment: Mapping[str, str]) -> float:
    """How long an idle model stays loaded, in seconds; below zero means for ever (envconfig.KeepAlive)."""
    text = var(environment, "OLLAMA_KEEP_ALIVE")
    seconds = 300.0
    parsed = parse_duration(text) if text else None
    if parsed is not None:
        seconds = parsed
    elif re.match(r"^[+-]?[0-9]+$", text) and -(2**63) <= int(text) < 2**63:
        # Nanoseconds in 64 bits: what is beyond three hundred years wraps round, as in Go.
        seconds = ((int(text) * 10**9 + 2**63) % 2**64 - 2**63) / 1e9
    return FOREVER if seconds < 0 else seconds


def relevant(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of a process's environment that decides how models run; secrets are left out.

    Passwords inside proxy addresses are cut away as well: what this returns may be shown and stored.
    """
    kept = {}
    for name, value in environment.items():
        if not (name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)):
            continue
        if any(word in name.upper() for word in _SECRET_WORDS):
            continue
        kept[name] = _USER_IN_URL.sub(r"\1", value)
    return kept


@dataclass(frozen=True)
class Default:
    """A setting's name and the value that Ollama takes when nobody set it."""

    name: str
    value: str


# envconfig.AsMap and the llama.cpp options that work through the environment, in the order people ask for them.
SETTINGS: tuple[Default, ...] = (
    Default("OLLAMA_KV_CACHE_TYPE", "f16"),
    Default("OLLAMA_FLASH_ATTENTION", "auto"),
    Default("OLLAMA_NUM_PARALLEL", "1"),
    Default("OLLAMA_CONTEXT_LENGTH", "by VRAM"),
    Default("OLLAMA_MAX_LOADED_MODELS", "3 per GPU"),
    Default("OLLAMA_KEEP_ALIVE", "5m"),
    Default("OLLAMA_LOAD_TIMEOUT", "5m"),
    Default("OLLAMA_GPU_OVERHEAD", "0"),
    Default("OLLAMA_SCHED_SPREAD", "false"),
    Default("OLLAMA_VULKAN", "true"),
    Default("OLLAMA_IGPU_ENABLE", "by device"),
    Default("OLLAMA_LLM_LIBRARY", ""),
    Default("OLLAMA_GO_TEMPLATE", "true"),
    Default("OLLAMA_NOPRUNE", "false"),
    Default("LLAMA_ARG_FIT", "on"),
    Default("LLAMA_ARG_FIT_TARGET", "1024"),
    Default("LLAMA_ARG_IMAGE_MAX_TOKENS", "by the model"),
    Default("LLAMA_ARG_N_CPU_MOE", "0"),
)
