"""Rung 2: ask Ollama's own llama-server what a load would take, without the weights and without loading.

Its fit works out memory for the very graph, backend and build that will serve the model, and prints its table before
it reads weights (llama.cpp b10434, common/fit.cpp); the process is ended there, 0.3 s after its start.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qwenops.errors import PartMissing
from qwenops.machine.types import Device, Kind
from qwenops.memory import probe_cache, probe_question
from qwenops.memory.backends import backend_of, encoder_host_backend
from qwenops.memory.encoder import WARMUP_TOKENS, encoder_of
from qwenops.memory.fit_log import FitLog, FitPass, first_trial_is_done, fit_is_done, parse_fit_log
from qwenops.memory.ghost import make_ghost
from qwenops.memory.growth import grown_encoder
from qwenops.memory.inline import inline_projector
from qwenops.memory.placement import experts_on_host
from qwenops.memory.probe_parts import (
    DeviceParts,
    ProjectorParts,
    device_parts,
    draft_on_host,
    host_parts,
    projector_parts,
)
from qwenops.memory.probe_question import Question, question_of
from qwenops.memory.probe_run import listen, scratch_folder
from qwenops.memory.types import Band, DeviceNeed, Layers, LoadSettings, Need, Rung
from qwenops.model.types import Model, Projector
from qwenops.runtime.find import this_os
from qwenops.runtime.types import Runtime
from qwenops.units import MIB

_KINDS: tuple[tuple[str, Kind], ...] = (
    ("CUDA", "cuda"),
    ("ROCm", "rocm"),
    ("HIP", "rocm"),
    ("Vulkan", "vulkan"),
    ("MTL", "metal"),
    ("Metal", "metal"),
)
_TROUBLE = re.compile(r"error|failed|unknown model architecture|unsupported|invalid argument", re.IGNORECASE)
_UNREACHABLE = {
    "container": "the Ollama server is in a container, where its llama-server cannot be started from here",
    "remote": "the Ollama server is on another machine",
    "wsl": "the Ollama server is on the other side of WSL",
    "none": "no Ollama server was found",
}


def probe(
    model: Model,
    settings: LoadSettings,
    runtime: Runtime,
    *,
    devices: Sequence[Device] | None = None,
    timeout_s: float = 30.0,
) -> Need:
    """What a load of `model` under `settings` takes on each device and on the host, asked of the runtime itself.

    Sizes in bytes; each part within 1 MiB of the buffer that a load then makes, the encoder's growth beyond its size
    at load by the closed form. `devices` are those the load may use (the runtime's own where None), and their free
    figures are the ones returned. Raises PartMissing, saying why, where the runtime cannot be asked or gives no answer
    that is understood.
    """
    server = _askable(runtime, settings)
    seen = tuple(devices) if devices is not None else runtime.devices
    question = question_of(model, settings, runtime, seen)
    key = probe_question.key(model, settings, runtime, server, question)
    answer = probe_cache.read(key, settings) if key else None
    if answer is None:
        answer = _ask(model, settings, runtime, server, question, timeout_s)
        if key:
            probe_cache.keep(key, answer, server)
    return _as_of_now(answer, question)


def _askable(runtime: Runtime, settings: LoadSettings) -> Path:
    if runtime.place in _UNREACHABLE:
        raise PartMissing(_UNREACHABLE[runtime.place])
    server = runtime.llama_server_path
    if server is None or not server.is_file():
        raise PartMissing(f"the runtime's llama-server was not found{f' at {server}' if server else ''}")
    if not os.access(server, os.X_OK):
        raise PartMissing(f"{server} may not be started by this user", do=f"ls -l {server}")
    if settings.outputs == "library":
        raise PartMissing("llama-server cannot be asked about a row of outputs for every batch token")
    return server


def _ask(
    model: Model,
    settings: LoadSettings,
    runtime: Runtime,
    server: Path,
    question: Question,
    timeout_s: float,
) -> Need:
    """Start llama-server on the model or its ghost, read until the answer is there, and make a Need of it."""
    done = fit_is_done if settings.gpu_layers == "auto" else first_trial_is_done
    with make_ghost(model, Path(tempfile.gettempdir())) as ghost, scratch_folder() as folder:
        command = [str(server), *probe_question.flags(question, settings, ghost, _address(folder))]
        share = 0 if question.with_projector else _share_on_device(model, settings, question)
        environment = probe_question.environment(question, runtime, server, share)
        text, answered = listen(command, environment, done, timeout_s)
    if not answered:
        raise PartMissing(f"{server.name} ended without a memory table: {_why(text)}")
    fit = parse_fit_log(text)
    if fit.chosen is None or not fit.chosen.rows:
        raise PartMissing(f"{server.name} printed no memory table that is understood: {_why(text)}")
    return _answer(model, settings, question, fit, fit.chosen)


def _address(folder: Path) -> list[str]:
    """A fresh socket needs no port; Windows gets a free port on the loopback."""
    if this_os() != "windows":
        return ["--host", str(folder / "s.sock")]
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return ["--port", str(free.getsockname()[1]), "--host", "127.0.0.1"]


def _answer(model: Model, settings: LoadSettings, question: Question, fit: FitLog, chosen: FitPass) -> Need:
    parts = device_parts(model, fit, chosen, experts_on_host(question.facts.block_count, settings))
    parts = _as_loaded(parts, model, settings, question, chosen)
    vision = _vision(model, settings, question, fit, chosen)
    needs = tuple(_device_need(p, vision.largest if vision else None) for p in parts)
    host = replace(host_parts(model, chosen), draft_bytes=draft_on_host(fit, apart=bool(settings.draft_model)))
    slack = sum(MIB // 16 if p.exact else MIB for p in parts)
    sources: dict[str, Rung] = dict.fromkeys(("weights", "kv", "state", "compute"), "runtime")
    if fit.draft is not None:
        sources["draft"] = "runtime"
    if vision is not None:
        host = replace(
            host,
            projector_bytes=vision.largest.weights_bytes if vision.largest.device is None else 0,
            encoder_bytes=vision.largest.host_encoder_bytes,
        )
        sources |= {"projector": vision.asked, "encoder": vision.asked if not vision.growth_bytes else "closed form"}
        slack += vision.growth_bytes * 3 // 100
    total = sum(n.total_bytes for n in needs)
    return Need(
        rung="runtime",
        settings=settings,
        devices=needs,
        host=host,
        # Without a device the log still counts every layer as offloaded: the backend is there, the card is not.
        layers=chosen.layers if chosen.layers and needs else Layers(0, question.facts.layers),
        band=Band(max(0, total - slack), total + slack),
        sources=sources,
        notes=_notes(question, settings, fit, chosen, vision),
        flash_attn=chosen.flash_attn,
    )


def _as_loaded(
    parts: tuple[DeviceParts, ...], model: Model, settings: LoadSettings, question: Question, chosen: FitPass
) -> tuple[DeviceParts, ...]:
    """The parts less what the fit counts for several devices and the load does not make."""
    devices = question.load.devices
    if len(parts) < 2 or len(devices) != len(parts):
        return parts
    from qwenops.memory.rehearsal import placement_of, rehearsed_extra

    extra = rehearsed_extra(model, settings, devices, placement_of(chosen))
    return tuple(replace(p, compute_bytes=p.compute_bytes - more) for p, more in zip(parts, extra, strict=True))


def _device_need(part: DeviceParts, vision: ProjectorParts | None) -> DeviceNeed:
    here = vision if vision is not None and vision.device == part.name else None
    return DeviceNeed(
        name=part.name,
        kind=_kind(part.name),
        free_bytes=part.free_bytes,
        weights_bytes=part.weights_bytes,
        kv_bytes=part.kv_bytes,
        state_bytes=part.state_bytes,
        compute_bytes=part.compute_bytes,
        projector_bytes=here.weights_bytes if here else 0,
        encoder_bytes=here.encoder_bytes if here else 0,
        draft_bytes=part.draft_bytes,
    )


def _as_of_now(answer: Need, question: Question) -> Need:
    """The answer under the caller's names of the devices, with what is free and what the runtime keeps free now.

    A child that is shown one of several cards counts it from 0, so devices are matched by their order.
    """
    load = question.load
    if len(load.devices) != len(answer.devices):
        return answer
    needs = tuple(
        replace(need, name=device.name, kind=device.kind, free_bytes=device.free_bytes, reserve_bytes=target)
        for need, device, target in zip(answer.devices, load.devices, load.fit_target_bytes, strict=True)
    )
    return replace(answer, devices=needs)


def _kind(name: str) -> Kind:
    return next((kind for prefix, kind in _KINDS if name.startswith(prefix)), "vulkan")


# --- the projector


@dataclass(frozen=True)
class _Vision:
    """The projector with the encoder as large as the largest image makes it, by how much that is more, and who said."""

    largest: ProjectorParts
    growth_bytes: int
    asked: Rung


def _vision(model: Model, settings: LoadSettings, question: Question, fit: FitLog, chosen: FitPass) -> _Vision | None:
    projector = model.projector or inline_projector(model)
    if projector is None:
        return None
    said = projector_parts(projector.header, fit)
    at_load = said or _by_formula(projector, settings, question)
    if said is None and at_load.device is not None:
        # The first device of the load, under the name that the child has for it.
        at_load = replace(at_load, device=chosen.devices[0].name)
    device, host = grown_encoder(
        projector,
        settings.image_tokens,
        _device(chosen, at_load.device),
        warm_device_bytes=at_load.encoder_bytes,
        warm_host_bytes=at_load.host_encoder_bytes,
        flash_attn=settings.flash_attn != "off",
    )
    return _Vision(
        replace(at_load, encoder_bytes=device, host_encoder_bytes=host),
        growth_bytes=device - at_load.encoder_bytes,
        asked="runtime" if said else "closed form",
    )


def _by_formula(projector: Projector, settings: LoadSettings, question: Question) -> ProjectorParts:
    """The projector at its load size where the runtime was not asked about it, or could not make room to say."""
    load = question.load
    device = load.devices[0] if load.devices and load.projector_on_cpu is None else None
    backend = backend_of(device) if device else encoder_host_backend()
    encoder = encoder_of(projector, WARMUP_TOKENS, flash_attn=settings.flash_attn != "off", backend=backend)
    return ProjectorParts(
        device=device.name if device else None,
        weights_bytes=encoder.weights_bytes,
        encoder_bytes=encoder.device_bytes,
        host_encoder_bytes=encoder.host_bytes,
    )


def _share_on_device(model: Model, settings: LoadSettings, question: Question) -> int:
    projector = model.projector or inline_projector(model)
    parts = _by_formula(projector, settings, question) if projector else None
    return parts.weights_bytes + parts.encoder_bytes if parts and parts.device else 0


def _device(chosen: FitPass, name: str | None) -> Device | None:
    row = chosen.row(name) if name else None
    if row is None:
        return None
    return Device(row.name, _kind(row.name), row.description, row.total_bytes or 0, row.free_bytes or 0)


# --- in words


def _notes(
    question: Question, settings: LoadSettings, fit: FitLog, chosen: FitPass, vision: _Vision | None
) -> tuple[str, ...]:
    notes = []
    layers = chosen.layers
    if settings.gpu_layers == "auto" and layers and layers.on_device < layers.total:
        notes.append(f"the runtime keeps {layers.on_device} of {layers.total} layers on the device and spills the rest")
    if fit.overflowing_layers:
        notes.append(f"{fit.overflowing_layers} of them leave their experts on the host")
    why = question.load.projector_on_cpu
    if vision and why and settings.projector_device == "gpu":
        notes.append(f"Ollama puts the projector on the CPU ({why})")
    if vision and vision.asked == "closed form":
        notes.append("too little memory is free now to ask the runtime about the projector: its part is a formula's")
    return tuple(notes)


def _why(text: str) -> str:
    """The line that tells most about a silent end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    trouble = [line for line in lines if _TROUBLE.search(line)]
    return (trouble or lines or ["it wrote nothing"])[-1][:300]
