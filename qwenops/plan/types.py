"""Value types of a plan: the choice, what it needs, and why everything else lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model

Fits = Literal["yes", "no", "too close"]


@dataclass(frozen=True)
class Wish:
    """What the user pinned; None leaves the choice to the planner.

    `image_tokens` is a cap of the server, `image_size` what pictures will really be, in pixels, width first.
    `headroom_bytes` is kept free on every device beyond the upper edge of the need.
    """

    num_ctx: int | None = None
    quant: str | None = None
    kv_type: str | None = None
    ubatch: int | None = None
    images: int | None = None
    image_tokens: int | None = None
    image_size: tuple[int, int] | None = None
    projector_device: Literal["gpu", "cpu"] | None = None
    headroom_bytes: int | None = None
    rung: str = "auto"


@dataclass(frozen=True)
class Choice:
    """One way to run one variant. `num_gpu` is what the Modelfile must say (None: nothing).

    `picture_tokens` is what the context counts for one picture; the settings' `image_tokens` are the server's cap.

    `server_settings` are environment variables of the Ollama server that the choice rests on and that are not in
    force there yet.
    """

    model: Model
    settings: LoadSettings
    images: int
    picture_tokens: int = 0
    num_gpu: int | None = None
    server_settings: tuple[tuple[str, str], ...] = ()

    def as_data(self, on_device: int) -> dict[str, Any]:
        """Plain JSON values of the "choice" of "qwenops.plan/1"; `on_device` is what gpu_layers comes to."""
        projector = self.model.projector
        device = None if projector is None else self.settings.projector_device
        return {
            "file": self.model.source,
            "quant": self.model.quant,
            "num_ctx": self.settings.num_ctx,
            "kv_type": self.settings.kv_type_k,
            "batch": self.settings.batch,
            "ubatch": self.settings.ubatch,
            "image_tokens": self.settings.image_tokens if projector else 0,
            "images": self.images,
            "picture_tokens": self.picture_tokens,
            "gpu_layers": on_device,
            "num_gpu": self.num_gpu,
            "projector": projector.source if projector else None,
            "projector_device": device,
            "server_settings": dict(self.server_settings),
        }


@dataclass(frozen=True)
class Judged:
    """A choice with its need and the verdict.

    `short_bytes` is what the fullest place lacks (0 when it fits), `tightest` that place: a device's name or "host".
    """

    choice: Choice
    need: Need
    fits: Fits
    short_bytes: int = 0
    spare_bytes: int = 0
    runtime_keeps_all: bool = True
    tightest: str = ""


@dataclass(frozen=True)
class Other:
    """A choice that was not taken, and why; as a runner-up or as a suggestion it says what it would give."""

    judged: Judged
    why: str
    cost: str = ""

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values: the choice, its size, the reason."""
        return {
            **self.judged.choice.as_data(self.judged.need.layers.on_device),
            "fits": self.judged.fits,
            "total_device_bytes": self.judged.need.total_device_bytes,
            "total_host_bytes": self.judged.need.host.total_bytes,
            "short_bytes": self.judged.short_bytes,
            "layers": asdict(self.judged.need.layers),
            "why": self.why,
            "cost": self.cost,
        }


@dataclass(frozen=True)
class Plan:
    """The answer: a choice that fits, or none and what comes nearest.

    `measured` is what the order rests on: plan/holding.py says what is in it.
    """

    profile: str
    fits: Fits
    chosen: Judged | None
    runners_up: tuple[Other, ...]
    rejected: tuple[Other, ...]
    nearest: tuple[Other, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    devices: tuple[dict[str, Any], ...] = field(default=())
    needs_asked: int = 0
    measured: Mapping[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values of the "qwenops.plan/1" envelope."""
        chosen = self.chosen
        return {
            "profile": self.profile,
            "fits": self.fits,
            "choice": chosen.choice.as_data(chosen.need.layers.on_device) if chosen else None,
            "need": chosen.need.as_data(model_entry(chosen.choice.model)) if chosen else None,
            "runtime_keeps_all": chosen.runtime_keeps_all if chosen else None,
            "spare_bytes": chosen.spare_bytes if chosen else 0,
            "runners_up": [o.as_data() for o in self.runners_up],
            "rejected": [o.as_data() for o in self.rejected],
            "nearest": [o.as_data() for o in self.nearest],
            "reasons": list(self.reasons),
            "devices": list(self.devices),
            "measured": dict(self.measured),
        }


def model_entry(model: Model) -> dict[str, Any]:
    """The "model" entry that every envelope carries."""
    return {
        "name": model.name,
        "architecture": model.architecture,
        "quant": model.quant,
        "parameters": model.parameters,
        "file": model.source,
        "file_bytes": model.file_bytes,
        "projector": model.projector.source if model.projector else None,
        "projector_bytes": model.projector.file_bytes if model.projector else 0,
        "layers": int(model.hparam("block_count", 0)),
        "trained_context": int(model.hparam("context_length", 0)),
    }
