"""Which generation of ExLlama loads which architecture, and on which cards; the figures lie in exl_support.toml."""

from __future__ import annotations

from typing import Literal, cast

from qwenops.machine.types import Device
from qwenops.model.exl import ExlModel, Format
from qwenops.tables import load_table

Support = Literal["vision", "text", "no", "unknown"]
_TABLE = ("qwenops.model", "exl_support.toml")

AMPERE = (8, 0)


def support(architecture: str, engine: Format) -> Support:
    """What a generation does with an architecture, by the table of its source."""
    row = load_table(*_TABLE)["engines"].get(architecture, {})
    return cast("Support", row.get(engine, "unknown"))


def version(engine: Format) -> str:
    """The release whose table was read: 'exllamav3 1.4.1'."""
    return str(load_table(*_TABLE)["versions"][engine])


def why_not_loaded(model: ExlModel) -> str | None:
    """Why the engine refuses the model, with the one that would take the architecture; None where it does not."""
    if support(model.architecture, model.format) != "no":
        return None
    other: Format = "exl3" if model.format == "exl2" else "exl2"
    takes_it = support(model.architecture, other) in ("vision", "text")
    elsewhere = f"; {version(other)} does, from {other.upper()} files" if takes_it else ""
    return f"{version(model.format)} does not know {model.architecture}{elsewhere}"


def why_not_here(device: Device, engine: Format) -> str | None:
    """Why a device cannot run the engine, None where nothing is known against it.

    EXL3: TabbyAPI refuses cards before Ampere and AMD's (backends/exllamav3/model.py, e632af4), and the released
    builds begin at 8.0 (exllamav3 1.4.1, .github/workflows/build.yml, cudaarch). EXL2 builds begin at 6.0 and there
    are ROCm ones (exllamav2 0.3.2, build-wheels-release.yml).
    """
    if device.kind not in ("cuda", "rocm"):
        return f"ExLlama runs on CUDA, not on {device.kind}"
    if device.kind == "rocm":
        return "ExLlamaV3 does not run on AMD cards (its README: ROCm support is missing)" if engine == "exl3" else None
    capability = device.compute_capability
    if engine == "exl3" and capability is not None and capability < AMPERE:
        major, minor = capability
        return f"EXL3 needs Ampere or newer (compute 8.0); this card has {major}.{minor}"
    return None


def paged(device: Device) -> bool | None:
    """Whether EXL2's paged attention (flash-attn 2.5.7+) can run there; None where the capability is not known.

    Without it TabbyAPI falls back to one sequence at a time and no flash attention, and the workspace grows with the
    square of the chunk (common/hardware.py and backends/exllamav2/model.py at 79126f9).
    """
    if device.kind == "rocm":
        return False
    return None if device.compute_capability is None else device.compute_capability >= AMPERE
