"""The ladder: what a load needs, from the best source that can answer.

measured  it was loaded before           (history)
runtime   Ollama's own llama-server says (probe)
dry load  llama-cpp-python says          (asked of itself only where it has a backend for the devices)
closed    formulas over the header       (closed form: any hardware, milliseconds)

Each part of the answer names its source, and a note says why a higher rung did not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qwenops.errors import BadInput, ChildDied, PartMissing, QwenopsError
from qwenops.llama_library import backend_kinds
from qwenops.machine.types import Device, Host
from qwenops.memory.learned import NOTHING, Learned, settled
from qwenops.memory.reserve import facts_of, fit_reserve
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.runtime.offload import offload_in_force
from qwenops.runtime.rules import projector_goes_to_cpu

if TYPE_CHECKING:
    from qwenops.history import History
    from qwenops.runtime.types import Runtime

RUNGS = ("auto", "measured", "runtime", "dry load", "closed form")


def need(
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    *,
    host: Host | None = None,
    runtime: Runtime | None = None,
    rung: str = "auto",
    history: History | None = None,
    reserve_bytes: Mapping[str, int] | None = None,
    learned: Learned = NOTHING,
) -> Need:
    """What `model` needs under `settings` on `devices`, in bytes.

    "auto" takes the highest rung that answers; another `rung` is asked alone. `reserve_bytes` is what the runtime
    keeps free, by device name. The overhead outside every buffer, which no rung sees, and the band are as `learned`
    from past loads, else as stated. Raises BadInput for a rung that does not exist, PartMissing when the one that was
    asked for cannot answer.
    """
    if rung not in RUNGS:
        raise BadInput(f"{rung!r} is not a rung", do=f"--rung {'|'.join(r.replace(' ', '-') for r in RUNGS)}")
    lowered = _beyond_training(model, settings)
    settings, reserve_bytes, notes = _as_placed(model, settings, devices, runtime, reserve_bytes)
    answer = _from_rungs(model, settings, devices, host, runtime, rung, history, reserve_bytes)
    answer = _reserved_as_counted(answer, model, settings, devices)
    return settled(replace(answer, notes=(*lowered, *notes, *answer.notes)), model.architecture, devices, learned)


def _beyond_training(model: Model, settings: LoadSettings) -> tuple[str, ...]:
    """A note where Ollama would pass on less context than is asked about; llama-server by itself takes any.

    server/sched.go (load) and llm/llama_server.go, Ollama v0.32.14.
    """
    trained = facts_of(model).train_ctx
    if settings.outputs == "library" or not 0 < trained < settings.num_ctx:
        return ()
    return (f"the model was trained for {trained} tokens: Ollama lowers num_ctx {settings.num_ctx} to that",)


def _reserved_as_counted(answer: Need, model: Model, settings: LoadSettings, devices: Sequence[Device]) -> Need:
    """The reserve with what the fit counts between several devices and no load makes: it keeps so much more free."""
    if len(devices) < 2 or len(answer.devices) != len(devices) or settings.gpu_layers != "all":
        return answer
    from qwenops.memory.placement import placed_as_asked
    from qwenops.memory.rehearsal import rehearsed_extra

    placement = placed_as_asked(facts_of(model).layers - 1, settings, devices)
    if placement is None:
        return answer
    extra = rehearsed_extra(model, settings, devices, placement)
    reserved = (replace(d, reserve_bytes=d.reserve_bytes + e) for d, e in zip(answer.devices, extra, strict=True))
    return replace(answer, devices=tuple(reserved))


def _from_rungs(
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    host: Host | None,
    runtime: Runtime | None,
    rung: str,
    history: History | None,
    reserve_bytes: Mapping[str, int] | None,
) -> Need:
    notes: list[str] = []
    if model.drawn:
        if rung not in ("auto", "closed form"):
            raise PartMissing(
                f"only the dimensions of {model.name} are known: there is no header to show to the {rung} rung",
                do="--rung closed-form, or go online",
            )
        rung = "closed form"
    if rung in ("auto", "measured"):
        found = _measured(model, settings, devices, runtime, history)
        if found is not None:
            return _with_reserve(found, reserve_bytes)
        if rung == "measured":
            raise PartMissing("this load was not measured before on this device", do="qwenops verify MODEL")
    if rung in ("auto", "runtime"):
        try:
            return _with_reserve(_asked(model, settings, devices, runtime), reserve_bytes)
        except (PartMissing, ChildDied) as why:
            if rung == "runtime":
                raise
            # Hardware that is described and not here was never going to be asked.
            if runtime is not None:
                notes.append(f"the runtime was not asked: {why.message}")
    if rung == "dry load" or (rung == "auto" and _library_is_exact(devices, runtime)):
        from qwenops.memory.dry_load import dry_load, is_exact

        try:
            loaded = dry_load(model, settings, devices, host=host, reserve_bytes=reserve_bytes)
            if rung == "dry load" or is_exact(loaded):
                return replace(loaded, notes=(*notes, *loaded.notes))
        except QwenopsError as why:
            if rung == "dry load":
                raise
            # What is wrong with the settings themselves, the formulas say as well.
            notes.append(f"the library does not answer: {why.message}")
    answer = _closed_form(model, settings, devices, host, reserve_bytes)
    if runtime is not None:
        notes += [
            f"{name} in the server's environment moves memory as only the runtime itself knows"
            for name in offload_in_force(runtime.environment).not_followed
        ]
    return replace(answer, notes=(*notes, *answer.notes))


def _library_is_exact(devices: Sequence[Device], runtime: Runtime | None) -> bool:
    """Whether llama-cpp-python, as it is installed, can answer for these devices better than the formulas can."""
    if any(d.source == "--gpu" for d in devices) or (runtime is not None and runtime.place == "remote"):
        return False
    kinds = backend_kinds()
    return kinds is not None and all(d.kind in kinds for d in devices)


def _as_placed(
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    runtime: Runtime | None,
    reserve_bytes: Mapping[str, int] | None,
) -> tuple[LoadSettings, Mapping[str, int] | None, tuple[str, ...]]:
    """The settings with the projector where Ollama will put it, whatever was hoped for.

    It goes to the CPU when not every layer is on a device, or when a device has less free than its weights and 1 GiB.
    """
    if settings.projector_device == "cpu" or settings.outputs == "library" or not devices:
        return settings, reserve_bytes, ()
    facts = facts_of(model)
    num_gpu = {"all": facts.layers, "auto": -1}.get(str(settings.gpu_layers), settings.gpu_layers)
    why = projector_goes_to_cpu(facts, int(num_gpu), devices)
    if why is None:
        return settings, reserve_bytes, ()
    placed = replace(settings, projector_device="cpu")
    if reserve_bytes is not None:
        reserve_bytes = fit_reserve(model, placed, devices, runtime.environment if runtime else {})
    return placed, reserve_bytes, (f"Ollama puts the projector on the CPU ({why})",)


def _measured(
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    runtime: Runtime | None,
    history: History | None,
) -> Need | None:
    if history is None or runtime is None:
        return None
    from qwenops.memory.measured import measured_need

    return measured_need(model, settings, devices, runtime, history)


def _asked(model: Model, settings: LoadSettings, devices: Sequence[Device], runtime: Runtime | None) -> Need:
    if runtime is None:
        raise PartMissing("there is no runtime on this machine to ask", do="qwenops doctor")
    from qwenops.memory.probe import probe

    return probe(model, settings, runtime, devices=devices)


def _closed_form(
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    host: Host | None,
    reserve_bytes: Mapping[str, int] | None,
) -> Need:
    from qwenops.memory.closed_form import closed_form

    return closed_form(model, settings, tuple(devices), host, reserve_bytes=reserve_bytes)


def _with_reserve(answer: Need, reserve_bytes: Mapping[str, int] | None) -> Need:
    """A higher rung's answer with what the runtime keeps free, where the caller knows that."""
    if not reserve_bytes:
        return answer
    devices = tuple(replace(d, reserve_bytes=reserve_bytes.get(d.name, d.reserve_bytes)) for d in answer.devices)
    return replace(answer, devices=devices)
