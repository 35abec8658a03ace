"""The search for one variant: of every micro-batch and context that fits, what the task prefers.

A need grows with the context and with the micro-batch (tests/memory/test_closed_form_laws.py), so for each micro-batch
the largest context that fits stands for all, and a smaller micro-batch is of interest only where it gives more context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

from qwenops.errors import BadInput
from qwenops.machine.types import Kind
from qwenops.memory.backends import backend_of
from qwenops.memory.types import DeviceNeed, KVType, LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.fit import DEFAULT_HEADROOM_BYTES, judge, pin_layers
from qwenops.plan.ground import Ground
from qwenops.plan.order import Merit, merit
from qwenops.plan.pictures import floor_of, picture_tokens
from qwenops.plan.profile import CONTEXT_STEP, Profile
from qwenops.plan.types import Choice, Judged, Wish
from qwenops.runtime.flags import IMAGE_MIN_TOKENS, IMAGE_MIN_TOKENS_ARCHITECTURES
from qwenops.runtime.offload import offload_in_force

# Prompt speed grows with the ubatch and so does the compute buffer; above 2048 llama.cpp gains nothing on one card.
UBATCHES = (2048, 1024, 512)
SMALLEST_UBATCHES = (512, 256, 128)
DEFAULT_IMAGE_CAP = 4096

AskNeed = Callable[[Model, LoadSettings], Need]


@dataclass(frozen=True)
class Scene:
    """Everything a search needs to know that does not change while it runs."""

    profile: Profile
    ground: Ground
    wish: Wish
    quick: AskNeed
    best: AskNeed
    warmup_saving: Callable[[Model, LoadSettings, DeviceNeed], int]
    asked: Callable[[], int] = lambda: 0  # how many different questions of need it took so far

    @property
    def headroom_bytes(self) -> int:
        """What stays free on every device beyond the need's upper edge."""
        pinned = self.wish.headroom_bytes
        return DEFAULT_HEADROOM_BYTES if pinned is None else pinned

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of the devices in use."""
        return frozenset(d.kind for d in self.ground.devices)

    def weigh(self, choice: Choice, ask: AskNeed) -> Judged:
        """Ask one rung for the choice's need and judge it.

        Where Ollama's own rule will put the projector on the CPU, that is what the choice comes to.
        """
        need = ask(choice.model, choice.settings)
        settings = replace(choice.settings, projector_device=need.settings.projector_device)
        choice = replace(choice, settings=settings)
        return judge(
            choice,
            need,
            host=self.ground.host,
            headroom_bytes=self.headroom_bytes,
            warmup_saving=lambda d: self.warmup_saving(choice.model, settings, d),
        )

    def confirm(self, judged: Judged) -> Judged:
        """Ask the best rung for a finalist, and pin its layers where the runtime's reserve would spill them."""
        return pin_layers(self.weigh(judged.choice, self.best))


def first_choice(model: Model, scene: Scene) -> Choice:
    """The variant at the smallest context that holds the task, everything on the device."""
    sees = model.projector is not None or model.inline_vision
    profile, wish, ground = scene.profile, scene.wish, scene.ground
    cap = _image_cap(model, scene) if sees else DEFAULT_IMAGE_CAP
    images = (profile.images if wish.images is None else wish.images) if sees else 0
    on_device = bool(ground.devices)
    kv = cast("KVType", wish.kv_type or ground.kv_type)
    ubatch = wish.ubatch or SMALLEST_UBATCHES[0]
    offload = offload_in_force(ground.environment)
    settings = LoadSettings(
        num_ctx=wish.num_ctx or trained_context(model),
        batch=ubatch,
        ubatch=ubatch,
        kv_type_k=kv,
        kv_type_v=kv,
        flash_attn=ground.flash_attn,
        gpu_layers="all" if on_device else 0,
        image_tokens=min(cap, DEFAULT_IMAGE_CAP) if sees else 0,
        projector_device=(wish.projector_device or "gpu") if on_device else "cpu",
        n_cpu_moe=offload.n_cpu_moe,
        tensor_split=offload.tensor_split,
        main_gpu=offload.main_gpu,
        kv_unified=offload.kv_unified,
    )
    choice = refit(Choice(model=model, settings=settings, images=images), scene, settings)
    return _with_context(choice, min(wish.num_ctx or floor_of(choice, profile), trained_context(model)))


def widen(choice: Choice, scene: Scene) -> Judged:
    """The best that fits of one variant, from the smallest context that holds the task on.

    The finalist is asked of the best rung there is; where that rung needs more than the quick one said, the
    difference is added and the search goes on, so what comes back was judged by the best rung.
    """
    extra = 0
    for _ in range(4):
        found = best_that_fits(choice, scene, extra_bytes=extra)
        if found is None:
            break
        judged = scene.confirm(found)
        if judged.fits == "yes":
            return judged
        quick = scene.weigh(judged.choice, scene.quick)
        extra = max(extra + judged.short_bytes, judged.need.total_device_bytes - quick.need.total_device_bytes)
    return scene.confirm(smallest(choice, scene))


def best_that_fits(choice: Choice, scene: Scene, *, extra_bytes: int = 0) -> Judged | None:
    """What the task prefers of all that fits by the quick rung with `extra_bytes` to spare; None where nothing does."""
    if hopeless(choice, scene):
        return None
    found = list(_frontier(choice, scene, extra_bytes))
    return max(found, key=lambda j: merit(j.choice, scene.profile), default=None)


def bound(choice: Choice, scene: Scene) -> Merit:
    """The merit that no way to run this variant can exceed."""
    goal = _goal(choice, scene)
    return merit(_with_ubatch(_with_context(choice, goal), _ubatches(choice, scene)[0]), scene.profile)


def hopeless(choice: Choice, scene: Scene) -> bool:
    """Whether the weights that must lie on the devices are already more than is free there."""
    settings, devices = choice.settings, scene.ground.devices
    if settings.gpu_layers != "all" or settings.n_cpu_moe or not devices:
        return False
    movable = min(backend_of(d).max_tensor_bytes for d in devices)  # what is larger may stay on the host
    blocks = (t for t in choice.model.header.tensors if t.name.startswith("blk.") and ".nextn." not in t.name)
    return sum(t.size_bytes for t in blocks if t.size_bytes <= movable) > scene.ground.free_bytes


def _frontier(choice: Choice, scene: Scene, extra_bytes: int) -> Iterator[Judged]:
    """For each micro-batch the largest context that fits, while that can still be preferred to what was found."""
    floor, goal = choice.settings.num_ctx, _goal(choice, scene)
    ubatches = _ubatches(choice, scene)
    if _spare(choice, scene) < extra_bytes:
        ubatches = tuple(n for n in ubatches if n < choice.settings.ubatch)
        if not ubatches or _spare(_with_ubatch(choice, ubatches[-1]), scene) < extra_bytes:
            return
    best: Merit | None = None
    reached = floor - 1
    for ubatch in ubatches:
        wider = _with_ubatch(choice, ubatch)
        most = merit(_with_context(wider, goal), scene.profile)
        if reached >= goal or (best is not None and most <= best):
            continue
        num_ctx = largest_context(wider, scene, low=max(floor, reached), high=goal, extra_bytes=extra_bytes)
        if num_ctx > reached:
            reached = num_ctx
            found = scene.weigh(_with_context(wider, num_ctx), scene.quick)
            best = max(best or (), merit(found.choice, scene.profile))
            yield found


def _goal(choice: Choice, scene: Scene) -> int:
    floor = choice.settings.num_ctx
    return context_goal(choice.model, scene, floor) if scene.wish.num_ctx is None else floor


def _ubatches(choice: Choice, scene: Scene) -> tuple[int, ...]:
    """The micro-batches to try, the largest first; without a device more than the usual gains nothing."""
    if scene.wish.ubatch is not None:
        return (choice.settings.ubatch,)
    return (*UBATCHES, *SMALLEST_UBATCHES[1:]) if scene.ground.devices else SMALLEST_UBATCHES


def smallest_ubatch(choice: Choice, scene: Scene) -> Choice:
    """The choice with the smallest micro-batch that may be taken."""
    return _with_ubatch(choice, _ubatches(choice, scene)[-1])


def smallest(choice: Choice, scene: Scene) -> Judged:
    """The choice as it is, or with the smallest micro-batch where only that comes near to fitting."""
    judged = scene.weigh(choice, scene.quick)
    if judged.fits == "yes":
        return judged
    least = scene.weigh(smallest_ubatch(choice, scene), scene.quick)
    return least if least.fits != "no" else judged


def largest_context(choice: Choice, scene: Scene, *, low: int, high: int, extra_bytes: int = 0) -> int:
    """The largest context between two bounds that fits by the quick rung; 0 when not even the low one does.

    A need is nearly linear in the context, so the next try is interpolated between the last that fitted and the last
    that did not: about four tries where halving takes seven.
    """

    def spare(num_ctx: int) -> int:
        return _spare(_with_context(choice, num_ctx), scene) - extra_bytes

    above = spare(high)
    if above >= 0:
        return high
    below = spare(low)
    if below < 0:
        return 0
    fits, fails = low // CONTEXT_STEP, -(-high // CONTEXT_STEP)
    halve = False
    while fails - fits > 1:
        middle = (fits + fails) // 2 if halve else fits + (fails - fits) * below // max(1, below - above)
        middle = min(max(middle, fits + 1), fails - 1)
        found = spare(middle * CONTEXT_STEP)
        before = fails - fits
        if found >= 0:
            fits, below = middle, found
        else:
            fails, above = middle, found
        halve = fails - fits > before // 2
    return max(low, fits * CONTEXT_STEP)


def context_goal(model: Model, scene: Scene, floor: int) -> int:
    """The largest context worth having: the task's goal, never above what the model was trained for."""
    return max(floor, min(scene.profile.context_goal, trained_context(model)))


def _spare(choice: Choice, scene: Scene) -> int:
    """Bytes left by the quick rung, negative where they are missing."""
    judged = scene.weigh(choice, scene.quick)
    return judged.spare_bytes if judged.fits == "yes" else min(-1, -judged.short_bytes)


def _image_cap(model: Model, scene: Scene) -> int:
    """The largest picture in tokens, as wished or as the server caps it.

    Raises BadInput below the least that Ollama passes for some families: with the most under the least the runtime
    does not load the projector at all (tools/mtmd/clip.cpp, b10434).
    """
    wished, in_force = scene.wish.image_tokens, scene.ground.image_cap
    cap = wished or in_force or DEFAULT_IMAGE_CAP
    if cap < IMAGE_MIN_TOKENS and model.architecture in IMAGE_MIN_TOKENS_ARCHITECTURES:
        raise BadInput(
            f"Ollama scales pictures for {model.architecture} up to {IMAGE_MIN_TOKENS} tokens at least, and at most "
            f"{cap} contradicts that: the model would not load",
            do=f"--image-tokens {IMAGE_MIN_TOKENS}"
            if wished
            else f"qwenops server write LLAMA_ARG_IMAGE_MAX_TOKENS={IMAGE_MIN_TOKENS}",
        )
    return cap


def trained_context(model: Model) -> int:
    """The context the model was trained for; Ollama lowers a larger num_ctx to it without a word."""
    return int(model.hparam("context_length", 0)) or 1 << 20


def _with_context(choice: Choice, num_ctx: int) -> Choice:
    return replace(choice, settings=replace(choice.settings, num_ctx=num_ctx))


def _with_ubatch(choice: Choice, ubatch: int) -> Choice:
    return replace(choice, settings=replace(choice.settings, batch=ubatch, ubatch=ubatch))


def _missing_settings(settings: LoadSettings, scene: Scene) -> tuple[tuple[str, str], ...]:
    """Server settings that the choice rests on and that are not in force."""
    ground = scene.ground
    wanted: list[tuple[str, str]] = []
    if settings.kv_type_k != ground.kv_type:
        wanted.append(("OLLAMA_KV_CACHE_TYPE", settings.kv_type_k))
    if 0 < settings.image_tokens < (ground.image_cap or DEFAULT_IMAGE_CAP):
        wanted.append(("LLAMA_ARG_IMAGE_MAX_TOKENS", str(settings.image_tokens)))
    if settings.projector_device == "cpu" and settings.gpu_layers != 0 and settings.image_tokens:
        wanted.append(("LLAMA_ARG_MMPROJ_OFFLOAD", "0"))
    return tuple(wanted)


def refit(choice: Choice, scene: Scene, settings: LoadSettings) -> Choice:
    """The same variant under other settings, with the server settings those rest on."""
    environment = scene.ground.environment
    one = picture_tokens(choice.model, settings.image_tokens, scene.profile, scene.wish, environment)
    return replace(
        choice,
        settings=settings,
        picture_tokens=one if choice.images else 0,
        server_settings=_missing_settings(settings, scene),
        num_gpu=None,
    )
