"""The planner: among the given variants the best quant that fits with what the task needs, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwenops.errors import BadInput
from qwenops.machine.types import Device, Machine
from qwenops.memory.types import KV_TYPES
from qwenops.model.image_tokens import CELL_PIXELS
from qwenops.model.types import Model
from qwenops.plan.fit import HOST_SHARE
from qwenops.plan.ground import Ground, ground
from qwenops.plan.holding import Holding
from qwenops.plan.measured import Measured
from qwenops.plan.nearest import nearest, what_would_do
from qwenops.plan.order import decisive, merit
from qwenops.plan.pictures import floor_of
from qwenops.plan.profile import CONTEXT_STEP
from qwenops.plan.scene import make_scene
from qwenops.plan.search import (
    Scene,
    best_that_fits,
    bound,
    first_choice,
    hopeless,
    largest_context,
    smallest,
    trained_context,
    widen,
)
from qwenops.plan.table import table
from qwenops.plan.types import Choice, Fits, Judged, Other, Plan, Wish
from qwenops.units import human

if TYPE_CHECKING:
    from qwenops.runtime.types import Runtime

RUNNERS_UP = 3


def plan(
    models: Sequence[Model],
    task: str,
    machine: Machine,
    runtime: Runtime | None,
    wish: Wish | None = None,
    *,
    pick: int | None = None,
    history: Any = None,
    measured: Measured | None = None,
) -> Plan:
    """Choose quant, context, ubatch and placement for a task on a machine.

    Everything on the devices, and of all that fits what the task prefers (profiles.toml), unless what was `measured` of
    the variants shows another one to serve better (docs/choice.md). `pick` takes the N-th of the suggestions made when
    nothing fits. Raises BadInput for a wish that no variant can meet.
    """
    wish = wish or Wish()
    _check(wish)
    scene = make_scene(task, ground(machine, runtime), wish, history)
    starts = [first_choice(m, scene) for m in _ranked(models, wish)]
    hold = Holding(measured or Measured(), scene)
    by_bits, rejected = _ranking(starts, scene, hold)
    ranked = hold.in_order(by_bits)

    chosen: Judged | None = None
    while ranked and chosen is None:
        start = ranked.pop(0)[0]
        judged = widen(start, scene)
        if judged.fits == "yes":
            chosen = judged
        else:
            rejected.append(judged)
    if chosen is None:
        chosen = _second_look(rejected, scene)

    suggestions = () if chosen else nearest(tuple(starts), scene)
    lost = {id(one.choice.model) for one in rejected}
    first = next((judged for _, judged in by_bits if id(judged.choice.model) not in lost), None)
    if pick is not None:
        chosen = _picked(pick, chosen, suggestions, scene)
    return Plan(
        profile=task,
        fits=chosen.fits if chosen else _closest(rejected),
        chosen=chosen,
        runners_up=tuple(Other(j, why=_second_to(j, chosen, scene, hold)) for _, j in ranked[:RUNNERS_UP])
        if chosen
        else (),
        rejected=tuple(Other(j, why=_why_not(j, chosen, scene)) for j in rejected),
        nearest=() if pick is not None else suggestions,
        reasons=_reasons(chosen, scene, hold, first) if chosen else (),
        notes=(*scene.ground.notes, *_blind(starts, scene)),
        devices=tuple(_device_entry(d, scene.ground) for d in scene.ground.devices),
        needs_asked=scene.asked(),
        measured={
            **hold.as_data(chosen, [judged for _, judged in ranked[:RUNNERS_UP]], first),
            "variants": _variants(starts, (*by_bits, *ranked), rejected, hold, scene, chosen),
        },
    )


def _ranking(starts: Sequence[Choice], scene: Scene, hold: Holding) -> tuple[list[tuple[Choice, Judged]], list[Judged]]:
    """Each variant's best that fits by the quick rung, the most preferred first, and the variants that do not fit.

    A variant that cannot come before the last runner-up is not searched, unless measurements may put it there.
    """
    found: list[tuple[Choice, Judged]] = []
    rejected: list[Judged] = []
    for start in starts:
        settled = len(found) > RUNNERS_UP and not hold.measured.speaks_of(start.model)
        if settled and bound(start, scene) <= merit(found[RUNNERS_UP][1].choice, scene.profile):
            continue
        best = best_that_fits(start, scene)
        if best is None:
            rejected.append(smallest(start, scene))
            continue
        found.append((start, best))
        found.sort(key=lambda pair: merit(pair[1].choice, scene.profile), reverse=True)
    return found, rejected


def _variants(
    starts: Sequence[Choice],
    found: Sequence[tuple[Choice, Judged]],
    rejected: Sequence[Judged],
    hold: Holding,
    scene: Scene,
    chosen: Judged | None,
) -> list[dict[str, Any]]:
    """The table of every variant that was searched, the one of most bits first."""
    best = {id(judged.choice.model): judged for _, judged in found}
    best |= {id(judged.choice.model): judged for judged in rejected}
    if chosen is not None:
        best[id(chosen.choice.model)] = chosen
    searched = [(start, best[id(start.model)]) for start in starts if id(start.model) in best]
    return table(searched, hold.measured, scene, hold.load, chosen)


def _second_look(rejected: list[Judged], scene: Scene) -> Judged | None:
    """What is inside the band by formula, asked of the best rung there is; the first that fits is taken out."""
    for number, judged in enumerate(rejected):
        if judged.fits == "too close":
            rejected[number] = scene.confirm(judged)
            if rejected[number].fits == "yes":
                return rejected.pop(number)
    return None


def _check(wish: Wish) -> None:
    if wish.kv_type is not None and wish.kv_type not in KV_TYPES:
        raise BadInput(f"{wish.kv_type!r} is not a KV type", do=f"--kv {'|'.join(KV_TYPES)}")
    if wish.num_ctx is not None and wish.num_ctx <= 0:
        raise BadInput(f"a context of {wish.num_ctx} tokens cannot be", do="--ctx 8192")


def _ranked(models: Sequence[Model], wish: Wish) -> list[Model]:
    """Best quant first; only the pinned one where one is pinned."""
    from qwenops.model.quants import quality_rank

    if wish.quant is not None:
        wanted = wish.quant.upper()
        models_of = [m for m in models if m.quant.upper() == wanted]
        if not models_of:
            there = ", ".join(sorted({m.quant for m in models}))
            raise BadInput(f"none of the given variants is {wish.quant}", do=f"there are: {there}")
        models = models_of
    return sorted(models, key=lambda m: (quality_rank(m.quant), m.file_bytes), reverse=True)


def _picked(pick: int, chosen: Judged | None, suggestions: tuple[Other, ...], scene: Scene) -> Judged:
    if chosen is not None:
        raise BadInput("--pick chooses among suggestions, and there are none: the plan fits", do="leave --pick out")
    if not 1 <= pick <= len(suggestions):
        there = f"--pick takes 1 to {len(suggestions)}" if suggestions else "there are none: take a smaller quant"
        raise BadInput(f"there is no suggestion {pick}", do=there)
    other = suggestions[pick - 1].judged
    confirmed = scene.weigh(other.choice, scene.best)
    if other.choice.num_gpu is not None:
        return confirmed
    return scene.confirm(other)


def _blind(starts: Sequence[Choice], scene: Scene) -> tuple[str, ...]:
    """A word where the task has pictures and the model has no eyes."""
    first = starts[0].model
    if scene.profile.images == 0 or scene.wish.images == 0 or first.projector or first.inline_vision:
        return ()
    if scene.profile.pictures_only:
        raise BadInput(
            f"{first.name} has no projector, and {scene.profile.name} is nothing without pictures",
            do=("--mmproj FILE", "--for chat"),
        )
    if first.architecture in CELL_PIXELS:
        return (
            f"no projector (mmproj) lies beside {first.path.name}: planned without pictures; name it with --mmproj",
        )
    if scene.profile.name == "chat":
        return ()
    return (f"{first.name} ({first.architecture}) cannot see: planned without the pictures of {scene.profile.name}",)


def _closest(judged: list[Judged]) -> Fits:
    return "too close" if any(j.fits == "too close" for j in judged) else "no"


def _why_not(judged: Judged, chosen: Judged | None, scene: Scene) -> str:
    """What the fullest place would need, what is free there, and the largest context it would have run with."""
    settings = judged.choice.settings
    said = f"{_tightest(judged, scene)} with num_ctx {settings.num_ctx}"
    if judged.fits == "too close":
        return f"{said}: inside the band, not promised"
    if not scene.ground.devices or hopeless(judged.choice, scene):
        return said
    if scene.wish.num_ctx is None:
        most = largest_context(judged.choice, scene, low=CONTEXT_STEP, high=settings.num_ctx)
        if most:
            said += f"; num_ctx {most} would fit, too small for the task"
    # where nothing fits, the ways out say so for all variants together
    would = what_would_do(judged.choice, scene) if chosen else None
    return f"{said}; with {would.why} the task would fit" if would else said


def _tightest(judged: Judged, scene: Scene) -> str:
    """'needs 12.28 GiB of 11.36 GiB', naming the place where it is not the only one."""
    device = next((d for d in judged.need.devices if d.name == judged.tightest), None)
    if device is None:
        host = scene.ground.host
        usable = f"{HOST_SHARE:.0%} of the {human(host.available_bytes)} that are free"
        return f"needs {human(judged.need.host.total_bytes)} of host memory, {usable} may be used,"
    where = f" on {device.name}" if len(judged.need.devices) > 1 else ""
    return f"needs {human(device.total_bytes)} of {human(device.free_bytes)}{where}"


def _second_to(judged: Judged, chosen: Judged, scene: Scene, hold: Holding) -> str:
    ours, theirs = judged.choice, chosen.choice
    gain = ours.settings.num_ctx - theirs.settings.num_ctx
    more = f", num_ctx {ours.settings.num_ctx}" if gain > 0 else ""
    why = {
        "weights": f"{theirs.model.quant} is the better quant",
        "context": f"{theirs.model.quant} runs with num_ctx {theirs.settings.num_ctx}, not {ours.settings.num_ctx}",
        "ubatch": f"{theirs.model.quant} reads prompts faster, {theirs.settings.ubatch} tokens at a time",
    }
    if merit(ours, scene.profile) > merit(theirs, scene.profile) and hold.over(chosen, judged):
        return f"fits too{more}; measured here, {theirs.model.quant} serves better"
    key = decisive(theirs, ours, scene.profile).removeprefix("usual_")
    return f"fits too{more}; {why.get(key, f'no better than {theirs.model.quant}')}"


def _pictures(choice: Choice, scene: Scene) -> str:
    """How many pictures of how many tokens, with their size where that was stated."""
    size = scene.wish.image_size
    tokens = choice.picture_tokens
    stated = f" ({size[0]} x {size[1]} pixels)" if size else ""
    return f"{choice.images} image{'s' if choice.images > 1 else ''} of {tokens} tokens{stated}"


def _reasons(chosen: Judged, scene: Scene, hold: Holding, first: Judged | None) -> tuple[str, ...]:
    choice, need = chosen.choice, chosen.need
    settings = choice.settings
    pictures = f"{_pictures(choice, scene)} + " if choice.images else ""
    task = scene.profile
    said = [f"num_ctx {settings.num_ctx}: room for {pictures}{task.prompt_tokens} prompt + {task.answer_tokens} answer"]
    floor = floor_of(choice, task)
    if settings.num_ctx < floor:
        said = [f"num_ctx {settings.num_ctx}: less than the {floor} tokens that the task needs at its fullest"]
    if settings.projector_device == "cpu" and scene.ground.devices and _by_rule(choice, scene):
        said.append("projector on the CPU: Ollama puts it there, since a device has less than its size and 1 GiB free")
    trained = trained_context(choice.model)
    if scene.wish.num_ctx and scene.wish.num_ctx > trained:
        said.append(f"--ctx {scene.wish.num_ctx} is above the {trained} that the model was trained for")
    if scene.ground.devices:
        whole = need.layers.on_device == need.layers.total and not choice.server_settings
        best = "the best given quant that fits with that context" if whole else "as picked"
        said.append(hold.over(chosen, first) or f"{choice.model.quant}: {best}")
    else:
        said.append("no device is there: everything runs on the CPU from host memory")
    if choice.num_gpu is not None and choice.num_gpu >= need.layers.total:
        wanted = sum(d.total_bytes + d.reserve_bytes for d in need.devices)
        said.append(
            f"num_gpu {choice.num_gpu}: everything fits, but Ollama's own fit would want {human(wanted)} free and move "
            "layers to the CPU; naming every layer switches it off"
        )
    elif choice.num_gpu is not None:
        said.append(f"num_gpu {choice.num_gpu} of {need.layers.total}: the rest runs on the CPU")
    for name, value in choice.server_settings:
        said.append(f"the server must be started with {name}={value}")
    return tuple(said)


def _by_rule(choice: Choice, scene: Scene) -> bool:
    """Whether the projector is on the CPU without anyone having asked for it."""
    asked = dict(choice.server_settings).get("LLAMA_ARG_MMPROJ_OFFLOAD") == "0"
    return choice.model.projector is not None and not asked and scene.wish.projector_device != "cpu"


def _device_entry(device: Device, base: Ground) -> dict[str, Any]:
    """A device with who holds its memory: other processes apart from Ollama's own idle models."""
    return {
        "name": device.name,
        "description": device.description,
        "kind": device.kind,
        "total_bytes": device.total_bytes,
        "free_bytes": device.free_bytes,
        "evictable_bytes": base.evictable_bytes,
        "source": device.source,
        "processes": [{"pid": p.pid, "name": p.name, "used_bytes": p.used_bytes} for p in device.processes],
    }
