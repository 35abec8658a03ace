"""Rung 2: ask Ollama's own llama-server what a load would take, without the weights and without loading.

Its fit works out memory for the very graph, backend and build that will serve the model, and prints its table before
it reads weights (llama.cpp b10434, common/fit.cpp); the process is ended there, 0.3 s after its start.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qwenops.errors import PartMissing
from qwenops.machine.types import Device, Kind
from qwenops.memory import probe_cache
from qwenops.memory.ghost import make_ghost
from qwenops.memory.growth import grown_encoder
from qwenops.memory.inline import inline_projector
from qwenops.memory.probe_log import FitLog, FitPass, first_trial_is_done, fit_is_done, parse_fit_log
from qwenops.memory.probe_parts import (
    DeviceParts,
    ProjectorParts,
    device_parts,
    host_parts,
    projector_parts,
)
from qwenops.memory.probe_run import listen, scratch_folder
from qwenops.memory.reserve import facts_of
from qwenops.memory.types import Band, DeviceNeed, Layers, LoadSettings, Need, Rung
from qwenops.model.types import Model
from qwenops.runtime.facts import ModelFacts, RunOptions
from qwenops.runtime.find import this_os
from qwenops.runtime.fit_target import fit_target_bytes
from qwenops.runtime.flags import flags_of, server_environment
from qwenops.runtime.rules import ServerLoad, resolve_load
from qwenops.runtime.types import Runtime
from qwenops.units import MIB

_OS = this_os()
_KINDS: tuple[tuple[str, Kind], ...] = (
    ("CUDA", "cuda"),
    ("ROCm", "rocm"),
    ("HIP", "rocm"),
    ("Vulkan", "vulkan"),
    ("MTL", "metal"),
    ("Metal", "metal"),
)
# What belongs to the server's environment, and must not leak in from the shell that runs qwenops.
_THE_SERVERS_OWN = re.compile(r"^(OLLAMA_|LLAMA_ARG_|GGML_|CUDA_VISIBLE|HIP_VISIBLE|ROCR_VISIBLE|GPU_DEVICE_ORDINAL)")
_CHANGES_NO_MEMORY = frozenset({"OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_DEBUG", "OLLAMA_KEEP_ALIVE", "OLLAMA_ORIGINS"})
_TROUBLE = re.compile(r"error|failed|unknown model architecture|unsupported|invalid argument", re.IGNORECASE)
_UNREACHABLE = {
    "container": "the Ollama server is in a container, where its llama-server cannot be started from here",
    "remote": "the Ollama server is on another machine",
    "wsl": "the Ollama server is on the other side of WSL",
    "none": "no Ollama server was found",
}


@dataclass(frozen=True)
class _Question:
    """One start of llama-server: the model's facts, the load as Ollama would resolve it, the options behind it."""

    facts: ModelFacts
    load: ServerLoad
    options: RunOptions


def probe(
    model: Model,
    settings: LoadSettings,
    runtime: Runtime,
    *,
    devices: Sequence[Device] | None = None,
    timeout_s: float = 30.0,
) -> Need:
    """What a load of `model` under `settings` takes on each device and on the host, asked of the runtime itself.

    Sizes in bytes; each part within 1 MiB of the buffer that a load then makes. `devices` are those the load may use
    (the runtime's own where None), and their free figures are the ones returned.
    Raises PartMissing, saying why, where the runtime cannot be asked or gives no answer that is understood.
    """
    server = _askable(runtime, settings)
    seen = tuple(devices) if devices is not None else runtime.devices
    question = _question(model, settings, runtime, seen)
    key = None if settings.gpu_layers == "auto" else _key(model, settings, runtime, server, question)
    answer = probe_cache.read(key, settings) if key else None
    if answer is None:
        answer = _ask(model, settings, runtime, server, question, timeout_s)
        if key:
            probe_cache.keep(key, answer)
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


def _question(model: Model, settings: LoadSettings, runtime: Runtime, seen: Sequence[Device]) -> _Question:
    facts = facts_of(model)
    num_gpu = {"all": facts.layers, "auto": -1}.get(str(settings.gpu_layers), settings.gpu_layers)
    options = RunOptions(
        num_ctx=settings.num_ctx,
        num_batch=settings.batch,
        num_gpu=int(num_gpu),
        use_mmap=None if settings.mmap else False,
    )
    load = resolve_load(facts, options, runtime.environment, seen, os=_OS)
    # What the caller asks for rules over what the server's environment says now: the plan may change that.
    load = replace(
        load,
        num_ctx=settings.num_ctx,
        parallel=settings.parallel,
        flash_attn=settings.flash_attn,
        kv_type=settings.kv_type_k if settings.kv_type_k == settings.kv_type_v else "",
    )
    if settings.projector_device == "cpu" and load.projector_on_cpu is None:
        target = fit_target_bytes(0, runtime.environment, devices=len(load.devices))
        load = replace(load, projector_on_cpu="as asked", fit_target_bytes=target)
    return _Question(facts, load, options)


def _key(model: Model, settings: LoadSettings, runtime: Runtime, server: Path, question: _Question) -> str:
    from qwenops.model.read import model_key

    binary = server.stat()
    return probe_cache.key_of(
        {
            "model": model_key(model),
            "settings": asdict(settings),
            "runtime": [runtime.version, runtime.llama_server_build, str(server), binary.st_size, binary.st_mtime_ns],
            "devices": [[d.name, d.description, d.total_bytes] for d in question.load.devices],
            "projector_on_cpu": question.load.projector_on_cpu,
            "environment": {
                name: value
                for name, value in runtime.environment.items()
                if _THE_SERVERS_OWN.match(name) and name not in _CHANGES_NO_MEMORY
            },
        }
    )


def _ask(
    model: Model,
    settings: LoadSettings,
    runtime: Runtime,
    server: Path,
    question: _Question,
    timeout_s: float,
) -> Need:
    """Start llama-server on the model or its ghost, read until the answer is there, and make a Need of it."""
    done = fit_is_done if settings.gpu_layers == "auto" else first_trial_is_done
    with make_ghost(model, Path(tempfile.gettempdir())) as ghost, scratch_folder() as folder:
        inline = question.facts.projector_path == question.facts.path
        projector = str(ghost.model) if inline else str(ghost.projector) if ghost.projector else None
        facts = replace(question.facts, path=str(ghost.model), projector_path=projector)
        flags = flags_of(question.load, facts, question.options, listen=_address(folder), os=_OS)
        command = [str(server), *_as_question(flags, settings)]
        text, answered = listen(command, _environment(question, runtime, server), done, timeout_s)
    if not answered:
        raise PartMissing(f"{server.name} ended without a memory table: {_why(text)}")
    fit = parse_fit_log(text)
    if fit.chosen is None or not fit.chosen.rows:
        raise PartMissing(f"{server.name} printed no memory table that is understood: {_why(text)}")
    return _answer(model, settings, question, fit, fit.chosen)


def _address(folder: Path) -> list[str]:
    """A fresh socket needs no port; Windows gets a free port on the loopback."""
    if _OS != "windows":
        return ["--host", str(folder / "s.sock")]
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return ["--port", str(free.getsockname()[1]), "--host", "127.0.0.1"]


def _as_question(flags: Sequence[str], settings: LoadSettings) -> list[str]:
    """Ollama's flags, and what only changes how much is said or what Ollama has no option for."""
    asked = list(flags)
    asked[asked.index("--log-verbosity") + 1] = "5"
    asked += ["--fit", "on"]
    if settings.ubatch != settings.batch:
        asked += ["-ub", str(settings.ubatch)]
    if settings.kv_type_k != settings.kv_type_v:
        asked += ["--cache-type-k", settings.kv_type_k, "--cache-type-v", settings.kv_type_v]
    if settings.swa_full:
        asked += ["--swa-full"]
    return asked


def _environment(question: _Question, runtime: Runtime, server: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not _THE_SERVERS_OWN.match(name)}
    theirs = server_environment(
        question.load,
        question.facts,
        {**ours, **runtime.environment},
        llama_server=server,
        backends=runtime.backends,
        os=_OS,
    )
    return {**theirs, "LLAMA_ARG_FIT": "on"}


def _answer(
    model: Model,
    settings: LoadSettings,
    question: _Question,
    fit: FitLog,
    chosen: FitPass,
) -> Need:
    parts = device_parts(model, fit, chosen)
    vision = _vision(model, settings, fit, chosen)
    needs = tuple(_device_need(p, vision) for p in parts)
    host = host_parts(model, chosen)
    if vision is not None:
        host = replace(
            host,
            projector_bytes=vision.weights_bytes if vision.device is None else 0,
            encoder_bytes=vision.host_encoder_bytes,
        )
    total = sum(n.total_bytes for n in needs)
    slack = sum(MIB // 16 if p.exact else MIB for p in parts)
    sources: dict[str, Rung] = dict.fromkeys(("weights", "kv", "state", "compute"), "runtime")
    if vision is not None:
        sources |= {"projector": "runtime", "encoder": "runtime"}
    return Need(
        rung="runtime",
        settings=settings,
        devices=needs,
        host=host,
        layers=chosen.layers or Layers(0, question.facts.layers),
        band=Band(max(0, total - slack), total + slack),
        sources=sources,
        notes=_notes(question, settings, fit, chosen),
        flash_attn=chosen.flash_attn,
    )


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


def _as_of_now(answer: Need, question: _Question) -> Need:
    """The answer under the caller's names of the devices, with what is free and what the runtime keeps free now.

    A child that is shown one of several cards counts it from 0, so devices are matched by their order.
    """
    load = question.load
    if len(load.devices) != len(answer.devices):
        return answer
    targets = load.fit_target_bytes
    needs = tuple(
        replace(
            need,
            name=device.name,
            kind=device.kind,
            free_bytes=device.free_bytes,
            reserve_bytes=targets[i] if i < len(targets) else 0,
        )
        for i, (need, device) in enumerate(zip(answer.devices, load.devices, strict=True))
    )
    return replace(answer, devices=needs)


def _kind(name: str) -> Kind:
    return next((kind for prefix, kind in _KINDS if name.startswith(prefix)), "vulkan")


def _vision(model: Model, settings: LoadSettings, fit: FitLog, chosen: FitPass) -> ProjectorParts | None:
    """The projector, with its encoder as large as the largest image makes it."""
    projector = model.projector or inline_projector(model)
    if projector is None:
        return None
    parts = projector_parts(projector.header, fit)
    if parts is None:
        return None
    row = chosen.row(parts.device) if parts.device else None
    device, host = grown_encoder(
        projector,
        settings.image_tokens,
        Device(row.name, _kind(row.name), row.description, row.total_bytes or 0, row.free_bytes or 0) if row else None,
        warm_device_bytes=parts.encoder_bytes,
        warm_host_bytes=parts.host_encoder_bytes,
        flash_attn=settings.flash_attn != "off",
    )
    return replace(parts, encoder_bytes=device, host_encoder_bytes=host)


def _notes(question: _Question, settings: LoadSettings, fit: FitLog, chosen: FitPass) -> tuple[str, ...]:
    notes = []
    layers = chosen.layers
    if settings.gpu_layers == "auto" and layers and layers.on_device < layers.total:
        notes.append(f"the runtime keeps {layers.on_device} of {layers.total} layers on the device and spills the rest")
    if fit.overflowing_layers:
        notes.append(f"{fit.overflowing_layers} of them leave their experts on the host")
    why = question.load.projector_on_cpu
    if question.facts.projector_path and why and settings.projector_device == "gpu":
        notes.append(f"Ollama puts the projector on the CPU ({why})")
    return tuple(notes)


def _why(text: str) -> str:
    """The line that tells most about a silent end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    trouble = [line for line in lines if _TROUBLE.search(line)]
    return (trouble or lines or ["it wrote nothing"])[-1][:300]
