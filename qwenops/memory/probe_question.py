"""How the runtime is asked: Ollama's own flags and environment for a load, and what makes two questions the same.

Flags and environment are Ollama's (runtime/flags.py); added is only what makes llama-server say more, and what a
LoadSettings can ask for that Ollama has no option for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qwenops.errors import PartMissing
from qwenops.machine.types import Device
from qwenops.memory import probe_cache
from qwenops.memory.ghost import Ghost
from qwenops.memory.reserve import facts_of
from qwenops.memory.types import LoadSettings
from qwenops.model.types import Model
from qwenops.runtime.facts import ModelFacts, RunOptions
from qwenops.runtime.find import this_os
from qwenops.runtime.fit_target import FIT_TARGET, fit_target_bytes, projector_requirement_bytes
from qwenops.runtime.flags import flags_of, server_environment
from qwenops.runtime.offload import SAID_BY_FLAGS, offload_flags
from qwenops.runtime.rules import ServerLoad, resolve_load
from qwenops.runtime.types import Runtime
from qwenops.units import MIB, human

_OS = this_os()
# What belongs to the server's environment, and must not leak in from the shell that runs qwenops.
_THE_SERVERS_OWN = re.compile(r"^(OLLAMA_|LLAMA_ARG_|GGML_|CUDA_VISIBLE|HIP_VISIBLE|ROCR_VISIBLE|GPU_DEVICE_ORDINAL)")
_CHANGES_NO_MEMORY = frozenset({"OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_DEBUG", "OLLAMA_KEEP_ALIVE", "OLLAMA_ORIGINS"})


@dataclass(frozen=True)
class Question:
    """One start of llama-server: the model's facts, the load as Ollama would resolve it, the options behind it.

    `with_projector` is off where asking about the projector, which allocates it for a moment, could run out of memory.
    `held_bytes` is how much less is free on each device now than the load may count on.
    """

    facts: ModelFacts
    load: ServerLoad
    options: RunOptions
    with_projector: bool
    held_bytes: tuple[int, ...] = ()


def question_of(model: Model, settings: LoadSettings, runtime: Runtime, devices: Sequence[Device]) -> Question:
    """What Ollama would start for these settings on these devices."""
    facts = _with_draft(facts_of(model), settings)
    num_gpu = {"all": facts.layers, "auto": -1}.get(str(settings.gpu_layers), settings.gpu_layers)
    options = RunOptions(
        num_ctx=settings.num_ctx,
        num_batch=settings.batch,
        num_gpu=int(num_gpu),
        main_gpu=settings.main_gpu,
        draft_num_predict=settings.draft_tokens or None,
        use_mmap=None if settings.mmap else False,
    )
    load = resolve_load(facts, options, runtime.environment, devices, os=_OS)
    # What the caller asks for rules over what the server's environment says now: the plan may change that.
    load = replace(
        load,
        num_ctx=settings.num_ctx,
        parallel=settings.parallel,
        batch=min(settings.batch, settings.num_ctx * settings.parallel) if facts.pooling else load.batch,
        flash_attn=settings.flash_attn,
        kv_type=settings.kv_type_k if settings.kv_type_k == settings.kv_type_v else "",
    )
    if settings.projector_device == "cpu" and load.projector_on_cpu is None:
        target = fit_target_bytes(0, runtime.environment, devices=len(load.devices))
        load = replace(load, projector_on_cpu="as asked", fit_target_bytes=target)
    return Question(
        facts,
        load,
        options,
        with_projector=_has_room(facts, load, runtime),
        held_bytes=_held(load, runtime),
    )


def _with_draft(facts: ModelFacts, settings: LoadSettings) -> ModelFacts:
    """The facts with the draft model of a Modelfile, and the kind that Ollama takes it for (externalDraftType)."""
    from qwenops.memory.draft_model import DFLASH, draft_model

    draft = draft_model(settings)
    if draft is None:
        return facts
    kind = "draft-dflash" if draft.architecture == DFLASH else "draft-mtp"
    return replace(facts, draft_path=str(draft.path), draft_type=kind)


def _held(load: ServerLoad, runtime: Runtime) -> tuple[int, ...]:
    """By device, how much less is free now than the caller counts on: what idle models hold, and Ollama would evict."""
    now = {d.name: d.free_bytes for d in runtime.devices}
    return tuple(d.free_bytes - now.get(d.name, d.free_bytes) for d in load.devices)


def _has_room(facts: ModelFacts, load: ServerLoad, runtime: Runtime) -> bool:
    """Whether the projector can be tried now. What idle models hold counts as free for a plan, not for this."""
    if facts.projector_path is None:
        return False
    if load.projector_on_cpu is not None:
        return True
    used = {d.name for d in load.devices}
    wanted = projector_requirement_bytes(facts.projector_bytes)
    return all(d.free_bytes >= wanted for d in runtime.devices if d.name in used)


def flags(question: Question, settings: LoadSettings, ghost: Ghost, listen: Sequence[str]) -> list[str]:
    """Ollama's flags for the files that stand for the model, and what makes llama-server say more."""
    inline = question.facts.projector_path == question.facts.path
    projector = ghost.model if inline else ghost.projector
    facts = replace(
        question.facts,
        path=str(ghost.model),
        projector_path=str(projector) if projector and question.with_projector else None,
    )
    asked = flags_of(question.load, facts, question.options, listen=listen, os=_OS)
    asked[asked.index("--log-verbosity") + 1] = "5"
    asked += ["--fit", "on", *offload_flags(settings.n_cpu_moe, settings.tensor_split)]
    if settings.ubatch != settings.batch:
        asked += ["-ub", str(settings.ubatch)]
    if settings.kv_type_k != settings.kv_type_v:
        asked += ["--cache-type-k", settings.kv_type_k, "--cache-type-v", settings.kv_type_v]
    if settings.swa_full:
        asked += ["--swa-full"]
    if settings.kv_unified:
        asked += ["--kv-unified"]
    return asked


def environment(question: Question, runtime: Runtime, server: Path, projector_share_bytes: int = 0) -> dict[str, str]:
    """The environment that Ollama gives the child, so that its fit decides as it will when the model is loaded.

    `projector_share_bytes` is what a projector that is not asked about takes on the device: the fit must leave it free
    as it would for one that is. Raises PartMissing where idle models hold more than the fit can be told to overlook.
    """
    ours = {name: value for name, value in os.environ.items() if not _THE_SERVERS_OWN.match(name)}
    theirs = server_environment(
        question.load,
        question.facts,
        {**ours, **{n: v for n, v in runtime.environment.items() if n not in SAID_BY_FLAGS}},
        llama_server=server,
        backends=runtime.backends,
        os=_OS,
    )
    if question.options.num_gpu < 0 and (projector_share_bytes or any(question.held_bytes)):
        theirs[FIT_TARGET] = _shifted_target(question, projector_share_bytes)
    return {**theirs, "LLAMA_ARG_FIT": "on"}


def _shifted_target(question: Question, projector_share_bytes: int) -> str:
    """The fit keeps layers while free - need >= target: what will be free and is not yet comes off the target."""
    targets = [
        target + projector_share_bytes - held
        for target, held in zip(question.load.fit_target_bytes, question.held_bytes, strict=True)
    ]
    if min(targets, default=0) < 0:
        raise PartMissing(
            f"idle models hold {human(max(question.held_bytes))} that Ollama would free first, and the runtime's fit "
            "cannot be asked as if they were gone",
            do="ollama stop MODEL",
        )
    return ",".join(str(-(-target // MIB)) for target in targets)


def key(model: Model, settings: LoadSettings, runtime: Runtime, server: Path, question: Question) -> str | None:
    """The name under which the answer is kept; None where it depends on what is free at this moment."""
    if settings.gpu_layers == "auto":
        return None
    from qwenops.model.read import model_key

    binary = server.stat()
    return probe_cache.key_of(
        {
            "model": model_key(model),
            "settings": settings.as_key(),
            "runtime": [runtime.version, runtime.llama_server_build, str(server), binary.st_size, binary.st_mtime_ns],
            "devices": [[d.name, d.description, d.total_bytes] for d in question.load.devices],
            "projector": [question.load.projector_on_cpu, question.with_projector],
            "environment": {
                name: value
                for name, value in runtime.environment.items()
                if _THE_SERVERS_OWN.match(name) and name not in _CHANGES_NO_MEMORY
            },
        }
    )
