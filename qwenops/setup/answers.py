"""Answers that change nothing: need, plan, machine, as results ready to print."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from qwenops.errors import BadInput, ChildDied, PartMissing
from qwenops.machine.types import Device, Machine
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.ground import Ground
from qwenops.plan.pictures import parse_image_size
from qwenops.plan.types import Choice, Plan, Wish, model_entry
from qwenops.result import Result
from qwenops.setup.given import Given, variants, where_it_is
from qwenops.setup.measured import measured_of, to_measure
from qwenops.setup.requants import in_quant
from qwenops.units import parse_size

if TYPE_CHECKING:
    from qwenops.history import History
    from qwenops.memory.learned import Learned
    from qwenops.runtime.types import Runtime


def look_around(gpu: str | None, *, probe_devices: bool = True) -> tuple[Machine, Runtime | None]:
    """The machine, and the runtime unless the hardware was described.

    The runtime's own device list takes tenths of a second: with `probe_devices` off it is asked only where no driver
    knows a device, since the runtime may see one all the same (Vulkan).
    """
    from qwenops.machine.detect import detect

    machine = detect(gpu)
    if machine.hypothetical:
        return machine, None
    if not probe_devices and not machine.devices and not _runtime_in_sight():
        return machine, None
    from qwenops.runtime.discover import discover

    return machine, discover(probe_devices=probe_devices or not machine.devices)


def _runtime_in_sight() -> bool:
    """Whether something listens where Ollama would, or its program is installed; in a millisecond."""
    import shutil
    import socket

    from qwenops.runtime.host import endpoint

    if shutil.which("ollama"):
        return True
    where = endpoint()
    try:
        socket.create_connection((where.host, where.port_number), timeout=0.25).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class _Question:
    """One model under one choice of settings on one machine: what every rung is asked."""

    model: Model
    settings: LoadSettings
    ground: Ground
    devices: tuple[Device, ...]
    history: History | None
    learned: Learned

    def ask(self, rung: str) -> Need:
        """One rung's need, or the best one's with "auto"."""
        from qwenops.memory import ladder
        from qwenops.memory.reserve import fit_reserve

        return ladder.need(
            self.model,
            self.settings,
            self.devices,
            host=self.ground.host,
            runtime=self.ground.runtime,
            rung=rung,
            history=self.history,
            reserve_bytes=fit_reserve(self.model, self.settings, self.devices, self.ground.environment),
            learned=self.learned,
        )

    def as_data(self, answer: Need) -> dict[str, Any]:
        """An answer as plain JSON values, with what each device is and whether everything finds its place."""
        from qwenops.memory.reserve import warmup_saving
        from qwenops.plan.fit import judge

        judged = judge(
            Choice(self.model, self.settings, images=0),
            answer,
            host=self.ground.host,
            headroom_bytes=0,
            warmup_saving=lambda device: warmup_saving(self.model, self.settings, device),
        )
        descriptions = {d.name: d.description for d in self.ground.devices}
        data = answer.as_data(model_entry(self.model))
        data |= {
            "fits": judged.fits,
            "tightest": judged.tightest,
            "runtime_keeps_all": judged.runtime_keeps_all,
            "host_available_bytes": self.ground.host.available_bytes,
        }
        for row in data["devices"]:
            row["description"] = descriptions.get(row["name"], "")
        return data


def _question(
    path: Given,
    mmproj: Given | None,
    *,
    offline: bool = False,
    gpu: str | None = None,
    rung: str = "auto",
    ctx: int = 4096,
    batch: int | None = None,
    ubatch: int = 512,
    kv: str = "f16",
    gpu_layers: str = "all",
    n_cpu_moe: str | None = None,
    tensor_split: str | None = None,
    main_gpu: int | None = None,
    quant: str | None = None,
    imatrix: bool = False,
    draft: int | None = None,
    draft_model: str | None = None,
    kv_unified: bool | None = None,
    **rest: Any,
) -> _Question:
    from qwenops.memory.learned import learn
    from qwenops.memory.reserve import devices_in_use
    from qwenops.plan.ground import ground
    from qwenops.runtime.facts import DRAFTED_BY_A_MODEL
    from qwenops.runtime.offload import offload_in_force, parse_split

    found = variants((path,), mmproj, offline=offline, most=1 if quant is None else 64, drawn=True)
    kept = rung != "closed form" and not found[0].drawn
    model, made = in_quant(path, found, quant, imatrix=imatrix, header_kept=kept)
    machine, runtime = look_around(gpu, probe_devices=rung != "closed form")
    base = ground(machine, runtime)
    where = where_it_is((path,), found, runtime.store if runtime else None)
    base = replace(base, notes=(*made, *where, *base.notes))
    in_force = offload_in_force(base.environment)
    settings = LoadSettings(
        num_ctx=ctx,
        batch=batch or ubatch,
        ubatch=ubatch,
        kv_type_k=kv,  # type: ignore[arg-type]
        kv_type_v=kv,  # type: ignore[arg-type]
        gpu_layers=_layers(gpu_layers, bool(base.devices)),
        n_cpu_moe=in_force.n_cpu_moe if n_cpu_moe is None else _experts_on_host(n_cpu_moe),
        tensor_split=in_force.tensor_split if tensor_split is None else parse_split(tensor_split, "--tensor-split"),
        main_gpu=in_force.main_gpu if main_gpu is None else main_gpu,
        draft_tokens=(DRAFTED_BY_A_MODEL if draft_model else 0) if draft is None else draft,
        draft_model=draft_model or "",
        kv_unified=in_force.kv_unified if kv_unified is None else kv_unified,
        **rest,
    )
    devices = devices_in_use(model, settings, base.devices, base.host, base.environment)
    known = _known(base.runtime)
    return _Question(model, settings, base, devices, known, learn(known, base.runtime))


def need_result(path: Given, mmproj: Given | None, *, rung: str = "auto", **options: Any) -> Result:
    """What one file needs under the given settings ("qwenops.need/1")."""
    question = _question(path, mmproj, rung=rung, **options)
    answer = question.ask(rung)
    return Result("qwenops.need/1", question.as_data(answer), notes=(*question.ground.notes, *answer.notes))


def compare_result(path: Given, mmproj: Given | None, **options: Any) -> Result:
    """What one file needs, as every rung that answers says it ("qwenops.compare/1"); a note for each that does not."""
    from qwenops.memory.ladder import RUNGS

    question = _question(path, mmproj, **options)
    answers: list[Need] = []
    silent = {}
    for rung in RUNGS[1:]:
        try:
            answers.append(question.ask(rung))
        except (PartMissing, ChildDied) as why:
            silent[rung] = why.message
    entries = [question.as_data(answer) for answer in answers]
    shared = ("model", "settings")
    data = {
        "model": model_entry(question.model),
        "settings": asdict(question.settings),
        "answers": [{k: v for k, v in entry.items() if k not in shared} for entry in entries],
        "silent": [{"rung": rung, "why": why} for rung, why in silent.items()],
    }
    said = dict.fromkeys(note for answer in answers for note in answer.notes)
    notes = (*question.ground.notes, *said, *(f"{rung} does not answer: {why}" for rung, why in silent.items()))
    return Result("qwenops.compare/1", data, notes=notes)


def make_wish(
    *,
    ctx: int | None = None,
    quant: str | None = None,
    kv: str | None = None,
    ubatch: int | None = None,
    images: int | None = None,
    image_tokens: int | None = None,
    image_size: str | None = None,
    projector_device: Any = None,
    headroom: str | None = None,
    rung: str = "auto",
) -> Wish:
    """The command line's pins as a Wish."""
    return Wish(
        num_ctx=ctx,
        quant=quant,
        kv_type=kv,
        ubatch=ubatch,
        images=images,
        image_tokens=image_tokens,
        image_size=None if image_size is None else parse_image_size(image_size),
        projector_device=projector_device,
        headroom_bytes=None if headroom is None else parse_size(headroom),
        rung=rung.replace("-", " "),
    )


def make_plan(
    paths: tuple[Given, ...],
    mmproj: Given | None,
    *,
    gpu: str | None,
    task: str,
    pick: int | None = None,
    offline: bool = False,
    drawn: bool = False,
    **pins: Any,
) -> tuple[Plan, Machine, Runtime | None]:
    """Look around, read the variants, choose. Returns the plan with what it rests on.

    With `drawn`, a published model whose headers are out of reach is planned by its dimensions.
    """
    from qwenops.plan.choose import plan

    wish = make_wish(**pins)
    models = variants(paths, mmproj, offline=offline, drawn=drawn)
    machine, runtime = look_around(gpu)
    measured = measured_of(models, machine, runtime)
    made = plan(models, task, machine, runtime, wish, pick=pick, history=_known(runtime), measured=measured)
    commands = to_measure(made.measured["missing"], paths, models)
    made = replace(made, measured={**made.measured, "next": commands})
    where = where_it_is(paths, models, runtime.store if runtime else None)
    return replace(made, notes=(*where, *made.notes)), machine, runtime


def plan_result(paths: tuple[Given, ...], mmproj: Given | None, *, gpu: str | None, **rest: Any) -> Result:
    """The plan as a result ("qwenops.plan/1"); exit code 1 when nothing fits."""
    made, machine, runtime = make_plan(paths, mmproj, gpu=gpu, drawn=True, **rest)
    return plan_as_result(made, machine, runtime)


def plan_as_result(made: Plan, machine: Machine | None, runtime: Runtime | None) -> Result:
    """A plan with what it rests on, as a result."""
    host = asdict(machine.host) if machine else None
    data = {**made.as_data(), "runtime": runtime_entry(runtime), "host": host}
    return Result("qwenops.plan/1", data, notes=made.notes, exit_code=0 if made.fits == "yes" else 1)


def machine_result(gpu: str | None) -> Result:
    """Devices, host and runtime as they were found ("qwenops.machine/1")."""
    machine, runtime = look_around(gpu)
    data = {
        "devices": [asdict(d) | {"used_bytes": d.used_bytes} for d in machine.devices],
        "host": asdict(machine.host),
        "hypothetical": machine.hypothetical,
        "runtime": runtime_entry(runtime),
        "runtime_devices": [asdict(d) for d in runtime.devices] if runtime else [],
    }
    return Result("qwenops.machine/1", data, notes=(*machine.notes, *(runtime.notes if runtime else ())))


def runtime_entry(runtime: Runtime | None) -> dict[str, Any] | None:
    """The runtime as plain JSON values; its environment stays out, it may hold secrets."""
    if runtime is None:
        return None
    return {
        "place": runtime.place,
        "url": runtime.url,
        "version": runtime.version,
        "llama_server": str(runtime.llama_server_path) if runtime.llama_server_path else None,
        "llama_server_build": runtime.llama_server_build,
        "user": runtime.user,
        "store": str(runtime.store.path) if runtime.store else None,
        "store_writable": runtime.store.writable if runtime.store else None,
        "settings": [asdict(s) for s in runtime.settings],
        "loaded": [asdict(m) for m in runtime.loaded],
    }


def _known(runtime: Runtime | None) -> History | None:
    """The history of loads here; none for hardware that is described, or where nothing runs models."""
    if runtime is None:
        return None
    from qwenops import history

    return history.open()


def _layers(text: str, has_devices: bool) -> Any:
    if text in {"all", "auto"} or text.isdigit():
        layers: Any = int(text) if text.isdigit() else text
        return layers if has_devices else 0
    raise BadInput(f"--gpu-layers {text!r} is not a number of layers", do="--gpu-layers all, auto or a number")


def _experts_on_host(text: str) -> Any:
    if text == "all" or text.isdigit():
        return int(text) if text.isdigit() else text
    raise BadInput(f"--n-cpu-moe {text!r} is not a number of blocks", do="--n-cpu-moe all or a number")


def fits_result(paths: tuple[Given, ...], gpus: tuple[str, ...], *, offline: bool = False, **pins: Any) -> Result:
    """The largest context of each model on each card ("qwenops.fits/1"); exit code 1 when none fits anywhere."""
    from qwenops.machine.cards import known_cards
    from qwenops.machine.detect import detect
    from qwenops.plan.matrix import fits_matrix

    named = [f"{card.name} {size}GB" for card in known_cards() for size, _ in card.sizes_bytes]
    names = named if "all" in gpus else list(dict.fromkeys(gpus))
    models = [model for path in paths for model in variants((path,), None, offline=offline, drawn=True)]
    machines = [detect(name) for name in names] or [detect()]
    cells = fits_matrix(models, machines, make_wish(**pins))
    data = {
        "cards": [
            {"name": name, "free_bytes": sum(d.free_bytes for d in m.devices)}
            for name, m in zip(names or ["this machine"], machines, strict=True)
        ],
        "models": [
            {**model_entry(model), "cells": [asdict(cell) for cell in row]}
            for model, row in zip(models, cells, strict=True)
        ],
    }
    fits = any(cell.num_ctx for row in cells for cell in row)
    notes = tuple(
        dict.fromkeys(n for path in paths for n in where_it_is((path,), (m for m in models if m.drawn), None))
    )
    return Result("qwenops.fits/1", data, notes=notes, exit_code=0 if fits else 1)
