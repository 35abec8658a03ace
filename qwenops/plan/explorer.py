"""Needs of many settings at once, for a page on which people move them: every figure is one that `need` says.

A grid holds the closed form's answers over caches (flash attention and KV type), contexts and image limits. Nothing
between its points is known to it, so nothing between them may be shown. Cards on which a model needs the same share a
grid; only what is free there differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, Final, Literal

from qwenops.errors import BadInput
from qwenops.machine.types import Device
from qwenops.memory import ladder, reserve
from qwenops.memory.backends import backend_of
from qwenops.memory.learned import NOTHING, Learned
from qwenops.memory.overhead import overhead_of
from qwenops.memory.types import DeviceNeed, HostNeed, KVType, LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.fit import HOST_SHARE, edges
from qwenops.plan.ground import Ground
from qwenops.plan.search import trained_context
from qwenops.runtime.flags import IMAGE_MIN_TOKENS, IMAGE_MIN_TOKENS_ARCHITECTURES
from qwenops.runtime.offload import offload_in_force

Flash = Literal["auto", "on", "off"]
CONTEXTS: Final = (2048, 4096, 8192, 12288, 16384, 24576, 32768, 49152, 65536, 98304, 131072, 196608, 262144)
IMAGE_LIMITS: Final = (256, 512, 1024, 2048, 3072, 4096)
KV_TYPES: Final[tuple[KVType, ...]] = ("f16", "q8_0", "q4_0")
_FIXED = ("name", "kind", "free_bytes", "reserve_bytes")
FLASH: Final[tuple[Flash, ...]] = ("auto", "off")
AXES: Final = "cxi"
"""Cache, context, image limit: the order in which a column's values stand."""


@dataclass(frozen=True)
class Axes:
    """What is asked of one model: caches as (flash attention, KV type), contexts and image limits in tokens."""

    caches: tuple[tuple[Flash, KVType], ...]
    contexts: tuple[int, ...]
    image_limits: tuple[int, ...]
    refused: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many of each."""
        return (len(self.caches), len(self.contexts), len(self.image_limits))


@dataclass(frozen=True)
class Grid:
    """The needs at every point, a column a component for each device and the host: {"by": axes, "bytes": values}.

    Axes along which a column never changes are left out of it.
    """

    devices: tuple[Mapping[str, Any], ...]
    host: Mapping[str, Any]
    projector_device: str

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "devices": [dict(d) for d in self.devices],
            "host": dict(self.host),
            "projector_device": self.projector_device,
        }


@dataclass(frozen=True)
class Explored:
    """One model: its axes, its different grids, and which of them each ground has."""

    axes: Axes
    grids: tuple[Grid, ...]
    grid_of_ground: tuple[int, ...]


def explore(
    models: Sequence[Model],
    grounds: Sequence[Ground],
    learned: Learned = NOTHING,
    *,
    contexts: Sequence[int] = (),
    ubatch: int = 512,
    on_model: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Explored, ...]:
    """The grids of every model on every ground, by the closed form as `need --rung closed-form` asks it.

    `contexts` are asked beside the usual ones, where the model was trained for them; `ubatch` is that of every load.
    """
    found = []
    for number, model in enumerate(models):
        on_model(number, len(models))
        found.append(_explored(model, grounds, learned, contexts, ubatch))
    return tuple(found)


def host_room_bytes(ground: Ground) -> int:
    """What a load may take of the host's memory, by the planner's rule."""
    return int(ground.host.available_bytes * HOST_SHARE)


def _explored(
    model: Model, grounds: Sequence[Ground], learned: Learned, contexts: Sequence[int], ubatch: int
) -> Explored:
    axes = axes_of(model, grounds[0], contexts)
    grids: list[Grid] = []
    kinds: dict[Any, int] = {}
    places = []
    for ground in grounds:
        kind = _kind(model, ground, learned)
        if kind not in kinds:
            kinds[kind] = len(grids)
            grids.append(_grid(model, axes, ground, learned, ubatch))
        places.append(kinds[kind])
    return Explored(axes, tuple(grids), tuple(places))


def _kind(model: Model, ground: Ground, learned: Learned) -> Any:
    """What of a single device changes what a model needs there; several share their layers by what is free."""
    if len(ground.devices) != 1:
        return ground.devices
    device = ground.devices[0]
    placed = _ask(model, ground, learned, LoadSettings(num_ctx=256, image_tokens=IMAGE_MIN_TOKENS))
    on = placed.settings.projector_device
    return (replace(backend_of(device), name=""), device.name, overhead_of(device, learned.overheads), on)


def axes_of(model: Model, ground: Ground, more_contexts: Sequence[int] = ()) -> Axes:
    """What can be asked of a model: contexts up to the trained one, image limits that its runtime accepts."""
    most = trained_context(model)
    contexts = sorted({*(n for n in (*CONTEXTS, *more_contexts) if n < most), min(most, CONTEXTS[-1])})
    sees = model.projector is not None or model.inline_vision
    least = IMAGE_MIN_TOKENS if model.architecture in IMAGE_MIN_TOKENS_ARCHITECTURES else IMAGE_LIMITS[0]
    limits = tuple(n for n in IMAGE_LIMITS if n >= least) if sees else (IMAGE_LIMITS[-1],)
    kinds = dict.fromkeys((ground.kv_type, *KV_TYPES))
    caches: list[tuple[Flash, KVType]] = []
    refused: dict[str, str] = {}
    for flash, kv in product(FLASH, kinds):
        try:
            _ask(model, ground, NOTHING, LoadSettings(num_ctx=256, kv_type_k=kv, kv_type_v=kv, flash_attn=flash))
            caches.append((flash, kv))
        except BadInput as why:
            refused[f"{flash} {kv}"] = why.message
    return Axes(tuple(caches), tuple(contexts), limits, refused)


def _ask(model: Model, ground: Ground, learned: Learned, settings: LoadSettings) -> Need:
    """One need, asked as the command `need` asks it."""
    force = offload_in_force(ground.environment)
    settings = replace(
        settings,
        gpu_layers="all" if ground.devices else 0,
        n_cpu_moe=force.n_cpu_moe,
        tensor_split=force.tensor_split,
        main_gpu=force.main_gpu,
        kv_unified=force.kv_unified,
    )
    devices = reserve.devices_in_use(model, settings, ground.devices, ground.host, ground.environment)
    return ladder.need(
        model,
        settings,
        devices,
        host=ground.host,
        runtime=ground.runtime,
        rung="closed form",
        reserve_bytes=reserve.fit_reserve(model, settings, devices, ground.environment),
        learned=learned,
    )


def _grid(model: Model, axes: Axes, ground: Ground, learned: Learned, ubatch: int) -> Grid:
    needs = [
        _ask(
            model,
            ground,
            learned,
            LoadSettings(
                num_ctx=ctx,
                batch=ubatch,
                ubatch=ubatch,
                kv_type_k=kv,
                kv_type_v=kv,
                flash_attn=flash,
                image_tokens=limit,
            ),
        )
        for (flash, kv), ctx, limit in product(axes.caches, axes.contexts, axes.image_limits)
    ]
    devices = tuple(_device_columns(device, needs, axes.shape) for device in ground.devices)
    host = _columns({f.name: [getattr(n.host, f.name) for n in needs] for f in fields(HostNeed)}, axes.shape)
    return Grid(devices, host, needs[0].settings.projector_device)


def _device_columns(device: Device, needs: Sequence[Need], shape: tuple[int, int, int]) -> dict[str, Any]:
    """A device's components, and the edges between which its total lies; a device that a load leaves out has none."""
    rows = [next((d for d in n.devices if d.name == device.name), None) for n in needs]
    parts = [f.name for f in fields(DeviceNeed) if f.name not in _FIXED]
    values = {part: [getattr(row, part) if row else 0 for row in rows] for part in parts}
    between = [edges(n, row) if row else (0, 0) for n, row in zip(needs, rows, strict=True)]
    values["low_bytes"] = [low for low, _ in between]
    values["high_bytes"] = [high for _, high in between]
    return _columns(values, shape)


def _columns(values: Mapping[str, Sequence[int]], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Every column that holds anything, over the axes along which it changes."""
    return {name.removesuffix("_bytes"): _column(column, shape) for name, column in values.items() if any(column)}


def _column(values: Sequence[int], shape: tuple[int, int, int]) -> dict[str, Any]:
    _, wide, deep = shape
    grid = [[[values[(c * wide + x) * deep + i] for i in range(deep)] for x in range(wide)] for c in range(shape[0])]
    of_image = any(row.count(row[0]) < deep for cache in grid for row in cache)
    of_context = any(cache.count(cache[0]) < wide for cache in grid)
    of_cache = grid.count(grid[0]) < shape[0]
    used = "".join(name for name, is_used in zip(AXES, (of_cache, of_context, of_image), strict=True) if is_used)
    return {
        "by": used,
        "bytes": [
            value
            for cache in (grid if of_cache else grid[:1])
            for row in (cache if of_context else cache[:1])
            for value in (row if of_image else row[:1])
        ],
    }


def value_at(column: Mapping[str, Any] | None, shape: Sequence[int], at: Sequence[int]) -> int:
    """The value of a column at one point; 0 where there is no column."""
    if column is None:
        return 0
    index = 0
    for name, size, place in zip(AXES, shape, at, strict=True):
        if name in column["by"]:
            index = index * size + place
    return int(column["bytes"][index])
