"""When nothing fits: what comes nearest, and what each way out costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from qwenops.memory.types import LoadSettings
from qwenops.plan.search import Scene, refit
from qwenops.plan.types import Choice, Other
from qwenops.units import human

IMAGE_STEPS = (2048, 1024)
ENOUGH = 3


@dataclass(frozen=True)
class Sacrifice:
    """Something given up: how the choice changes, and what it costs the user."""

    choice: Choice
    why: str
    cost: str


Way = Callable[[Choice, Scene], Iterator[Sacrifice]]


def nearest(choices: tuple[Choice, ...], scene: Scene) -> tuple[Other, ...]:
    """Ways out that fit: single sacrifices first, then pairs, and last the split between device and CPU.

    For each sacrifice the best quant with which it is enough, since the same sacrifice with a better quant is always
    the better offer.
    """
    ways: tuple[Way, ...] = (_fewer_image_tokens, _one_image, _smaller_kv, _projector_on_host)
    found: list[Other] = []
    for count in (1, 2, 3):
        if len(found) >= ENOUGH - 1:
            break
        for together in combinations(ways, count):
            hit = next((other for choice in choices if (other := _first_fit(choice, together, scene))), None)
            if hit:
                found.append(hit)
    split = max(
        (other for choice in choices if (other := _split(choice, scene))),
        key=_on_device_share,
        default=None,
    )
    return (*found[:ENOUGH], split) if split else tuple(found[:ENOUGH])


def _on_device_share(other: Other) -> float:
    """The share of the weights that stays on devices."""
    need = other.judged.need
    on_devices = sum(d.weights_bytes for d in need.devices)
    return on_devices / max(1, on_devices + need.host.weights_bytes)


def _first_fit(choice: Choice, together: tuple[Way, ...], scene: Scene) -> Other | None:
    """The mildest form of several sacrifices at once that fits."""
    for taken in _apply(choice, together, scene):
        judged = scene.weigh(taken[-1].choice, scene.quick)
        if judged.fits == "yes":
            return Other(judged, why=", ".join(t.why for t in taken), cost="; ".join(t.cost for t in taken))
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
    plain = choice.settings.kv_type_k in {"f16", "bf16", "f32"}
    if scene.wish.kv_type or not plain or choice.settings.flash_attn == "off":
        return
    settings = replace(choice.settings, kv_type_k="q8_0", kv_type_v="q8_0")
    yield Sacrifice(
        refit(choice, scene, settings),
        "KV cache in q8_0",
        "the setting is for all models of the server; its loss is not measured here",
    )


def _projector_on_host(choice: Choice, scene: Scene) -> Iterator[Sacrifice]:
    if not choice.model.projector or choice.settings.projector_device == "cpu" or not scene.ground.devices:
        return
    settings = replace(choice.settings, projector_device="cpu")
    yield Sacrifice(
        refit(choice, scene, settings), "projector on the CPU", "every image takes seconds more (not measured here)"
    )


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
    task = replace(scene.profile, images=choice.images)
    floor = task.floor(sees=choice.images > 0, image_tokens=settings.image_tokens)
    return replace(choice, settings=replace(settings, num_ctx=min(floor, settings.num_ctx)))
