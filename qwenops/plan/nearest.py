"""When nothing fits: what comes nearest, and what each way out costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from qwenops.memory.shape import shape_of
from qwenops.memory.types import KVType, LoadSettings
from qwenops.plan.pictures import floor_of
from qwenops.plan.search import Scene, best_that_fits, hopeless, refit, smallest_ubatch
from qwenops.plan.types import Choice, Other
from qwenops.units import human

IMAGE_STEPS = (2048, 1024)
_KV_BLOCK: Final = 32  # of q8_0 and q4_0
ENOUGH = 3


@dataclass(frozen=True)
class Sacrifice:
    """Something given up: how the choice changes, and what it costs the user."""

    choice: Choice
    why: str
    cost: str


Way = Callable[[Choice, Scene], Iterator[Sacrifice]]


def nearest(choices: tuple[Choice, ...], scene: Scene) -> tuple[Other, ...]:
    """Ways out that fit: single sacrifices first, then more at once, and last the split between device and CPU.

    In the order in which the task gives things up; for each sacrifice the best quant with which it is enough, since the
    same sacrifice with a better quant is always the better offer, and then as much context as there is. A cache below
    q8_0 is offered only where nothing else keeps the model on the devices.
    """
    ways = ways_of(scene)
    found: list[Other] = []
    hopeful = tuple(c for c in choices if _fits_with_everything_given_up(c, scene))
    for count in range(1, len(ways) + 1):
        if len(found) >= ENOUGH - 1:
            break
        found += _enough(hopeful, combinations(ways, count), scene)
    if not found:
        found += _enough(hopeful, ((_smallest_kv, *more) for n in range(3) for more in combinations(ways, n)), scene)
    split = _fullest_split(choices, scene)
    return (*found[:ENOUGH], split) if split else tuple(found[:ENOUGH])


def what_would_do(choice: Choice, scene: Scene) -> Other | None:
    """The first single sacrifice of the task that makes one variant fit."""
    if not _fits_with_everything_given_up(choice, scene):
        return None
    return next((other for way in ways_of(scene) if (other := _first_fit(choice, (way,), scene))), None)


def _fits_with_everything_given_up(choice: Choice, scene: Scene) -> bool:
    """Whether any mix of sacrifices can be enough: one question that saves dozens."""
    if hopeless(choice, scene):
        return False
    least = smallest_ubatch(choice, scene)
    caches: tuple[Way | None, ...] = (_smallest_kv, _smaller_kv, None)
    for cache in caches:
        taken = least
        for way in (*(w for w in ways_of(scene) if w is not _smaller_kv), *((cache,) if cache else ())):
            *_, taken = (taken, *(s.choice for s in way(taken, scene)))
        if scene.weigh(taken, scene.quick).fits == "yes":
            return True
    return False


def ways_of(scene: Scene) -> tuple[Way, ...]:
    """What the task gives up, in its order."""
    return tuple(_WAYS[name] for name in scene.profile.give_up)


def _enough(choices: tuple[Choice, ...], combined: Iterable[tuple[Way, ...]], scene: Scene) -> Iterator[Other]:
    for together in combined:
        hit = next((other for choice in choices if (other := _first_fit(choice, together, scene))), None)
        if hit:
            yield hit


def _fullest_split(choices: tuple[Choice, ...], scene: Scene) -> Other | None:
    """The split that leaves the least on the CPU, of two alike the better quant.

    From the smallest variant on, and only while a larger one could come up to the best: a split asks for many
    placements.
    """
    best: Other | None = None
    for choice in sorted(choices, key=lambda c: c.model.header.tensor_bytes):
        if best is not None and _most_on_device(choice, best) < _on_device_share(best):
            break
        other = _split(choice, scene)
        if other is not None and (best is None or _on_device_share(other) >= _on_device_share(best)):
            best = other
    return best


def _most_on_device(choice: Choice, known: Other) -> float:
    """The share of a variant's weights that a split cannot exceed, by the split of another variant.

    What the runtime's fit may fill is the same for both, and so is the cache, which goes with the blocks.
    """
    need = known.judged.need
    room = sum(max(0, d.free_bytes - d.reserve_bytes - d.projector_bytes) for d in need.devices)
    kept = need.host.kv_bytes + sum(d.kv_bytes for d in need.devices)
    return room / max(1, choice.model.header.tensor_bytes + kept)


def _on_device_share(other: Other) -> float:
    """The share of the weights that stays on devices."""
    need = other.judged.need
    on_devices = sum(d.weights_bytes for d in need.devices)
    return on_devices / max(1, on_devices + need.host.weights_bytes)


def _first_fit(choice: Choice, together: tuple[Way, ...], scene: Scene) -> Other | None:
    """The mildest form of several sacrifices at once that fits, with as much context as then fits."""
    if hopeless(choice, scene):
        return None
    for taken in _apply(choice, together, scene):
        best = best_that_fits(taken[-1].choice, scene)
        if best is not None:
            return Other(best, why=", ".join(t.why for t in taken), cost="; ".join(t.cost for t in taken))
    return None


def _apply(choice: Choice, together: tuple[Way, ...], scene: Scene) -> Iterator[tuple[Sacrifice, ...]]:
    first, *rest = together
    for taken in first(choice, scene):
        if not rest:
            yield (taken,)
            continue
        for more in _apply(taken.choice, tuple(rest), scene):
            yield (taken, *more)


def _fewer_image_tokens(choice: Choice, scene: Scene) -> Iterator[Sacrifice]:
    if scene.wish.image_tokens or not choice.images:
        return
    for tokens in IMAGE_STEPS:
        if tokens < choice.settings.image_tokens:
            settings = replace(choice.settings, image_tokens=tokens)
            yield Sacrifice(
                _at_floor(refit(choice, scene, settings), scene),
                f"images of at most {tokens} tokens",
                f"a large page is scaled down to about {tokens * 1024 / 1e6:.1f} megapixels",
            )


def _one_image(choice: Choice, scene: Scene) -> Iterator[Sacrifice]:
    if choice.images > 1 and scene.wish.images is None:
        yield Sacrifice(
            _at_floor(replace(choice, images=1), scene), "one image at a time", "no room for two in one chat"
        )


def _smaller_kv(choice: Choice, scene: Scene) -> Iterator[Sacrifice]:
    yield from _kv_in("q8_0", choice, scene)


def _smallest_kv(choice: Choice, scene: Scene) -> Iterator[Sacrifice]:
    yield from _kv_in("q4_0", choice, scene)


def _kv_in(kv_type: KVType, choice: Choice, scene: Scene) -> Iterator[Sacrifice]:
    settings = choice.settings
    plain = settings.kv_type_k in {"f16", "bf16", "f32"}
    if scene.wish.kv_type or settings.flash_attn == "off" or not (plain or kv_type < settings.kv_type_k == "q8_0"):
        return
    shape = shape_of(choice.model)
    if any(head % _KV_BLOCK for head in (shape.head_k, shape.head_v)):
        return  # the runtime refuses to start
    yield Sacrifice(
        refit(choice, scene, replace(settings, kv_type_k=kv_type, kv_type_v=kv_type)),
        f"KV cache in {kv_type}",
        "the setting is for all models of the server; its loss is not measured here",
    )


def _projector_on_host(choice: Choice, scene: Scene) -> Iterator[Sacrifice]:
    if not choice.model.projector or choice.settings.projector_device == "cpu" or not scene.ground.devices:
        return
    settings = replace(choice.settings, projector_device="cpu")
    yield Sacrifice(
        refit(choice, scene, settings), "projector on the CPU", "every image takes seconds more (not measured here)"
    )


_WAYS: Final[dict[str, Way]] = {
    "image_tokens": _fewer_image_tokens,
    "images": _one_image,
    "cache": _smaller_kv,
    "projector": _projector_on_host,
}


def _split(choice: Choice, scene: Scene) -> Other | None:
    """Part of the layers on the CPU, as the runtime's own fit would split them.

    No num_gpu is written: Ollama moves a projector to the CPU where num_gpu is partial, and its fit knows the free
    memory at the time of the load better than a number that was pinned before it.
    """
    if not scene.ground.devices:
        return None
    judged = scene.weigh(refit(choice, scene, replace(choice.settings, gpu_layers="auto")), scene.quick)
    layers = judged.need.layers
    if judged.fits != "yes" or not layers.on_device:
        return None
    if layers.on_device < layers.total:
        why = f"{layers.on_device} of {layers.total} layers on the device, as Ollama would split them"
        return Other(judged, why=why, cost="generation slows with every layer on the CPU (not measured here)")
    return Other(
        judged,
        why=f"experts on the CPU ({human(judged.need.host.weights_bytes)}), as Ollama would split them",
        cost="generation slows with every expert that is read from host memory (not measured here)",
    )


def _at_floor(choice: Choice, scene: Scene) -> Choice:
    """The smallest context that holds the task with these images, unless the context was pinned."""
    if scene.wish.num_ctx:
        return choice
    settings: LoadSettings = choice.settings
    floor = floor_of(choice, scene.profile)
    return replace(choice, settings=replace(settings, num_ctx=min(floor, settings.num_ctx)))
