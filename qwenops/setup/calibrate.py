"""Calibration: three small models are loaded, and what the devices say of it is kept for every later answer."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qwenops import history
from qwenops.errors import BadInput, ChildDied, PartMissing, QwenopsError
from qwenops.machine.types import Device, Host
from qwenops.memory.calibration import SAMPLES, SETTINGS, calibration_files
from qwenops.memory.learned import Learned, is_of_runtime, learn_from
from qwenops.memory.learned_band import PARTS, LoadError
from qwenops.memory.overhead import overhead_bytes, overhead_of
from qwenops.memory.types import Need
from qwenops.model.types import Model
from qwenops.ollama.types import Progress, Spec, silent
from qwenops.ollama.verify import Verified
from qwenops.result import Result
from qwenops.runtime.types import Runtime
from qwenops.units import human

NAME = "qwenops-calibration"
Say = Callable[[str], None]
Ask = Callable[[str], bool]


def calibrate_result(
    names: Sequence[str] = (),
    *,
    ask: Ask = lambda _: True,
    say: Say = lambda _: None,
    progress: Progress = silent,
) -> Result:
    """Load three small models on each device and keep what it shows ("qwenops.calibrate/1").

    `names` are the devices, all of them when none is named; `ask` answers whether to go on while other models are
    loaded. Whatever happens, the models made for it are gone afterwards. Exit code 1 when it was not to go on, or when
    no load's log could be read. Raises ServerDown without a server, PartMissing where it is another machine's or a
    container's, BadInput for a device that is not there.
    """
    from qwenops.machine.detect import detect
    from qwenops.plan.ground import ground
    from qwenops.runtime.discover import discover, need_server

    runtime = discover(probe_devices=True)
    need_server(runtime)
    check_reach(runtime)
    base = ground(detect(), runtime)
    devices = _chosen(base.devices if runtime.devices else (), names)
    if not devices:
        return _nothing_to_do(runtime)
    others = tuple(model.name for model in runtime.loaded)
    if others and not ask(f"{_joined(others)} {_is(others)} loaded. Load three small models beside?"):
        note = f"nothing was loaded: {_joined(others)} {_is(others)} loaded; ollama stop NAME, or add --yes"
        return Result("qwenops.calibrate/1", _data(runtime, (), (), Learned()), notes=(note,), exit_code=1)
    with history.open() as kept:
        before = max((row.id for row in kept.loads()), default=0)
    trials = _trials(runtime, devices, base.host, say, progress)
    with history.open() as kept:
        rows = [row for row in kept.loads() if is_of_runtime(row.runtime_build, runtime)]
    learned = learn_from(rows)
    own = learn_from([row for row in rows if row.id > before]).errors
    notes = [
        "" if _by_link(runtime) else "by the API the server keeps the uploaded files until it next starts",
        f"{_joined(others)} {_is(others)} loaded as well: Ollama may have made room by unloading" if others else "",
        *(f"{t.device.name}, {t.name}: not learned from, {t.why_not}" for t in trials if t.why_not),
        *(f"{t.device.name}, {t.name}: not loaded as planned, its figures count for nothing" for t in trials if t.odd),
    ]
    data = {**_data(runtime, devices, own, learned), "loads": [t.as_data() for t in trials], "others": list(others)}
    seen = any(trial.verified.loaded.lines is not None for trial in trials)
    return Result("qwenops.calibrate/1", data, notes=tuple(note for note in notes if note), exit_code=0 if seen else 1)


def check_reach(runtime: Runtime) -> None:
    """Raise PartMissing where the server's devices and its log are not this machine's to read."""
    elsewhere = {
        "remote": "on another machine",
        "container": "in a container",
        "wsl": "on the other side of WSL",
    }
    if runtime.place in elsewhere:
        raise PartMissing(
            f"the Ollama server is {elsewhere[runtime.place]}: its log, which names the buffers, cannot be read here",
            do="run qwenops calibrate where the server runs",
        )


@dataclass(frozen=True)
class _Trial:
    """One load: on which device, of which sample, and what came of it."""

    device: Device
    name: str
    verified: Verified

    @property
    def why_not(self) -> str:
        """Why nothing was learned of this load; empty where something was, or where nobody counts the device."""
        if self.verified.loaded.lines is None:
            return self.verified.loaded.log_missing
        return next((u.disturbed for u in self.verified.loaded.usage if u.device.name == self.device.name), "")

    @property
    def odd(self) -> bool:
        """Whether layers went elsewhere than planned."""
        return any(c.verdict == "wrong" and c.name.startswith("layers") for c in self.verified.checks)

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values; what was measured, beside the plan."""
        over = [c for c in self.verified.components if (c.place, c.name) == (self.device.name, "overhead")]
        return {
            "device": self.device.name,
            "model": self.name,
            "seconds": round(self.verified.loaded.seconds, 2),
            "predicted_bytes": self.verified.predicted_bytes,
            "measured_bytes": self.verified.measured_bytes,
            "overhead_bytes": over[0].measured_bytes if over else None,
            "disturbed": self.why_not,
            "ok": self.verified.ok,
        }


def _trials(
    runtime: Runtime, devices: Sequence[Device], host: Host, say: Say, progress: Progress
) -> tuple[_Trial, ...]:
    """Every sample on every device, one after the other: registered, asked about, loaded, taken away."""
    from qwenops.memory.probe_run import terminate_as_exit
    from qwenops.paths import cache_dir

    size = human(sum(sample.size_bytes for sample in SAMPLES))
    count = len(SAMPLES) * len(devices)
    say(f"{count} loads of small models of zeros ({size} in all), about {2 * count} to {10 * count} s")
    _sweep(runtime)
    done = []
    with terminate_as_exit(), calibration_files(cache_dir() / "calibration") as files:
        for device in devices:
            for number, file in enumerate(files):
                say(f"loading {file.stem} on {device.name}")
                with _registered(f"{NAME}-{os.getpid()}-{number}", file, device, runtime, progress) as name:
                    done.append(_trial(name, file, device, runtime, host, progress))
    return tuple(done)


def _trial(name: str, file: Path, device: Device, runtime: Runtime, host: Host, progress: Progress) -> _Trial:
    from qwenops.model.read import read_model
    from qwenops.ollama.verify import load_and_verify

    model = read_model(file)
    answers = _predictions(model, device, runtime, host)
    verified = load_and_verify(name, runtime, answers[0], model=model, keep=False, also=answers[1:], progress=progress)
    return _Trial(device, file.stem, verified)


def _predictions(model: Model, device: Device, runtime: Runtime, host: Host) -> list[Need]:
    """What each rung says before the load; the runtime first where it answers."""
    from qwenops.memory import ladder
    from qwenops.setup.registered import RegisteredModel, load_settings

    one = RegisteredModel(model.path.stem, model, _parameters(model, device, runtime))
    settings = load_settings(one, runtime)
    answers = []
    for rung in ("runtime", "closed form"):
        with contextlib.suppress(PartMissing, ChildDied):
            answers.append(ladder.need(model, settings, (device,), host=host, runtime=runtime, rung=rung))
    return answers


def _parameters(model: Model, device: Device, runtime: Runtime) -> dict[str, Any]:
    """Every layer on this device, under the settings of a calibration."""
    from qwenops.memory.reserve import facts_of

    alike = [d for d in runtime.devices if d.kind == device.kind]
    chosen = {"main_gpu": [d.name for d in alike].index(device.name)} if len(runtime.devices) > 1 else {}
    named = {"num_ctx": SETTINGS.num_ctx, "num_batch": SETTINGS.batch, "num_gpu": facts_of(model).layers}
    return {**named, **chosen}


# What is made for it, and taken away again


@contextlib.contextmanager
def _registered(name: str, file: Path, device: Device, runtime: Runtime, progress: Progress) -> Iterator[str]:
    """The file as a model of Ollama's while the context lasts."""
    from qwenops.model.read import read_model
    from qwenops.ollama.register import register

    parameters = _parameters(read_model(file), device, runtime)
    try:
        register(
            Spec(shards=(file,), parameters=parameters),
            name,
            runtime,
            via="auto" if _by_link(runtime) else "api",
            progress=progress,
        )
        yield name
    finally:
        with _undisturbed():
            _take_away(name, runtime)


def _by_link(runtime: Runtime) -> bool:
    """Whether the files can be linked into the server's store; else they are uploaded, some dozen MiB each."""
    return runtime.store is not None and runtime.store.writable


def _take_away(name: str, runtime: Runtime) -> None:
    """Unload and remove one of our models, also one that is being loaded at this moment."""
    from qwenops.ollama.remove import remove_model
    from qwenops.runtime.client import Client

    with contextlib.suppress(QwenopsError):
        Client(runtime.url).unload(name)
    with contextlib.suppress(BadInput):  # it was not there yet
        remove_model(runtime, name)


def _sweep(runtime: Runtime) -> None:
    """Take away what a killed calibration left: models of ours whose process is gone."""
    with history.open() as kept:
        left = [row.name for row in kept.made("model") if row.name.startswith(f"{NAME}-")]
    for name in left:
        owner = name.removeprefix(f"{NAME}-").partition("-")[0]
        if not owner.isdigit() or not _runs(int(owner)):
            _take_away(name, runtime)


def _runs(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """While the context lasts a second Ctrl-C does not stop the taking away of what the first one left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# The result


def _chosen(devices: Sequence[Device], names: Sequence[str]) -> tuple[Device, ...]:
    unknown = [name for name in names if name not in {d.name for d in devices}]
    if unknown:
        there = ", ".join(d.name for d in devices) or "none"
        raise BadInput(f"there is no device {unknown[0]} in the runtime's list: {there}", do="qwenops machine")
    return tuple(d for d in devices if not names or d.name in names)


def _nothing_to_do(runtime: Runtime) -> Result:
    notes = (
        "there is nothing to calibrate on devices: the runtime has none",
        "the host has no figure to learn: pages that were never touched are not charged, so a process holds less than "
        "its buffers as often as more, and the planner leaves a tenth of the host's memory alone",
    )
    return Result("qwenops.calibrate/1", _data(runtime, (), (), Learned()), notes=notes)


def _data(runtime: Runtime, devices: Sequence[Device], own: Sequence[LoadError], learned: Learned) -> dict[str, Any]:
    from qwenops.memory.measured import runtime_key

    return {
        "runtime": runtime_key(runtime),
        "devices": [_device_entry(device, learned) for device in devices],
        "rungs": _rungs(own),
        "loads": [],
        "others": [],
        "history": str(history.history_path()),
    }


def _device_entry(device: Device, learned: Learned) -> dict[str, Any]:
    """What is known of one device now, over all loads that count: the figure, its spread, and what it replaces."""
    from qwenops.memory.overhead import is_of

    known = next((o for o in learned.overheads if is_of(o, device) and o.driver == device.driver), None)
    monitored = replace(device, source="nvml")
    stated = overhead_bytes(monitored)
    return {
        "name": device.name,
        "description": device.description,
        "kind": device.kind,
        "driver": device.driver,
        "counted": known is not None,
        "overhead": asdict(known.whole) if known else None,
        "beyond_the_context": asdict(known.beyond) if known and known.beyond else None,
        "default_bytes": stated,
        "source": overhead_of(monitored, learned.overheads).source,
        "why": "" if known else _why_uncounted(device, stated),
    }


def _why_uncounted(device: Device, stated: int) -> str:
    from qwenops.memory.backends import backend_of

    if backend_of(device).software:
        return "it is the CPU: its memory is the host's, no driver counts it, and nothing is added for it"
    return f"no driver here counts its memory, or every load was disturbed: the default of {human(stated)} stands"


def _rungs(errors: Sequence[LoadError]) -> list[dict[str, Any]]:
    """The worst error of each rung in each part, in bytes on devices, signed: above zero the load needed more."""
    entries = []
    for rung in dict.fromkeys(error.rung for error in errors):
        of_rung = [error for error in errors if error.rung == rung]
        worst = {part: max((e.off_bytes(part) for e in of_rung), key=abs) for part in PARTS}
        shown = {p: n for p, n in worst.items() if any(e.predicted[p] or e.measured[p] for e in of_rung)}
        entries.append({"rung": rung, "loads": len({e.load for e in of_rung}), "worst_bytes": shown})
    return entries


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names)


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
