"""From what was typed for a benchmark to what an engine can run, and what that is planned to need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qwenops.bench.engines import Engine
from qwenops.bench.engines.library import Library
from qwenops.bench.order import Mode
from qwenops.bench.types import SpeedSettings, SpeedTest, Variant
from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.machine.types import Machine
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.setup.given import Given, must_be_here
from qwenops.setup.given import variants as read_variants


@dataclass(frozen=True)
class SpeedAsked:
    """What `bench speed` was asked, as plain values: they are kept with an unfinished run.

    Several values of `batch`, `ubatch`, `threads` or `kv` make a variant of each combination. `loads` is how often
    a cold and a warm load are timed.
    """

    models: tuple[str, ...] = ()
    prompt: tuple[int, ...] = ()
    generate: tuple[int, ...] = ()
    depth: tuple[int, ...] = ()
    image: tuple[str, ...] = ()
    loads: int = 0
    repetitions: int | None = None
    precision: float | None = None
    time_limit_s: float | None = None
    seed: int = 0
    threads: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    ubatch: tuple[int, ...] = ()
    kv: tuple[str, ...] = ()
    flash_attn: str = "auto"
    gpu_layers: int | None = None
    engine: str = "llama-cpp-python"
    offline: bool = False


def speed_tests(asked: SpeedAsked) -> tuple[SpeedTest, ...]:
    """Every prompt size and every generation length at every depth (0 leaves a sort out), pictures, loads."""
    alone = bool(asked.image or asked.loads) and not (asked.prompt or asked.generate)
    prompts = asked.prompt or (() if alone else (512,))
    generates = asked.generate or (() if alone else (128,))
    tests = [SpeedTest(p, 0, d) for d in asked.depth or (0,) for p in prompts if p]
    tests += [SpeedTest(0, g, d) for d in asked.depth or (0,) for g in generates if g]
    tests += [SpeedTest(0, 0, image=_size(text)) for text in asked.image]
    if asked.loads:
        tests += [SpeedTest(0, 0, load="cold"), SpeedTest(0, 0, load="warm")]
    if not tests:
        raise BadInput("there is nothing to measure", do="--prompt 512 or --generate 128")
    return tuple(dict.fromkeys(tests))


def given_of(text: str) -> Given:
    """A model as it was typed: a reference stays text."""
    return text if text.lower().startswith(("hf:", "ollama:", "https://", "http://")) else Path(text)


def models_of(texts: Sequence[str], *, offline: bool) -> tuple[list[Model], list[dict[str, Any]]]:
    """The models, and those files that cannot be read with the reason: one corrupt variant does not stop the others.

    Raises what is wrong where none can be read, or where it is about a name and not about a file.
    """
    given = tuple(given_of(text) for text in texts)
    must_be_here(given, "bench")
    found: list[Model] = []
    failed: list[dict[str, Any]] = []
    for one in given:
        try:
            found += read_variants((one,), None, offline=offline)
        except QwenopsError as error:
            if len(given) == 1 or not (isinstance(one, Path) and one.exists()):
                raise
            failed.append({"file": str(one), "error": error.message, "do": list(error.do)})
    for model in found:
        if model.remote:
            must_be_here((model.remote,), "bench")
    if not found:
        raise BadInput(f"none of the {len(given)} files can be read: {failed[0]['error']}", do=tuple(failed[0]["do"]))
    return found, failed


def planned_need(variant: Variant, tests: Sequence[SpeedTest], engine: Engine, machine: Machine) -> Need | None:
    """What a variant needs under exactly the settings that it will be measured under."""
    if variant.model is None:
        return None
    if engine.name == "ollama":
        from qwenops.setup.registered import need_of_registered

        return need_of_registered(variant.registered, engine.runtime, machine)[1]  # type: ignore[attr-defined]
    from qwenops.llama_library import backend_kinds
    from qwenops.memory import ladder

    settings, model = variant.settings, variant.model
    library = engine.name == "llama-cpp-python"
    kinds = backend_kinds() or frozenset()
    runtime = None if library else engine.runtime  # type: ignore[attr-defined]
    usable = tuple(d for d in machine.devices if d.kind in kinds) if runtime is None else runtime.devices
    devices = usable if settings.gpu_layers != 0 else ()
    pictures = [test for test in tests if test.image]
    if not pictures:
        model = replace(model, projector=None)
    layers: Any = ("all" if settings.gpu_layers is None else settings.gpu_layers) if devices else 0
    asked = LoadSettings(
        num_ctx=max((test.context for test in tests), default=1) or 1,
        batch=settings.batch,
        ubatch=settings.ubatch,
        kv_type_k=settings.kv_type,
        kv_type_v=settings.kv_type,
        flash_attn=settings.flash_attn,
        gpu_layers=layers,
        outputs="library" if library else "server",
    )
    return ladder.need(model, asked, devices, host=machine.host, runtime=runtime)


def ollama_engine(asked: SpeedAsked) -> Engine:
    """Ollama's server as the engine, told only what the user set by hand. Raises ServerDown."""
    from qwenops.bench.engines.ollama import Ollama
    from qwenops.runtime.discover import discover, need_server

    for name, values in (("--batch", asked.batch), ("--threads", asked.threads), ("--ubatch", asked.ubatch)):
        if len(values) > 1:
            raise BadInput(f"Ollama takes one {name} a run", do=f"qwenops bench speed --engine ollama {name} N, twice")
    if asked.batch:
        raise BadInput("Ollama has one batch for both sizes", do="--ubatch N (its num_batch)")
    runtime = discover()
    need_server(runtime)
    options: dict[str, Any] = {}
    if asked.ubatch:
        options["num_batch"] = asked.ubatch[0]
    if asked.threads:
        options["num_thread"] = asked.threads[0]
    if asked.gpu_layers is not None:
        options["num_gpu"] = asked.gpu_layers
    return Ollama(runtime, options)


def registered_of(texts: Sequence[str], engine: Engine) -> list[tuple[Model | None, str]]:
    """Models by their names in Ollama, with their files where those can be read. Raises BadInput for what is none."""
    from qwenops.runtime.client import Client
    from qwenops.runtime.names import checked_name, parse_name
    from qwenops.setup.registered import registered_model

    runtime = engine.runtime  # type: ignore[attr-defined]
    listed = {parse_name(tag.name).folded for tag in Client(runtime.url).tags()}
    found: list[tuple[Model | None, str]] = []
    for text in texts:
        name = text.removeprefix("ollama:")
        if Path(text).is_file():
            raise BadInput(
                f"{text} is a file, and --engine ollama measures models by their names in Ollama",
                do="qwenops register NAME -f Modelfile     (links the file, copies nothing)",
            )
        if checked_name(name).folded not in listed:
            raise BadInput(f"Ollama has no model {name}", do="qwenops list")
        one = registered_model(name, runtime)
        found.append((one.model if one else None, name))
    return found


def server_engine() -> Engine:
    """Ollama's own llama-server as the engine. Raises PartMissing where it is not found."""
    from qwenops.bench.engines.llama_server import LlamaServer
    from qwenops.runtime.discover import discover

    runtime = discover()
    if runtime.llama_server_path is None:
        raise PartMissing("no llama-server was found beside Ollama on this machine", do="qwenops doctor")
    return LlamaServer(runtime)


def variants(asked: SpeedAsked) -> tuple[Engine, list[Variant], list[dict[str, Any]]]:
    """The engine, what it is to measure, and the files that could not be read, each with its reason."""
    settings = _settings(asked)
    if asked.engine == "ollama":
        engine = ollama_engine(asked)
        return engine, _labelled(registered_of(asked.models, engine), settings), []
    models, failed = models_of(asked.models, offline=asked.offline)
    engine = server_engine() if asked.engine == "llama-server" else Library()
    return engine, _labelled([(model, "") for model in models], settings), failed


def _settings(asked: SpeedAsked) -> list[tuple[str, SpeedSettings]]:
    """Every combination of the settings that were given more than once, each with what tells it apart."""
    from itertools import product

    choices = {
        "threads": (asked.threads or (None,), "t"),
        "batch": (asked.batch or (2048,), "b"),
        "ubatch": (asked.ubatch or (512,), "ub"),
        "kv_type": (asked.kv or ("f16",), ""),
    }
    found = []
    for values in product(*(tuple(dict.fromkeys(one)) for one, _ in choices.values())):
        told = [
            f"{short}{value}"
            for value, (all_, short) in zip(values, choices.values(), strict=True)
            if len(set(all_)) > 1
        ]
        chosen: dict[str, Any] = dict(zip(choices, values, strict=True))
        settings = SpeedSettings(**chosen, flash_attn=asked.flash_attn, gpu_layers=asked.gpu_layers)  # type: ignore[arg-type]
        found.append((" ".join(told), settings))
    return found


def _labelled(found: Sequence[tuple[Any, str]], settings: Sequence[tuple[str, SpeedSettings]]) -> list[Variant]:
    """A variant of every model under every settings; models of one quant are told apart by name, then by number."""
    quants = [name or model.quant for model, name in found]
    names = [
        quant if quants.count(quant) == 1 else f"{model.name if model else name} {quant}".strip()
        for (model, name), quant in zip(found, quants, strict=True)
    ]
    unique = [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]
    return [
        Variant(" ".join(filter(None, (label, told))), one, model, name)
        for (model, name), label in zip(found, unique, strict=True)
        for told, one in settings
    ]


def planned(variant: Variant, tests: Sequence[SpeedTest], engine: Engine, machine: Machine) -> Need | None:
    """What a variant will need by the plan's own ladder, asked before it is loaded; None where that cannot be said."""
    try:
        return planned_need(variant, tests, engine, machine)
    except QwenopsError:
        return None


def mode(
    engine: Engine,
    variants: Sequence[Variant],
    needs: Sequence[Need | None],
    machine: Machine,
) -> tuple[Mode, str]:
    """Whether all variants are loaded side by side, by what they need together, and the sentence that says so."""
    from qwenops.units import human

    if not engine.can_stay:
        return "in turn", f"{len(variants)} variants, loaded in turn: {engine.name} runs one at a time"
    if any(need is None for need in needs):
        return "in turn", f"{len(variants)} variants, loaded in turn: what they need together is not known"
    known = [need for need in needs if need is not None]
    host = sum(need.host.total_bytes for need in known)
    device = sum(need.total_device_bytes for need in known)
    room, free = machine.host.available_bytes, sum(d.free_bytes for d in machine.devices)
    fits = host <= _SHARE * room and device <= _SHARE * free
    words = f"they need {human(host)} of {human(room)} RAM"
    if device:
        words += f" and {human(device)} of {human(free)} on devices"
    how: Mode = "side by side" if fits else "in turn"
    order = "loaded side by side and measured in rounds of random order" if fits else "loaded in turn, in random order"
    return how, f"{len(variants)} variants, {order}: {words}"


_SHARE = 0.8
"""How much of what is free the variants may take together: the rest of the machine lives too."""


def planned_data(need: Need | None) -> dict[str, Any] | None:
    if need is None:
        return None
    return {
        "rung": need.rung,
        "host": {**asdict(need.host), "total_bytes": need.host.total_bytes},
        "devices": {d.name: {**asdict(d), "total_bytes": d.total_bytes} for d in need.devices},
    }


def _size(text: str) -> tuple[int, int]:
    """Read '1024x768'. Raises BadInput when it is not a size in pixels."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) <= 8192 and 0 < int(height) <= 8192):
        raise BadInput(f"{text!r} is no size of a picture", do="--image 1024x768")
    return int(width), int(height)
