"""Hold a load against the plan: layers, projector, context and every byte, predicted beside measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from qwenops.errors import CheckFailed, QwenopsError
from qwenops.history import store as history
from qwenops.memory.load_log import LoadLines
from qwenops.memory.measured import as_measured, device_key, runtime_key, settings_key
from qwenops.memory.types import Need
from qwenops.model.types import Model
from qwenops.ollama.child_names import as_the_machine_has_them
from qwenops.ollama.load import Loaded, load_alone
from qwenops.ollama.types import Progress, silent
from qwenops.ollama.watch import health
from qwenops.runtime.client import Client
from qwenops.runtime.names import parse_name
from qwenops.runtime.store import read_manifest
from qwenops.runtime.types import Runtime
from qwenops.units import MIB, human

Verdict = Literal["ok", "wrong", "not seen"]

# The log gives hundredths of a MiB, the runtime's table whole ones rounded down.
_ROUNDING_BYTES = MIB
_COMPONENT_SHARE = 0.03
_DEVICE_KINDS = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute"}


@dataclass(frozen=True)
class Check:
    """One promise of the plan: what was expected, what was seen, and where; `do` mends it."""

    name: str
    verdict: Verdict
    expected: str
    observed: str
    evidence: str
    do: tuple[str, ...] = ()


@dataclass(frozen=True)
class Component:
    """One figure of the plan beside the measured one, in bytes; `measured_bytes` is None where nobody says.

    The encoder is planned for the largest image and measured at the warm-up's size: it must not be above the plan.
    """

    place: str
    name: str
    predicted_bytes: int
    measured_bytes: int | None
    source: str
    within: bool | None


@dataclass(frozen=True)
class Verified:
    """The outcome of a load held against its plan. `ok` is False as soon as one check is wrong."""

    name: str
    loaded: Loaded
    checks: tuple[Check, ...]
    components: tuple[Component, ...]
    predicted_bytes: int | None
    measured_bytes: int | None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing that was seen is against the plan."""
        return all(c.verdict != "wrong" for c in self.checks)

    @property
    def exit_code(self) -> int:
        """0, or 1 when the plan was not kept."""
        return 0 if self.ok else 1

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        loaded, layers = self.loaded, self.loaded.layers
        return {
            "name": self.name,
            "ok": self.ok,
            "load_seconds": round(loaded.seconds, 2),
            "layers": asdict(layers) if layers else None,
            "projector_backend": loaded.projector_backend,
            "num_ctx": loaded.model.context_length,
            "size_vram_bytes": loaded.model.size_vram_bytes,
            "predicted_bytes": self.predicted_bytes,
            "measured_bytes": self.measured_bytes,
            "components": [asdict(c) for c in self.components],
            "checks": [asdict(c) for c in self.checks],
            "others_loaded": list(loaded.others),
        }


def load_and_verify(
    name: str,
    runtime: Runtime,
    need: Need | None,
    *,
    model: Model | None = None,
    alone: bool = False,
    keep: bool = True,
    also: Sequence[Need] = (),
    progress: Progress = silent,
) -> Verified:
    """Load a model and compare it with the plan's need; the prediction is in the history before the load begins.

    Without a need only what contradicts itself is wrong (layers left out of a device that was there). `model` names
    the file for the history; without it nothing is recorded. `also` are other rungs' answers to the same question,
    kept beside the plan's. A model whose file is no longer what its digest says is not loaded: CheckFailed names the
    file. Raises what load_alone raises.
    """
    _check_files(name, runtime, progress)
    row = None
    if need is not None and model is not None:
        row = _record_prediction(need, also, model, runtime)
    try:
        loaded = load_alone(name, runtime, alone=alone, keep=keep, progress=progress)
    except BaseException:
        if row is not None:
            with history.open() as known:
                known.finish_load(row, None, False)
        raise
    if need is not None and loaded.lines is not None:
        loaded = replace(loaded, lines=as_the_machine_has_them(loaded.lines, need.devices))
    verified = verify(name, runtime, need, loaded)
    if row is not None:
        with history.open() as known:
            known.finish_load(row, _measured(loaded), verified.ok and loaded.lines is not None)
    return verified


def _check_files(name: str, runtime: Runtime, progress: Progress) -> None:
    """Ollama loads whatever lies under a digest, and answers garbage from a file that was written over."""
    store = runtime.store
    if store is None:
        return
    try:
        manifest = read_manifest(store, name)
    except QwenopsError:
        return  # the server may know it all the same, and says so itself where it does not
    if not store.confirmed and manifest.digest not in {tag.digest for tag in Client(runtime.url).tags()}:
        return  # a folder that may be another's: its files say nothing about the server's model
    for file in health(store, manifest, progress=progress):
        if file.state in ("changed", "missing"):
            raise CheckFailed(
                f"{manifest.name.short} was not loaded: {file.why}",
                do=(f"qwenops remove {manifest.name.short}", "and register it again from a file that is whole"),
            )


def verify(name: str, runtime: Runtime, need: Need | None, loaded: Loaded) -> Verified:
    """Judge a load that was made; pure, so that it can be judged again."""
    components = _components(need, loaded) if need and loaded.lines else ()
    predicted, measured = _totals(components)
    checks = [_layers(name, need, loaded, runtime), _context(need, loaded)]
    if need is not None:
        checks += [c for c in (_projector(name, need, loaded), _flash(need, loaded)) if c]
        checks.append(_memory(name, need, loaded, predicted, measured))
    notes = []
    if parse_name(loaded.model.name).folded != parse_name(name).folded:
        notes.append(f"the server shows it as {loaded.model.name}: both names have the same weights")
    if loaded.log_missing:
        notes.append(f"{loaded.log_missing}: layers and buffers were not seen, only what /api/ps says")
    if loaded.others:
        notes.append(f"also loaded: {', '.join(loaded.others)} (--alone unloads them first)")
    return Verified(name, loaded, tuple(checks), components, predicted, measured, tuple(notes))


# The checks


def _layers(name: str, need: Need | None, loaded: Loaded, runtime: Runtime) -> Check:
    """Layers that the plan has on devices must be there; without a plan, all of them wherever there is a device."""
    seen = loaded.layers
    if need is not None:
        wanted, total = need.layers.on_device, need.layers.total
    else:
        total = seen.total if seen else 1
        wanted = total if runtime.devices else 0
    if seen is None:
        return _layers_by_ps(name, wanted, total, loaded)
    right = seen.on_device >= wanted
    verdict: Verdict = "ok" if right else "wrong"
    do = () if right else _make_room(name, loaded, seen.total)
    expected, observed = f"{wanted} of {total}", f"{seen.on_device} of {seen.total}"
    return Check("layers on the device", verdict, expected, observed, "server log", do)


def _layers_by_ps(name: str, wanted: int, total: int, loaded: Loaded) -> Check:
    """Without the log only all or nothing can be told: /api/ps has the bytes on devices and in all."""
    model = loaded.model
    observed = f"{human(model.size_vram_bytes)} of {human(model.size_bytes)} on devices"
    if 0 < wanted < total:
        return Check("layers on the device", "not seen", f"{wanted} of {total}", observed, "/api/ps")
    if wanted == 0 or model.size_vram_bytes >= model.size_bytes > 0:
        return Check("layers on the device", "ok", "all" if wanted else "none", observed, "/api/ps")
    return Check("layers on the device", "wrong", "all", observed, "/api/ps", _make_room(name, loaded, total))


def _make_room(name: str, loaded: Loaded, total: int) -> tuple[str, ...]:
    again = f"qwenops update {name}     (plans again with what is free now: a smaller num_ctx, or num_gpu {total})"
    others = ("or unload the others first: --alone",) if loaded.others else ()
    return (again, *others)


def _context(need: Need | None, loaded: Loaded) -> Check:
    seen = loaded.model.context_length
    if need is None:
        return Check("context", "ok" if seen else "not seen", "any", str(seen or "not said"), "/api/ps")
    wanted = need.settings.num_ctx
    if seen is None:
        return Check("context", "not seen", str(wanted), "not said", "/api/ps")
    right = seen == wanted
    do = () if right else (f"set PARAMETER num_ctx {wanted} in the Modelfile; above the trained context it is lowered",)
    return Check("context", "ok" if right else "wrong", str(wanted), str(seen), "/api/ps", do)


def _projector(name: str, need: Need, loaded: Loaded) -> Check | None:
    planned = any(d.projector_bytes for d in need.devices) or bool(need.host.projector_bytes)
    if not planned:
        return None
    wanted = "GPU" if need.settings.projector_device == "gpu" and need.devices else "CPU"
    if loaded.projector_backend is None:
        return Check("projector", "not seen", wanted, "not said", "server log")
    seen = "CPU" if loaded.projector_backend == "CPU" else "GPU"
    observed = loaded.projector_backend + (f" ({loaded.projector_moved})" if loaded.projector_moved else "")
    do: tuple[str, ...] = ()
    if wanted == "GPU" and seen == "CPU":
        do = (
            f"qwenops update {name}     (num_gpu must cover every layer or be absent;"
            " the projector needs its weights and 1 GiB free)",
        )
    right = seen == wanted
    return Check("projector", "ok" if right else "wrong", wanted, observed, "server log", do)


def _flash(need: Need, loaded: Loaded) -> Check | None:
    seen = loaded.lines.flash_attn if loaded.lines else None
    if need.flash_attn is None or seen is None:
        return None
    said = {True: "on", False: "off"}
    right = seen == need.flash_attn
    do = () if right else ("qwenops doctor     (OLLAMA_FLASH_ATTENTION of the server, or the card's own limits)",)
    verdict: Verdict = "ok" if right else "wrong"
    return Check("flash attention", verdict, said[need.flash_attn], said[seen], "server log", do)


def _memory(name: str, need: Need, loaded: Loaded, predicted: int | None, measured: int | None) -> Check:
    """The sum of what was both planned and seen on devices; the band's width around the plan is what may differ."""
    if predicted is None or measured is None:
        return Check("device memory", "not seen", human(need.total_device_bytes), "not said", "server log")
    above = max(need.band.high - need.total_device_bytes, _ROUNDING_BYTES * max(1, len(need.devices)))
    right = measured <= predicted + above
    do = () if right else (f"qwenops update {name}     (the next plan uses the measured figures)",)
    verdict: Verdict = "ok" if right else "wrong"
    expected = f"{human(predicted)} + {human(above)}"
    return Check("device memory", verdict, expected, human(measured), "buffer lines of the server log", do)


# The figures


def _components(need: Need, loaded: Loaded) -> tuple[Component, ...]:
    lines = loaded.lines
    assert lines is not None
    found: list[Component] = []
    for device in need.devices:
        seen = _on_device(lines, device.name)
        seen |= _overhead(loaded, device.name)
        for key in (*_DEVICE_KINDS, "projector", "encoder", "draft", "overhead"):
            predicted = getattr(device, f"{key}_bytes")
            found += _row(device.name, key, predicted, seen.get(key), need.sources)
    on_host = {key: lines.host_bytes(kind) for key, kind in _HOST_KINDS.items()}
    on_host["encoder"] = lines.host_bytes("compute", projector=True)
    for key in (*_HOST_KINDS, "encoder"):
        found += _row("host", key, getattr(need.host, f"{key}_bytes"), on_host[key], need.sources)
    return tuple(found)


_HOST_KINDS: Mapping[str, Any] = {**_DEVICE_KINDS, "output": "output"}


def _on_device(lines: LoadLines, name: str) -> dict[str, int]:
    seen = {
        "weights": lines.device_bytes(name, "model"),
        "kv": lines.device_bytes(name, "KV"),
        "state": lines.device_bytes(name, "RS"),
        "compute": lines.device_bytes(name, "compute"),
        "encoder": lines.device_bytes(name, "compute", projector=True),
    }
    return {**seen, "projector": lines.projector_bytes(name), "draft": lines.draft_bytes(name)}


def _overhead(loaded: Loaded, name: str) -> dict[str, int]:
    """What a device lost beyond its buffers; nothing where nobody counts it, or others moved meanwhile."""
    usage = next((one for one in loaded.usage if one.device.name == name), None)
    if usage is None or usage.disturbed or loaded.lines is None:
        return {}
    return {"overhead": max(0, usage.gained_bytes - sum(_on_device(loaded.lines, name).values()))}


def _row(place: str, name: str, predicted: int, seen: int | None, sources: Mapping[str, Any]) -> list[Component]:
    if not predicted and not seen:
        return []
    within: bool | None = None
    if seen is not None and name == "encoder":
        within = seen <= predicted + _ROUNDING_BYTES
    elif seen is not None and name != "overhead":
        within = abs(seen - predicted) <= max(_ROUNDING_BYTES, round(_COMPONENT_SHARE * predicted))
    return [Component(place, name, predicted, seen, str(sources.get(name, "closed form")), within)]


def _totals(components: tuple[Component, ...]) -> tuple[int | None, int | None]:
    """(planned, measured) over the buffers that were seen on devices.

    The encoder is measured at another size, and what lies outside every buffer may be no part of the plan at all: a
    free figure of the runtime's holds the context already.
    """
    apart = ("encoder", "overhead")
    both = [c for c in components if c.place != "host" and c.measured_bytes is not None and c.name not in apart]
    if not both:
        return None, None
    return sum(c.predicted_bytes for c in both), sum(c.measured_bytes or 0 for c in both)


# The history


def _record_prediction(need: Need, also: Sequence[Need], model: Model, runtime: Runtime) -> int:
    from qwenops.model.read import model_key

    entry = {"file": str(model.path), "architecture": model.architecture}
    with history.open() as known:
        return known.record_load(
            model_key(model),
            settings_key(need.settings),
            runtime_key(runtime),
            device_key(runtime.devices),
            {**need.as_data(entry), "also": [other.as_data(entry) for other in also]},
        )


def _measured(loaded: Loaded) -> dict[str, Any] | None:
    if loaded.lines is None:
        return None
    lines = loaded.lines
    overhead = {one.device.name: _overhead(loaded, one.device.name).get("overhead", 0) for one in loaded.usage}
    usage = [
        one.as_data(sum(_on_device(lines, one.device.name).values()), lines.free_bytes.get(one.device.name))
        for one in loaded.usage
    ]
    return as_measured(lines, overhead_bytes=overhead, usage=usage)
