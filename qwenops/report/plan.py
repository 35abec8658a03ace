"""The plan on one screen: machine, model, choice, the sum, what lost and what would be nearer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops.report.need import SAID_BY, headline
from qwenops.report.tables import bar, facts
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType


def plan_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A plan that fits, or why none does and what comes nearest."""
    if data["choice"]:
        yield from chosen_view(data)
    else:
        yield from nothing_view(data)


def chosen_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The choice and its sum."""
    need, choice = data["need"], data["choice"]
    rows: list[tuple[str, Any]] = [
        ("Machine", machine_line(data)),
        ("Model", headline(need["model"])),
        ("Plan", choice_line(choice)),
        ("", sum_line(need)),
    ]
    if need["devices"]:
        rows.append(("", device_bar(need)))
    rows += [("", reason) for reason in data["reasons"]]
    rows += measured_rows(data)
    if data["runners_up"]:
        rows.append(("Also", other_line(data["runners_up"][0])))
        rows += [("", other_line(other)) for other in data["runners_up"][1:]]
    rows += [("Not", other_line(other)) for other in data["rejected"]]
    yield facts(rows)


def nothing_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Why nothing fits, and the ways out, numbered for --pick."""
    from rich.text import Text

    word = "Too close to promise" if data["fits"] == "too close" else "Does not fit"
    yield facts([("Machine", machine_line(data))])
    yield Text(f"{word}.", style="bold")
    yield facts([("", other_line(other)) for other in data["rejected"]])
    if not data["nearest"]:
        yield Text("Nothing comes near with these files: take a smaller quant or a smaller model.")
        return
    yield Text("What comes nearest", style="bold")
    yield facts([(f"{i:>3}", suggestion_line(other)) for i, other in enumerate(data["nearest"], 1)])
    yield Text("Take one with --pick N.")


def measured_rows(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was measured of the choice beside its rivals, and what to type for what was not; nothing without a rival."""
    measured = data.get("measured") or {}
    told = " ".join(data["reasons"])
    rivals = [one for one in measured.get("beside", ()) if one["words"] not in told]
    said = [f"beside {one['quant']}, measured: {one['words']}" for one in rivals]
    if measured.get("missing"):
        what = " and ".join(_KINDS.get(kind, kind) for kind in measured.get("missing", ()))
        said += [f"not measured here ({what}): {command}" for command in measured.get("next", ())[:1]]
    yield from (("Bench" if n == 0 else "", line) for n, line in enumerate(said))


_KINDS = {"vision": "answers"}


def machine_line(data: Mapping[str, Any]) -> str:
    """The devices with free memory and who else holds some; the runtime; the host."""
    parts = []
    for d in data["devices"]:
        line = f"{d['description'] or d['name']}, {gib(d['total_bytes'])} GiB, {gib(d['free_bytes'])} free"
        holders = [p["name"] for p in d["processes"]][:3]
        parts.append(line + (f" (others: {', '.join(holders)})" if holders else ""))
    runtime = data.get("runtime")
    if runtime and runtime["version"]:
        parts.append(f"Ollama {runtime['version']}")
    host = data.get("host")
    if host:
        parts.append(f"{host['total_bytes'] / 1024**3:.0f} GiB RAM")
    return " · ".join(parts)


def choice_line(choice: Mapping[str, Any]) -> str:
    """Quant, projector, context, KV and batch of a choice."""
    said: str = choice["quant"]
    if choice["projector"]:
        where = " on the CPU" if choice["projector_device"] == "cpu" else ""
        said += f" + {_file_name(choice['projector'])}{where}"
    said += f" · num_ctx {choice['num_ctx']} · KV {choice['kv_type']} · num_batch {choice['ubatch']}"
    if choice["num_gpu"] is not None:
        said += f" · num_gpu {choice['num_gpu']}"
    return said


def _file_name(source: str) -> str:
    """A file's own name, from its path or from a reference; a registry's blobs have none."""
    return "its projector" if source.startswith("ollama:") else Path(source).name.rpartition(":")[2]


def sum_line(need: Mapping[str, Any]) -> str:
    """Each component and the total, on the devices or on the host where there is none."""
    rows: Sequence[Mapping[str, Any]] = need["devices"] or [need["host"]]
    names = ("weights", "kv", "state", "compute", "projector", "encoder", "output", "draft", "overhead")
    sums = {n: sum(r.get(f"{n}_bytes", 0) for r in rows) for n in names}
    total = sum(r["total_bytes"] for r in rows)
    unit = "MiB" if total < 1024**3 else "GiB"
    scale = 1024**2 if unit == "MiB" else 1024**3
    digits = 0 if unit == "MiB" else 2
    shown = {n: f"{v / scale:.{digits}f}" for n, v in sums.items()}
    parts = [f"{'KV' if n == 'kv' else n} {text}" for n, text in shown.items() if float(text)]
    said = f"{'  '.join(parts)}  = {total / scale:.{digits}f} {unit}"
    if need["devices"]:
        free = sum(d["free_bytes"] for d in need["devices"])
        low, high = (need["band_bytes"][edge] / scale for edge in ("low", "high"))
        said += f" of {free / scale:.{digits}f}  ({low:.{digits}f} to {high:.{digits}f})"
    else:
        said += " of host memory"
    return f"{said}  {SAID_BY.get(need['rung'], need['rung'])}"


def device_bar(need: Mapping[str, Any]) -> RenderableType:
    """Weights, KV and state, compute, vision against what is free."""
    devices = need["devices"]

    def of(*names: str) -> int:
        return int(sum(d[f"{n}_bytes"] for d in devices for n in names))

    parts = (of("weights"), of("kv", "state"), of("compute", "overhead", "draft"), of("projector", "encoder"))
    return bar(parts, sum(d["free_bytes"] for d in devices))


def other_line(other: Mapping[str, Any]) -> str:
    """A variant that was not taken, and why."""
    return f"{other['quant']}: {other['why']}"


def suggestion_line(other: Mapping[str, Any]) -> str:
    """A way out: what is given up, the size, what it costs, the server setting it rests on."""
    size = other["total_device_bytes"] or other["total_host_bytes"]
    said = f"{other['quant']}, {other['why']}, num_ctx {other['num_ctx']}: {human(size)}"
    if other["cost"]:
        said += f"; {other['cost']}"
    settings = ", ".join(f"{k}={v}" for k, v in other["server_settings"].items())
    return said + (f"; server setting {settings}" if settings else "")
