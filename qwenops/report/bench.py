"""Benchmark tables: one row a model and test, the spread beside the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import grid
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType


def bench_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The speed table, what variants are beside each other, then load, memory and energy of each."""
    from rich.text import Text

    yield Text(", ".join(dict.fromkeys(m["model"] for m in data["models"])), style="bold")
    rows = data["results"]
    for unit, digits in (("t/s", 2), ("s", 3)):
        chosen = [r for r in rows if r["unit"] == unit and r["value"]]
        if chosen:
            yield grid(["variant", "test", unit, "95 %", "spread", "n"], [_row(r, digits) for r in chosen], left=2)
            yield Text("")
    yield from _without_a_value(data)
    yield from _comparisons(data)
    yield from _baseline(data)
    yield grid(
        ["variant", "file GiB", "load s", "RAM peak", "planned", "device peak", "planned"], _memory(data), left=1
    )
    yield from _energy(data)
    yield from _busy(data)
    yield Text(_how(data), style="dim")


def _row(row: Mapping[str, Any], digits: int) -> list[str]:
    value = row["value"]
    found = value["interval"]
    return [
        row["label"],
        row["test"],
        f"{value['median']:.{digits}f}",
        f"{found['low']:.{digits}f} to {found['high']:.{digits}f}" if found else "·",
        f"{value['min']:.{digits}f} to {value['max']:.{digits}f}",
        str(len(value["samples"])),
    ]


def _without_a_value(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    for row in data["results"]:
        if row["status"] in ("failed", "cannot") and row["order"] is not None:
            style = "red" if row["status"] == "failed" else "dim"
            yield Text(f"{row['label']} {row['test']}: {row['reason']}", style=style)
            for step in row["do"]:
                yield Text(f"  {step}")
    for one in data["unread"]:
        yield Text(f"{one['file']}: {one['error']}", style="red")
        for step in one["do"]:
            yield Text(f"  {step}")


def _comparisons(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    for one in data["comparisons"]:
        words = one["words"]
        if one["verdict"] == "too few rounds":
            words += f" to compare ({one['rounds']}): --precision 1%"
        yield Text(f"{one['label']} beside {one['base']}, {one['test']}: {words}")
    if data["comparisons"]:
        yield Text("")


def _baseline(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    found = data["baseline"]
    if not found:
        return
    yield Text(f"Beside {found['run']} of {found['created'][:16]}, tolerance {found['tolerance']:.1%}", style="bold")
    for one in found["comparisons"]:
        style = "red" if one["regression"] else ""
        change = f"{(one['ratio'] - 1) * 100:+.1f} %"
        doubt = ", on a busy machine" if one["busy"] and one["regression"] else ""
        yield Text(f"  {one['label']} {one['test']}: {one['words']} (median {change}){doubt}", style=style)
    yield Text("")


def _memory(data: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for model in data["models"]:
        memory = model["memory"]
        planned = memory["planned"]
        device = model["peak_device_bytes"]
        on_devices = sum(d["total_bytes"] for d in planned["devices"].values()) if planned else 0
        rows.append(
            [
                model["label"],
                gib(model["file_bytes"]) if model["file_bytes"] else "·",
                f"{model['load_seconds']:.2f}" if model["load_seconds"] is not None else "·",
                human(model["peak_host_bytes"] - memory["idle_host_bytes"]) if model["peak_host_bytes"] else "·",
                human(planned["host"]["total_bytes"]) if planned else "·",
                human(device) if device is not None else "not measured",
                human(on_devices) if on_devices else "·",
            ]
        )
    return rows


def _energy(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    rows = [
        [
            r["label"],
            r["test"],
            f"{r['energy']['joules_per_1000_tokens']:.1f}",
            f"{r['energy']['tokens_per_second_per_watt']:.2f}",
            f"{r['energy']['watts']:.0f}",
        ]
        for r in data["results"]
        if r["energy"] and r["energy"]["joules_per_1000_tokens"] and r["unit"] == "t/s"
    ]
    if rows:
        yield Text("")
        yield grid(["variant", "test", "J/1000 tokens", "t/s per W", "W"], rows, left=2)


def _busy(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    said = dict.fromkeys(flag["why"] for row in data["results"] for flag in row["busy"])
    if said:
        yield Text("The machine was not quiet: " + "; ".join(list(said)[:4]), style="yellow")


def _how(data: Mapping[str, Any]) -> str:
    engine, order = data["engine"], data["order"]
    build = {True: " (GPU build)", False: " (CPU build)"}.get(engine.get("gpu"), "")
    threads = f", {engine['threads']} threads" if engine.get("threads") else ""
    several = f", {order['mode']}, seed {order['seed']}" if len(data["models"]) > 1 else ""
    return f"{engine['name']} {engine.get('version', '')}{build}{threads}{several} · run {data['run']}"
