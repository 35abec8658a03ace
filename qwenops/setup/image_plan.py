"""`image plan`: parts, stages and ways of running for one card, as a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qwenops.errors import BadInput
from qwenops.image.catalogue import ImageModel, find
from qwenops.image.memory import Job, Stage
from qwenops.image.parts import ROLES, Part, Role, read_part, remote_part
from qwenops.image.plan import HEADROOM_BYTES, ImagePlan, Option, Room, best_of, budget_gib, make_plan, room_of
from qwenops.image.settings import Settings, choose_settings
from qwenops.result import Result
from qwenops.units import human, parse_size

if TYPE_CHECKING:
    from qwenops.memory.backends import Backend

Given = Path | str

PROMPT_TOKENS: Final = 512
"""What diffusers cuts prompts to by default (max_sequence_length); the models take twice as much."""


def plan_result(
    name: str,
    *,
    gpu: str | None = None,
    size: str | None = None,
    quant: str | None = None,
    given: Mapping[Role, Given | None],
    references: Sequence[str] = (),
    lightning_steps: int | None = None,
    true_cfg_scale: float | None = None,
    prompt_tokens: int | None = None,
    flash: bool = True,
    headroom: str | None = None,
    offline: bool = False,
) -> Result:
    """What a picture takes for each way of running, and what to take on this card ("qwenops.image-plan/1").

    Exit code 1 where nothing fits.
    """
    from qwenops.machine.detect import detect

    model = model_that_runs(name)
    settings = choose_settings(model, size=size, lightning_steps=lightning_steps, true_cfg_scale=true_cfg_scale)
    quants, others = parts_of(model, given, quant=quant, offline=offline)
    job = job_of(model, settings, references, prompt_tokens or PROMPT_TOKENS, flash=flash)
    machine = detect(gpu)
    room = room_of(machine, parse_size(headroom) if headroom else HEADROOM_BYTES)
    made = make_plan(quants, others, job, room)
    data = {
        "model": model.id,
        "title": model.title,
        "size": str(settings.size),
        "steps": settings.steps,
        "evaluations": settings.evaluations,
        "prompt_tokens": job.prompt_tokens,
        "references": [f"{w}x{h}" for w, h in job.references],
        "flash_attention": job.flash,
        "room": _room(room),
        "parts": [_part(part, room.backend, job) for part in others.values()],
        "quants": [_quant(part, made, room, job) for part in quants],
        "best": None if made.best is None else option_data(made.best, room),
        "ways": [option_data(option, room) for option in made.options if option.quant == _shown(made, quants)],
        "seconds_a_step": _seconds(quants, made, str(settings.size)),
    }
    notes = [*machine.notes, *settings.remarks, *_notes(machine.devices, made, quants)]
    return Result("qwenops.image-plan/1", data, tuple(notes), 0 if made.best else 1)


def model_that_runs(name: str) -> ImageModel:
    """A model that stable-diffusion-cpp-python runs as qwen_image. Raises BadInput for the others."""
    model = find(name)
    if not model.is_qwen_image:
        why = (
            "the stable-diffusion.cpp in stable-diffusion-cpp-python 0.4.7 does not know it yet"
            if model.is_qwen
            else "qwenops plans the Qwen-Image models"
        )
        raise BadInput(f"{model.title} cannot be planned: {why}", do=f"qwenops image compare {model.id}")
    return model


def parts_of(
    model: ImageModel, given: Mapping[Role, Given | None], *, quant: str | None = None, offline: bool = False
) -> tuple[tuple[Part, ...], dict[Role, Part]]:
    """The quants of the diffusion model in question, and the other parts: given files, else what was published."""
    from qwenops.image.published import published_part, published_quants, repository

    roles: list[Role] = ["encoder", "vae"]
    if model.value("projector") or given.get("projector"):
        roles.insert(1, "projector")
    others = {role: part_from(role, given.get(role), offline=offline) or published_part(role) for role in roles}
    own = part_from("diffusion", given.get("diffusion"), offline=offline)
    if own is not None:
        return (own,), others
    quants = published_quants(model)
    if quant is not None:
        quants = tuple(part for part in quants if part.quant.upper() == quant.upper())
    if not quants:
        where = repository(model)
        raise BadInput(
            f"no size of {model.title}{f' in {quant}' if quant else ''} is known",
            do=f"--diffusion hf:{where}:{quant or 'Q4_K_M'} reads its header, or give a file",
        )
    return quants, others


def part_from(role: Role, given: Given | None, *, offline: bool = False) -> Part | None:
    """A part from a file here or a reference; None where nothing was given."""
    if given is None:
        return None
    if isinstance(given, str):
        return remote_part(role, given, offline=offline)
    return read_part(role, given)


def job_of(
    model: ImageModel, settings: Settings, references: Sequence[str], prompt_tokens: int, *, flash: bool = True
) -> Job:
    """The picture to plan for; an edit without stated references is planned with one of its own size."""
    sizes = [_pixels(one) for one in references]
    if model.edits and not sizes:
        sizes = [(settings.size.width, settings.size.height)]
    if sizes and not model.edits:
        raise BadInput(f"{model.title} takes no reference pictures", do="qwenops image plan qwen-image-edit-2511")
    guided = (settings.true_cfg_scale or 1.0) > 1.0
    return Job(
        settings.size.width,
        settings.size.height,
        prompt_tokens,
        # a negative prompt of some words; the longer of both decides
        min(prompt_tokens, 64) if guided else None,
        tuple(sizes),
        flash=flash,
        zero_cond=bool(model.value("zero_cond_t")),
    )


def _pixels(text: str) -> tuple[int, int]:
    from qwenops.plan.pictures import parse_image_size

    width, height = parse_image_size(text)
    return width, height


def _shown(made: ImagePlan, quants: Sequence[Part]) -> str:
    """The quant whose ways are shown: the chosen one, else the smallest."""
    return made.best.quant if made.best else quants[-1].quant


def _room(room: Room) -> dict[str, Any]:
    device = room.device
    return {
        "device": None if device is None else device.description,
        "device_bytes": room.device_bytes,
        "host_bytes": room.host_bytes,
    }


def _part(part: Part, backend: Backend | None, job: Job) -> dict[str, Any]:
    from qwenops.memory.backends import encoder_host_backend

    return {
        "role": part.role,
        "what": ROLES[part.role],
        "file": part.name,
        "quant": part.quant,
        "file_bytes": part.file_bytes,
        "loaded_bytes": part.loaded_bytes(backend or encoder_host_backend(), takes_pictures=job.takes_pictures),
        "known_by": part.known,
    }


def _quant(part: Part, made: ImagePlan, room: Room, job: Job) -> dict[str, Any]:
    options = [option for option in made.options if option.quant == part.quant]
    best = best_of(options)
    return {**_part(part, room.backend, job), "best": None if best is None else option_data(best, room)}


def option_data(option: Option, room: Room) -> dict[str, Any]:
    """One way of one quant as plain values; a streamed run is given all the room there is as its budget."""
    budget = ["--max-vram", f"{budget_gib(room):g}"] if option.need.way.placement == "stream" else []
    return {
        "quant": option.quant,
        "way": str(option.need.way),
        "placement": option.need.way.placement,
        "flags": [*option.need.way.flags, *budget],
        "fits": option.fits,
        "fits_device": option.fits_device,
        "fits_host": option.fits_host,
        "device_bytes": option.need.device_bytes,
        "host_bytes": option.need.host_bytes,
        "stages": [stage_data(stage) for stage in option.need.stages],
    }


def stage_data(stage: Stage) -> dict[str, Any]:
    """One stage as plain values."""
    return {
        "stage": stage.name,
        "weights_bytes": stage.weights_bytes,
        "compute_bytes": stage.compute_bytes,
        "on_host": stage.on_host,
        "device_bytes": stage.device_bytes,
        "host_bytes": stage.host_bytes,
    }


def _seconds(quants: Sequence[Part], made: ImagePlan, size: str) -> float | None:
    """Seconds a step as measured here for the chosen file at this size; None before it was run."""
    chosen = next((part for part in quants if made.best and part.quant == made.best.quant), None)
    if chosen is None or chosen.tensors is None:
        return None
    from qwenops import history
    from qwenops.image.parts import part_key

    with history.open() as kept:
        rows = kept.results(kind="image", model_key=part_key(chosen), test=f"step {size}")
    seconds = [float(sample) for row in rows for sample in row.samples]
    return sorted(seconds)[len(seconds) // 2] if seconds else None


def _notes(devices: Sequence[Any], made: ImagePlan, quants: Sequence[Part]) -> list[str]:
    notes = []
    if len(devices) > 1:
        notes.append(f"stable-diffusion.cpp runs on one device; planned for the first of {len(devices)}")
    if made.best is None:
        lacking = min(made.options, key=lambda option: (option.need.device_bytes, option.need.host_bytes))
        what = "on the card" if not lacking.fits_device else "in RAM"
        size = lacking.need.device_bytes if not lacking.fits_device else lacking.need.host_bytes
        notes.append(f"nothing fits: the least is {lacking.quant} {lacking.need.way}, {human(size)} {what}")
    if any(part.known == "published" for part in quants) and made.best and made.best.need.way.placement == "stream":
        notes.append("blocks are taken as equally large; the file's own header would tell (--diffusion)")
    return notes
