"""When nothing fits: what comes nearest, and what each way out costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qwenops.plan.search import Scene, refit
from qwenops.plan.types import Choice, Judged, Other

IMAGE_STEPS = (2048, 1024)


def nearest(choices: tuple[Choice, ...], scene: Scene) -> tuple[Other, ...]:
    """Every way out that fits, over the given variants: best quant first, the smallest sacrifice first.

    At most one suggestion of each sort, since the same sacrifice with a better quant is always the better one.
    """
    found: list[Other] = []
    for way in (_fewer_image_tokens, _one_image, _smaller_kv, _projector_on_host, _fewer_layers):
        hit = next((other for choice in choices for other in way(choice, scene) if other.judged.fits == "yes"), None)
        if hit:
            found.append(hit)
    return tuple(found)


def _fewer_image_tokens(choice: Choice, scene: Scene) -> Iterator[Other]:
    settings = choice.settings
    if scene.wish.image_tokens or scene.wish.num_ctx or not choice.images:
        return
    for tokens in IMAGE_STEPS:
        if tokens >= settings.image_tokens:
            continue
        floor = replace(scene.profile, images=choice.images).floor(sees=True, image_tokens=tokens)
        other = refit(choice, scene, replace(settings, image_tokens=tokens, num_ctx=floor))
        yield Other(
            _weigh(other, scene),
            why=f"images of at most {tokens} tokens",
            cost=f"a large page is scaled down to {tokens} tokens ({tokens * 1024 / 1e6:.1f} megapixels)",
        )


def _one_image(choice: Choice, scene: Scene) -> Iterator[Other]:
    if choice.images <= 1 or scene.wish.images is not None or scene.wish.num_ctx:
        return
    floor = replace(scene.profile, images=1).floor(sees=True, image_tokens=choice.settings.image_tokens)
    other = replace(refit(choice, scene, replace(choice.settings, num_ctx=floor)), images=1)
    yield Other(_weigh(other, scene), why="one image at a time", cost="two pictures in one question are cut off")


def _smaller_kv(choice: Choice, scene: Scene) -> Iterator[Other]:
    if scene.wish.kv_type or choice.settings.kv_type_k not in {"f16", "bf16", "f32"}:
        return
    if choice.settings.flash_attn == "off":
        return
    other = refit(choice, scene, replace(choice.settings, kv_type_k="q8_0", kv_type_v="q8_0"))
    yield Other(
        _weigh(other, scene),
        why="KV cache in q8_0",
        cost="the setting is the server's, for all its models; the loss is small but not measured here",
    )


def _projector_on_host(choice: Choice, scene: Scene) -> Iterator[Other]:
    if not choice.model.projector or choice.settings.projector_device == "cpu" or not scene.ground.devices:
        return
    other = refit(choice, scene, replace(choice.settings, projector_device="cpu"))
    yield Other(
        _weigh(other, scene),
        why="projector on the CPU",
        cost="every image takes several seconds more (not measured here)",
    )


def _fewer_layers(choice: Choice, scene: Scene) -> Iterator[Other]:
    """Part of the layers on the CPU, as the runtime's own fit would split them.

    No num_gpu is written: Ollama moves a projector to the CPU where num_gpu is partial, and its fit knows the free
    memory at the time of the load better than a number that was pinned before it.
    """
    if not scene.ground.devices:
        return
    other = refit(choice, scene, replace(choice.settings, gpu_layers="auto"))
    judged = _weigh(other, scene)
    layers = judged.need.layers
    if 0 < layers.on_device < layers.total:
        yield Other(
            judged,
            why=f"{layers.on_device} of {layers.total} layers on the device, as Ollama would split them",
            cost="generation slows with every layer on the CPU (not measured here)",
        )


def _weigh(choice: Choice, scene: Scene) -> Judged:
    return scene.weigh(choice, scene.quick)
