"""Value types of a need: what a model takes on each device and on the host, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from qwenops.machine.types import Kind

Rung = Literal["measured", "runtime", "dry load", "closed form"]
KVType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
KV_TYPES: tuple[KVType, ...] = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


@dataclass(frozen=True)
class LoadSettings:
    """Everything that changes what a load needs.

    `num_ctx` is per sequence (the server gets num_ctx * parallel). `gpu_layers` counts the output layer as one:
    "all", a number, or "auto" for what the runtime's own fit would choose. `outputs` is "server" for llama-server
    (one row per slot) and "library" for llama-cpp-python (a row per batch token). `image_tokens` is the largest
    image the settings allow. `mmap` off means weights left on the host are plain buffers. Of the first `n_cpu_moe`
    blocks ("all" of them) the experts stay on the host. `tensor_split` are the devices' shares of the layers, in any
    unit; none means by free memory. `main_gpu` is the only device that is used, None where all are.
    `draft_tokens` is how many tokens the draft head in the model's file proposes ahead (draft_num_predict), 0 where it
    is not used; `draft_model` the file of a draft model that does it instead. With `kv_unified` the sequences share one
    cache, as long as all of theirs together.
    """

    num_ctx: int = 4096
    parallel: int = 1
    batch: int = 512
    ubatch: int = 512
    kv_type_k: KVType = "f16"
    kv_type_v: KVType = "f16"
    flash_attn: Literal["auto", "on", "off"] = "auto"
    gpu_layers: int | Literal["all", "auto"] = "all"
    outputs: Literal["server", "library"] = "server"
    image_tokens: int = 4096
    swa_full: bool = False
    projector_device: Literal["gpu", "cpu"] = "gpu"
    mmap: bool = True
    n_cpu_moe: int | Literal["all"] = 0
    tensor_split: tuple[float, ...] = ()
    main_gpu: int | None = None
    draft_tokens: int = 0
    draft_model: str = ""
    kv_unified: bool = False

    def as_key(self) -> dict[str, Any]:
        """Plain values to find a load again by. What was added later is left out where nobody asked for it, so that
        loads which were kept before are still found."""
        return {name: value for name, value in asdict(self).items() if name not in _ADDED or value}


_ADDED = frozenset({"kv_unified"})
"""Settings that came after the first histories were written."""


@dataclass(frozen=True)
class DeviceNeed:
    """What one device must hold. `reserve_bytes` is what the runtime keeps free beyond it (its fit target)."""

    name: str
    kind: Kind
    free_bytes: int
    reserve_bytes: int = 0
    weights_bytes: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    compute_bytes: int = 0
    projector_bytes: int = 0
    encoder_bytes: int = 0
    draft_bytes: int = 0
    overhead_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The sum of every component, without the reserve."""
        return (
            self.weights_bytes
            + self.kv_bytes
            + self.state_bytes
            + self.compute_bytes
            + self.projector_bytes
            + self.encoder_bytes
            + self.draft_bytes
            + self.overhead_bytes
        )


@dataclass(frozen=True)
class HostNeed:
    """What the host must hold; weights that stay mapped from the file count, since they must be in reach."""

    weights_bytes: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    compute_bytes: int = 0
    projector_bytes: int = 0
    encoder_bytes: int = 0
    output_bytes: int = 0
    draft_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The sum of every component."""
        return sum(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True)
class Band:
    """The edges between which the device total lies, in bytes."""

    low: int
    high: int


@dataclass(frozen=True)
class Layers:
    """How many of the model's layers (the output layer counts) are on devices."""

    on_device: int
    total: int


@dataclass(frozen=True)
class Need:
    """The answer of one rung, or of several: `sources` names the rung of each component.

    Of the overhead it says "learned (n loads)", "measured" with this very load, or "default".
    """

    rung: Rung
    settings: LoadSettings
    devices: tuple[DeviceNeed, ...]
    host: HostNeed
    layers: Layers
    band: Band
    sources: Mapping[str, str]
    notes: tuple[str, ...] = ()
    flash_attn: bool | None = field(default=None)

    @property
    def total_device_bytes(self) -> int:
        """The sum over all devices."""
        return sum(d.total_bytes for d in self.devices)

    def as_data(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Plain JSON values for the "qwenops.need/1" envelope; `model` is the model's own entry."""
        from dataclasses import asdict

        return {
            "rung": self.rung,
            "settings": asdict(self.settings),
            "model": dict(model),
            "devices": [{**asdict(d), "total_bytes": d.total_bytes} for d in self.devices],
            "host": {**asdict(self.host), "total_bytes": self.host.total_bytes},
            "total_device_bytes": self.total_device_bytes,
            "band_bytes": {"low": self.band.low, "high": self.band.high},
            "layers": {"on_device": self.layers.on_device, "total": self.layers.total},
            "sources": dict(self.sources),
        }
