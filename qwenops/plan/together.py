"""Several models on one server: which stay loaded beside which, by Ollama's own scheduling rule.

A replay of Scheduler.processPending, needsReload, updateFreeSpace and findRunnerToUnload (server/sched.go, Ollama
v0.32.14): models are asked for one after the other; each is let in by a prediction from file size and a dense cache,
not by what it will take, and where it is not, the loaded one with the shortest keep-alive goes, of equals the first by
path. Names of one file share what is loaded, unless their options differ: then it is loaded anew. What a model then
takes is the runtime's own doing: its fit fills what is free and leaves the other layers to the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwenops.machine.types import Device, Host
from qwenops.memory.backends import backend_of
from qwenops.memory.counted import counted_bytes
from qwenops.memory.reserve import facts_of
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.runtime.facts import ModelFacts, RunOptions
from qwenops.runtime.rules import SystemMemory, admission, num_ctx_in_force, resolve_load

AskNeed = Callable[[Model, LoadSettings, tuple[Device, ...]], Need]


@dataclass(frozen=True)
class Tenant:
    """A model that shares the server: its files, the parameters it was registered with, and how it would be loaded."""

    name: str
    model: Model
    params: Mapping[str, Any]
    settings: LoadSettings


@dataclass(frozen=True)
class Stay:
    """What became of one tenant when it was asked for.

    `sends_away` are the models that Ollama unloads to let it in. `predicted_bytes` and `limit_bytes` are those of the
    rule; 0 for the first model, which is always let in. `shares` is the loaded model whose runner answers for this one
    too. `counted_bytes` is what Ollama itself counts of the load, by device. `short_bytes` is what the devices lack
    where the rule admits more than fits beside the others.
    """

    name: str
    need: Need
    predicted_bytes: int
    limit_bytes: int
    why: str
    sends_away: tuple[str, ...]
    projector_on_cpu: str | None
    counted_bytes: Mapping[str, int]
    short_bytes: int = 0
    shares: str | None = None

    @property
    def spilled_layers(self) -> int:
        """Layers that the processor has to compute."""
        return self.need.layers.total - self.need.layers.on_device


@dataclass(frozen=True)
class Together:
    """The stays in the order asked for, and who is loaded at the end."""

    stays: tuple[Stay, ...]
    loaded: tuple[str, ...]

    @property
    def all_stay(self) -> bool:
        """Whether nobody had to leave and every layer found room."""
        return not any(s.sends_away or s.spilled_layers or s.short_bytes for s in self.stays)


def together(
    tenants: Sequence[Tenant],
    devices: Sequence[Device],
    host: Host,
    environment: Mapping[str, str],
    ask: AskNeed,
) -> Together:
    """Ask for each model in turn and follow what the server does. `devices` as they are with nothing loaded."""
    system = SystemMemory(host.total_bytes, host.available_bytes)
    loaded: dict[str, _Runner] = {}
    stays: list[Stay] = []
    for tenant in tenants:
        facts, options = facts_of(tenant.model), RunOptions.from_params(tenant.params)
        path, asked = str(tenant.model.path), _asked(facts, options, environment, devices)
        gone: list[str] = []
        why = ""
        if (there := loaded.get(path)) is not None:
            if there.serves(asked):
                stays.append(replace(there.stay, name=tenant.name, sends_away=(), shares=there.stay.name))
                continue
            why = "the same file under other options is loaded anew"
            gone.append(there.stay.name)
            del loaded[path]
        while True:
            seen = tuple(_as_ollama_sees(d, loaded) for d in devices)
            answer = admission(facts, options, environment, seen, loaded_models=len(loaded), system=system)
            if answer.admitted:
                break
            why = answer.why
            leaver = min(loaded)
            gone.append(loaded[leaver].stay.name)
            del loaded[leaver]
        load = resolve_load(facts, options, environment, seen, system=system)
        settings = replace(tenant.settings, projector_device="cpu" if load.projector_on_cpu else "gpu")
        if load.batch is not None:  # chosen by what is free beside the others
            settings = replace(settings, batch=load.batch, ubatch=load.batch)
        given = {d.name for d in _placed(load.devices, load.main_gpu)}
        need = ask(tenant.model, settings, tuple(_as_runtime_sees(d, loaded) for d in devices if d.name in given))
        first = not loaded
        stay = Stay(
            name=tenant.name,
            need=need,
            predicted_bytes=0 if first else answer.predicted_bytes,
            limit_bytes=0 if first else answer.limit_bytes,
            why=why or answer.why,
            sends_away=tuple(gone),
            projector_on_cpu=load.projector_on_cpu,
            counted_bytes=counted_bytes(tenant.model, need, devices),
        )
        loaded[path] = _Runner(stay, asked)
        stay = replace(stay, short_bytes=_short(devices, loaded))
        stays.append(stay)
    return Together(tuple(stays), tuple(runner.stay.name for runner in loaded.values()))


@dataclass(frozen=True)
class _Asked:
    """The options that a loaded model must have for a request to be answered by it (api.Runner, needsReload)."""

    num_ctx: int
    num_gpu: int
    rest: tuple[Any, ...]


@dataclass(frozen=True)
class _Runner:
    """What is loaded: the stay of the name that it was loaded for, under which options."""

    stay: Stay
    asked: _Asked

    def serves(self, asked: _Asked) -> bool:
        """Whether a request is answered without another load; one that leaves the layers to the server takes any."""
        same_layers = asked.num_gpu < 0 or asked.num_gpu == self.asked.num_gpu
        return same_layers and (asked.num_ctx, asked.rest) == (self.asked.num_ctx, self.asked.rest)


def _asked(facts: ModelFacts, options: RunOptions, environment: Mapping[str, str], devices: Sequence[Device]) -> _Asked:
    return _Asked(
        num_ctx_in_force(facts, options.num_ctx, devices, environment),
        options.num_gpu,
        (
            options.num_batch,
            options.main_gpu,
            options.use_mmap,
            options.num_thread,
            options.draft_num_predict,
            options.shift,
            facts.projector_path,
        ),
    )


def _placed(devices: tuple[Device, ...], main_gpu: int | None) -> tuple[Device, ...]:
    """Those of the chosen devices that take part: one alone where the scheduler or the model names it."""
    return (devices[main_gpu],) if main_gpu is not None and 0 <= main_gpu < len(devices) else devices


def _as_ollama_sees(device: Device, loaded: Mapping[str, _Runner]) -> Device:
    """Free as the scheduler believes it: what is reported, or what its own models leave where that is less."""
    counted = sum(runner.stay.counted_bytes.get(device.name, 0) for runner in loaded.values())
    reported = _as_runtime_sees(device, loaded).free_bytes
    return replace(device, free_bytes=max(0, min(reported, device.total_bytes - counted)))


def _as_runtime_sees(device: Device, loaded: Mapping[str, _Runner]) -> Device:
    """Free as the driver reports it to the next model; a software device reports the same whoever uses it."""
    if backend_of(device).software:
        return device
    held = sum(d.total_bytes for r in loaded.values() for d in r.stay.need.devices if d.name == device.name)
    return replace(device, free_bytes=max(0, device.free_bytes - held))


def _short(devices: Sequence[Device], loaded: Mapping[str, _Runner]) -> int:
    """By how much the loaded models pass a device together."""
    over = []
    for device in devices:
        held = sum(d.total_bytes for r in loaded.values() for d in r.stay.need.devices if d.name == device.name)
        over.append(held - device.free_bytes)
    return max(0, *over) if over else 0
