"""`image run`: parts and settings checked, the way chosen, pictures made, memory beside the plan, history kept."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from qwenops import worker
from qwenops.errors import BadInput, DoesNotFit, PartMissing, QwenopsError
from qwenops.image.catalogue import ImageModel
from qwenops.image.library import INSTALL, PACKAGE, version
from qwenops.image.lora import read_lora
from qwenops.image.memory import Need, Way, every_way, need
from qwenops.image.parts import ROLES, Part, Role, part_key, read_part
from qwenops.image.plan import Room, budget_gib, room_of
from qwenops.image.run import (
    MOST_SEED,
    OnEvent,
    Painted,
    Wish,
    check_prompt,
    job_for,
    out_paths,
    paint,
    sd_cli,
    write_png,
)
from qwenops.image.settings import choose_settings
from qwenops.memory.backends import encoder_host_backend
from qwenops.result import Result
from qwenops.setup.image_plan import model_that_runs, stage_data
from qwenops.setup.image_record import beside_plan, engine_of, off_plan, settings_text, summary
from qwenops.units import human

WAYS: Final = {
    "gpu": Way("device"),
    "offload": Way("offload"),
    "stream": Way("stream"),
    "cpu": Way("cpu"),
}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Ready:
    """A run that can begin: the wish, its room, what the plan says of it, and where the pictures go.

    `logged` is what the library's log will say: of the model's buffer, the size for the first prompt, though it grows
    where the negative one is longer.
    """

    wish: Wish
    room: Room
    need: Need
    logged: Need
    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def run_result(
    name: str,
    *,
    prompt: str,
    given: Mapping[Role, Path | None],
    out: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    on_event: OnEvent | None = None,
    on_digest: Progress | None = None,
    **wish: Any,
) -> Result:
    """Make pictures ("qwenops.image-run/1"), or with `dry_run` say what would be done and the equal sd-cli command."""
    ready = make_ready(name, prompt, given, out, force=force, **wish)
    data = _foretold(ready)
    if dry_run:
        return Result("qwenops.image-run/1", {**data, "done": False}, ready.notes)
    if version() is None:
        raise PartMissing(f"{PACKAGE} is not installed", do=INSTALL)
    digests = _digests(ready.wish, on_digest)
    painted = paint(ready.wish, on_event)
    beside = beside_plan(ready.logged, painted)
    for index, path in enumerate(ready.paths):
        text = {**settings_text(ready.wish, ready.wish.seed + index, digests), "engine": engine_of(painted)}
        write_png(path, painted.pictures[index], text, summary(ready.wish, ready.wish.seed + index))
    _keep(ready, painted, beside)
    seconds = list(painted.answer["step_seconds"])
    measured = {
        "engine": engine_of(painted),
        "device": painted.answer["backend"],
        "seconds": painted.answer["seconds"],
        "step_seconds": seconds,
        "peak_host_bytes": painted.answer["peak_host_bytes"],
        "memory": beside,
    }
    return Result(
        "qwenops.image-run/1", {**data, "done": True, "measured": measured}, (*ready.notes, *off_plan(beside))
    )


def make_ready(
    name: str,
    prompt: str,
    given: Mapping[Role, Path | None],
    out: Path | None,
    *,
    force: bool = False,
    way: str = "auto",
    vae_tiling: bool = False,
    encoder_on_cpu: bool = False,
    references: Sequence[Path] = (),
    start: Path | None = None,
    strength: float = 0.75,
    loras: Sequence[str] = (),
    seed: int | None = None,
    batch: int = 1,
    threads: int | None = None,
    flash: bool = True,
    **settings: Any,
) -> Ready:
    """Everything that can be said before anything is loaded. Raises BadInput and DoesNotFit."""
    from qwenops.machine.detect import detect

    model = model_that_runs(name)
    notes = list(check_prompt(prompt))
    sizes = _looked_at(model, references, start)
    if start is not None and settings.get("size") is None:
        settings["size"] = _start_size(start)
    chosen = choose_settings(model, **settings)
    parts = _parts(model, given, with_projector=bool(references))
    first = random.SystemRandom().randint(0, MOST_SEED - batch) if seed is None else seed
    paths = out_paths(out or Path(f"{model.id}-{first}.png"), first, batch, force=force)
    machine = detect(None)
    room = room_of(machine)
    if _backend() == "cpu":
        room = Room(None, 0, room.host_bytes)
    wish = Wish(
        prompt=prompt,
        settings=chosen,
        parts=parts,
        way=Way("cpu"),
        seed=first,
        batch=batch,
        references=tuple(references),
        start=start,
        strength=strength,
        loras=tuple(read_lora(text, model) for text in loras),
        threads=threads or machine.host.physical_cores or os.cpu_count() or 1,
        flash=flash,
    )
    asked = _choose(wish, sizes, room, way, vae_tiling=vae_tiling, encoder_on_cpu=encoder_on_cpu)
    wish = _with_way(wish, asked.way, room)
    if loras:
        notes.append("a LoRA is counted by its file; with quantized weights it is kept beside them and adds work")
    first_prompt = replace(job_for(wish, sizes), negative_tokens=None)
    logged = need(wish.parts, first_prompt, asked.way, room.backend, encoder_host_backend())
    both = {stage.name: stage for stage in asked.stages}
    logged = replace(logged, stages=tuple(both["encode"] if s.name == "encode" else s for s in logged.stages))
    return Ready(wish, room, asked, logged, paths, (*notes, *chosen.remarks))


def _with_way(wish: Wish, way: Way, room: Room) -> Wish:
    return replace(wish, way=way, max_vram_gib=budget_gib(room))


def _choose(
    wish: Wish, sizes: Sequence[tuple[int, int]], room: Room, way: str, *, vae_tiling: bool, encoder_on_cpu: bool
) -> Need:
    """The way that was asked for, else the fastest for which there is room."""
    job, host = job_for(wish, sizes), encoder_host_backend()
    if way == "auto":
        ways = [one for one in every_way(has_device=room.device is not None) if one.vae_tiling or not vae_tiling]
        ways = [one for one in ways if one.encoder_on_cpu or not encoder_on_cpu or one.placement == "cpu"]
    else:
        ways = [Way(WAYS[way].placement, vae_tiling, encoder_on_cpu)]
    if room.device is None and way not in ("auto", "cpu"):
        ways = [Way("cpu", vae_tiling)]  # the library has no device to move anything to
    needs = [need(wish.parts, job, one, room.backend, host) for one in ways]
    fitting = [n for n in needs if n.device_bytes <= room.device_bytes and n.host_bytes <= room.host_bytes]
    if fitting:
        return fitting[0]
    if way != "auto":
        return needs[0]  # it was asked for; what it takes is said
    least = min(needs, key=lambda n: (n.device_bytes, n.host_bytes))
    raise DoesNotFit(
        f"no way of running it fits: {least.way} takes {human(least.device_bytes)} on the device and "
        f"{human(least.host_bytes)} in RAM, of {human(room.device_bytes)} and {human(room.host_bytes)}",
        do=("a smaller --size or a smaller quant (qwenops image plan)", "--way cpu     to try all the same"),
    )


def _backend() -> str:
    """What the installed library was built for; "cpu" where there is none."""
    if version() is None:
        return "cpu"
    try:
        return str(worker.run("qwenops.image.library:build_of", {}, limit_s=60)["backend"])
    except QwenopsError:
        return "cpu"


# --- what goes in --------------------------------------------------------------------------------


def _parts(model: ImageModel, given: Mapping[Role, Path | None], *, with_projector: bool) -> dict[Role, Part]:
    """The files: those that were named, the others from the diffusion model's folder."""
    wanted: list[Role] = ["diffusion", "encoder", "vae"]
    named: dict[Role, Part] = {role: read_part(role, path) for role, path in given.items() if path is not None}
    if "diffusion" not in named:
        raise BadInput("the diffusion model's file is not named", do="--diffusion FILE (the others may lie beside it)")
    if with_projector and model.value("projector"):
        wanted.insert(2, "projector")
    diffusion = named["diffusion"].path
    assert diffusion is not None
    missing = [role for role in wanted if role not in named]
    found = _beside(diffusion, missing) if missing else {}
    parts = {**named, **found}
    for role in wanted:
        if role not in parts:
            raise BadInput(f"there is no {ROLES[role]} beside {diffusion.name}", do=f"--{role} FILE")
    return {role: parts[role] for role in wanted}


def _beside(diffusion: Path, wanted: Sequence[Role]) -> dict[Role, Part]:
    found: dict[Role, Part] = {}
    for path in sorted(diffusion.parent.iterdir()):
        if path.suffix.lower() not in (".gguf", ".safetensors") or path == diffusion:
            continue
        for role in wanted:
            try:
                part = read_part(role, path)
            except QwenopsError:
                continue
            if role in found:
                raise BadInput(
                    f"there are two files for the {ROLES[role]}: {found[role].name}, {path.name}", do=f"--{role} FILE"
                )
            found[role] = part
    return found


def _looked_at(model: ImageModel, references: Sequence[Path], start: Path | None) -> list[tuple[int, int]]:
    """Sizes of the references. Raises BadInput for what is no picture, and where the model takes none."""
    from qwenops.model.picture import read_picture

    if references and not model.edits:
        raise BadInput(f"{model.title} takes no reference pictures", do="an Edit model, or --start to begin from one")
    most = model.value("references")
    if most is not None and len(references) > most > 0:
        raise BadInput(f"{model.title} takes {most} reference, not {len(references)}", do="qwen-image-edit-2511")
    if model.edits and not references and start is None:
        raise BadInput(f"{model.title} changes pictures, and none is given", do="--reference FILE")
    if start is not None:
        read_picture(start)
    pictures = [read_picture(path) for path in references]
    return [(picture.width, picture.height) for picture in pictures]


def _start_size(start: Path) -> str:
    """The size of the picture to begin from, brought to multiples of 16."""
    from qwenops.model.picture import read_picture

    picture = read_picture(start)
    return f"{max(16, round(picture.width / 16) * 16)}x{max(16, round(picture.height / 16) * 16)}"


def _digests(wish: Wish, progress: Progress | None) -> dict[str, str]:
    """SHA-256 of every file that goes in, remembered where it was read before."""
    from qwenops.ollama.digest import digest_file

    files = {role: part.path for role, part in wish.parts.items() if part.path is not None}
    found = {}
    for name, path in [*files.items(), *((lora.path.name, lora.path) for lora in wish.loras)]:
        found[str(name)] = (digest_file(path, progress=progress) if progress else digest_file(path)).sha256
    return found


# --- what is said of it --------------------------------------------------------------------------


def _foretold(ready: Ready) -> dict[str, Any]:
    wish = ready.wish
    settings = settings_text(wish, wish.seed, {})
    return {
        "model": wish.settings.model.id,
        "title": wish.settings.model.title,
        "settings": {key: value for key, value in settings.items() if key not in ("schema", "parts")},
        "evaluations": wish.settings.evaluations,
        "batch": wish.batch,
        "files": [str(path) for path in ready.paths],
        "parts": settings["parts"],
        "way": str(wish.way),
        "planned": [stage_data(stage) for stage in ready.need.stages],
        "planned_device_bytes": ready.need.device_bytes,
        "planned_host_bytes": ready.need.host_bytes,
        "sd_cli": sd_cli(wish, ready.paths[0]),
    }


def _keep(ready: Ready, painted: Painted, beside: Sequence[Mapping[str, Any]]) -> None:
    """One row in the history: seconds of each step, and memory beside the plan."""
    from qwenops import history

    wish, answer = ready.wish, painted.answer
    planned = {row["stage"]: row["planned_weights_bytes"] + row["planned_compute_bytes"] for row in beside}
    outcome = history.Outcome(
        kind="image",
        model=wish.settings.model.title,
        test=f"step {wish.settings.size}",
        samples=tuple(answer["step_seconds"]),
        quant=wish.parts["diffusion"].quant,
        model_key=part_key(wish.parts["diffusion"]),
        unit="s",
        engine=engine_of(painted),
        device=answer["backend"].upper() if answer["backend"] == "cpu" else answer["backend"],
        settings={
            "width": wish.settings.size.width,
            "height": wish.settings.size.height,
            "steps": wish.settings.steps,
            "true_cfg_scale": wish.cfg_scale,
            "seed": wish.seed,
            "way": str(wish.way),
            "threads": wish.threads,
        },
        evidence={
            "memory": {"peak_host_bytes": answer["peak_host_bytes"], "peak_device_bytes": None, "planned": planned},
            "stages": list(beside),
            "energy": None,
            "busy": [],
        },
    )
    with history.open() as kept:
        kept.record_result(outcome)
