"""What was measured of the variants of a plan, and what of it counts here.

Of a speed only rows count that were taken on this machine, with its present driver and the present build of the engine;
the others are set aside with their reason. One that was taken while the machine was busy counts only beside others of
its own run, which had the same trouble in turn. Quality and reading belong to the files
and not to the machine: they count wherever they were measured. Variants are held side by side only within one group of
rows: same engine and build, same device, same settings, same reference and text, same pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from qwenops.history import History, ResultRow
from qwenops.machine.types import Device, Host
from qwenops.model.read import model_key
from qwenops.model.types import Model
from qwenops.plan.intervals import Interval, mean_of, median_of

ENGINES: Final = ("ollama", "llama-server", "llama-cpp-python", "llama-bench")
"""What is nearer to what will serve the model comes first."""

_SPEED_SETTINGS: Final = ("batch", "ubatch", "kv_type", "type_k", "type_v", "flash_attn", "gpu_layers", "threads")
_QUALITY_SETTINGS: Final = ("ctx", "chunks", "kv_type", "reference_sha256", "text_sha256")
_READING_SETTINGS: Final = ("image_tokens", "temperature", "seed", "kv_type", "prompt", "most_tokens")


@dataclass(frozen=True)
class Evidence:
    """What counts of one variant: a row a measure ("pp", "tg", "reading", "vision ground", "quality", "same top")."""

    rows: Mapping[str, ResultRow] = field(default_factory=dict)

    def figure(self, measure: str) -> Interval | None:
        """A measure with its interval; without one (too few samples) it is as wide as its samples."""
        row = self.rows.get(measure)
        if row is None:
            return None
        values = values_of(row)
        found = median_of(values) if measure in ("pp", "tg") else mean_of(values)
        if found is None and values:
            middle = sorted(values)[len(values) // 2]
            return Interval(middle, min(values), max(values), len(values))
        return found


@dataclass(frozen=True)
class Here:
    """What a speed must have been taken on to count: devices, host, and the builds of the engines by their names.

    An engine whose build is not known is taken to be the one that measured. `described` hardware has no speeds.
    """

    devices: tuple[Device, ...]
    host: Host
    engines: Mapping[str, str] = field(default_factory=dict)
    described: bool = False


@dataclass(frozen=True)
class SetAside:
    """Rows of a variant that do not count, and why."""

    quant: str
    kind: str
    why: str


@dataclass(frozen=True)
class Measured:
    """What counts of each variant, by its place among the models that were asked about.

    `described` hardware has no speeds, and none are missed.
    """

    models: tuple[Model, ...] = ()
    of: tuple[Evidence, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    described: bool = False

    def evidence(self, model: Model) -> Evidence:
        """What counts of one of the models."""
        return next((e for m, e in zip(self.models, self.of, strict=True) if m is model), Evidence())

    def speaks_of(self, model: Model) -> bool:
        """Whether anything of it counts."""
        return bool(self.evidence(model).rows)


def gather(history: History, models: Sequence[Model], here: Here, *, kv_type: str = "f16") -> Measured:
    """What the history has of exactly these files that counts here; `kv_type` is the plan's."""
    own, set_aside = [], []
    for model in models:
        rows, aside = _rows_of(history, model, here)
        own.append(rows)
        set_aside += aside
    chosen = [_widest_group(own, measure, kv_type) for measure in _measures(own)]
    of = []
    for n in range(len(models)):
        of.append(
            Evidence({measure: rows[n] for measure, rows in zip(_measures(own), chosen, strict=True) if n in rows})
        )
    return Measured(tuple(models), tuple(of), tuple(dict.fromkeys(set_aside)), here.described)


def _rows_of(history: History, model: Model, here: Here) -> tuple[list[ResultRow], list[SetAside]]:
    """The rows that count, the newest last, and what is set aside."""
    whole = model_key(model)
    found = list(history.results(model_key=whole))
    if model.projector is not None:
        # text is measured without the projector, which makes another key of the same weights
        found += [r for r in history.results(model_key=model_key(replace(model, projector=None))) if r.kind in _OF_TEXT]
    counted, aside = [], []
    for row in sorted((one for r in found for one in _with_the_reference(r)), key=lambda row: (row.created, row.id)):
        if not values_of(row) or not _measure_of(row):
            continue
        why = why_not(row, here) if row.kind == "speed" else ""
        if why:
            aside.append(SetAside(model.quant, row.kind, why))
        else:
            counted.append(row)
    return counted, aside


_OF_TEXT: Final = ("speed", "quality")


def _with_the_reference(row: ResultRow) -> tuple[ResultRow, ...]:
    """A row; of the reference, whose perplexity alone is kept, what it would say of itself: no divergence at all."""
    settings = row.settings
    if not row.test.startswith("ppl c") or settings.get("reference_sha256") != settings.get("model_sha256"):
        return (row,)
    if not settings.get("reference_sha256"):
        return (row,)
    context = row.test.removeprefix("ppl ")
    return tuple(
        replace(row, test=f"{name} {context}", samples=(value,) * len(row.samples))
        for name, value in (("kld", 0.0), ("same-top", 1.0))
    )


def why_not(row: ResultRow, here: Here) -> str:
    """Why a speed does not count here and now; empty where it does."""
    if here.described:
        return "the card is described, and speeds were measured on this machine"
    there = row.machine.get("host")
    if not isinstance(there, Mapping):
        return "measured on a machine that is not known"
    if any(there.get(name) != getattr(here.host, name) for name in ("os", "arch", "physical_cores", "logical_cores")):
        return "measured on another machine"
    if row.device == "CPU" and here.devices:
        return "measured on the processor, and the plan is for the card"
    if row.device != "CPU" and (why := _other_devices(row, here.devices)):
        return why
    name, _, build = row.engine.rpartition(" ")
    now = here.engines.get(name.lower(), "")
    if now and now != build:
        return f"measured with {row.engine}, and {now} is in use"
    return ""


def was_busy(row: ResultRow) -> bool:
    """Whether something else was seen running while a row was taken."""
    return bool(row.evidence.get("busy"))


def _other_devices(row: ResultRow, devices: Sequence[Device]) -> str:
    """Why the devices of a row are not those that are here; empty where they are, or where the row does not say."""
    named = row.device.split("+")
    there = [d for d in row.machine.get("devices", ()) if isinstance(d, Mapping) and d.get("name") in named]
    for device in there:
        same = [
            d
            for d in devices
            if (device.get("uuid") and d.uuid == device["uuid"])
            or (d.description == device.get("description") and d.total_bytes == device.get("total_bytes"))
        ]
        if not same:
            return f"measured on {device.get('description') or device.get('name')}, which is not here"
        then, now = device.get("driver"), same[0].driver
        if then and now and then != now:
            return f"measured under driver {then}, and {now} is in use"
    return "" if devices else f"measured on {row.device}, which is not here"


def values_of(row: ResultRow) -> list[float]:
    """A figure a sample: speed, divergence, of a page its rate of wrong characters, of a question 1 if it was right."""
    name = {"reading": "cer", "vision": "right"}.get(row.kind)
    found: Iterable[Any] = row.samples
    if name:
        found = (sample.get(name) for sample in row.samples if isinstance(sample, Mapping))
    return [float(value) for value in found if isinstance(value, (bool, int, float))]


def paired(ours: ResultRow, theirs: ResultRow) -> tuple[list[float], list[float]]:
    """The values of both in pairs: pages by their name, questions by their number, else in their order."""
    name = {"reading": "page", "vision": "id"}.get(ours.kind)
    if name is None:
        a, b = values_of(ours), values_of(theirs)
        return (a, b) if len(a) == len(b) else ([], [])
    figure = "cer" if ours.kind == "reading" else "right"
    mine = {str(s.get(name)): float(s[figure]) for s in ours.samples if isinstance(s.get(figure), (bool, int, float))}
    other = {
        str(s.get(name)): float(s[figure]) for s in theirs.samples if isinstance(s.get(figure), (bool, int, float))
    }
    both = [key for key in mine if key in other]
    return [mine[key] for key in both], [other[key] for key in both]


def _measure_of(row: ResultRow) -> str:
    """Which measure a row is of; empty for what no choice rests on."""
    if row.kind == "speed":
        word = row.test.split(" @ ")[0]
        return word[:2] if word[:2] in ("pp", "tg") and word[2:].isdigit() and row.unit == "t/s" else ""
    if row.kind == "quality":
        return {"kld": "quality", "same-top": "same top"}.get(row.test.split(" ")[0], "")
    if row.kind == "reading":
        return "reading"
    return row.test if row.kind == "vision" else ""


def _group(row: ResultRow) -> tuple[Any, ...]:
    """What two rows must share to be held side by side."""
    names = {"speed": _SPEED_SETTINGS, "quality": _QUALITY_SETTINGS}.get(row.kind, _READING_SETTINGS)
    settings = tuple(str(row.settings.get(name)) for name in names)
    where = row.device if row.kind == "speed" else ""
    return (row.test, row.engine, where, *settings)


def _measures(own: Sequence[Sequence[ResultRow]]) -> list[str]:
    return sorted({_measure_of(row) for rows in own for row in rows})


def _widest_group(own: Sequence[Sequence[ResultRow]], measure: str, kv_type: str) -> dict[int, ResultRow]:
    """Of all groups of a measure the one that has the most variants: each variant's newest row of it, by its number.

    Among equals: the engine that is nearer to what serves, the plan's KV type, an empty context, then the newest.
    """
    groups: dict[tuple[Any, ...], dict[int, ResultRow]] = {}
    for n, rows in enumerate(own):
        for row in rows:
            if _measure_of(row) == measure:
                groups.setdefault(_group(row), {})[n] = row

    def rank(group: Mapping[int, ResultRow]) -> tuple[Any, ...]:
        row = next(iter(group.values()))
        name = row.engine.rpartition(" ")[0].lower()
        nearness = -ENGINES.index(name) if name in ENGINES else -len(ENGINES)
        plain = " @ " not in row.test
        return (
            len(group),
            nearness,
            row.settings.get("kv_type", "f16") == kv_type,
            plain,
            max(r.created for r in group.values()),
        )

    return max(groups.values(), key=rank, default={})
