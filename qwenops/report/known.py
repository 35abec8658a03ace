"""The tables of a report: the same rows for the terminal, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenops.plan.explorer import value_at
from qwenops.report.plain import one_line
from qwenops.units import MIB, gib, human, mib

NONE = "·"
PART_NAMES = {
    "weights": "weights",
    "kv": "KV cache",
    "state": "state",
    "compute": "compute",
    "projector": "projector",
    "encoder": "image encoder",
    "output": "output",
    "draft": "draft",
    "overhead": "other",
}
SORTS = {"prompt": "Prompt", "generation": "Generation"}


@dataclass(frozen=True)
class Table:
    """A table: what it says, the heads of its columns, its rows of plain text; the first `left` columns are words."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


@dataclass(frozen=True)
class Section:
    """A part of the report: its name, its tables, and what to run where it has none."""

    key: str
    title: str
    tables: tuple[Table, ...]
    fill: tuple[str, ...]
    notes: tuple[str, ...] = ()


def sections(data: Mapping[str, Any]) -> tuple[Section, ...]:
    """Every part, in the order in which people ask: what fits, did it, how fast, how good, what is misread."""
    names = str(data["models"][0]["asked"][0]) if data["models"] else "MODEL.gguf"
    files = names if data["models"] and data["models"][0]["here"] else "MODEL.gguf"
    return (
        Section("machine", "Machine", (machine_table(data["machine"]),), ()),
        Section(
            "plan",
            "Plan",
            tuple(plan_table(plan) for plan in data["plans"]),
            (f"qwenops report {names} --for {data['task']['name']} -o report.html",),
            tuple(data["plans"][0]["reasons"]) if len(data["plans"]) == 1 else (),
        ),
        Section(
            "explorer",
            "What fits",
            tuple(fits_tables(data["explorer"])) if data["explorer"] else (),
            ('qwenops report MODEL.gguf --gpu "RTX 3060 12GB" -o report.html',),
        ),
        Section(
            "memory",
            "Memory, predicted beside measured",
            (memory_table(data["memory"]),) if data["memory"] else (),
            (f"qwenops up {names}", "qwenops verify NAME"),
        ),
        Section("speed", "Speed", tuple(speed_tables(data["speed"])), (f"qwenops bench speed {files}",)),
        Section(
            "quality",
            "Quality against size",
            tuple(quality_tables(data["quality"])),
            ("qwenops bench quality --reference MODEL-Q8_0.gguf MODEL-Q4_K_M.gguf",),
        ),
        Section("reading", "Reading", tuple(reading_tables(data["reading"])), (f"qwenops bench ocr {files}",)),
        Section(
            "vision",
            "Seeing",
            (vision_table(data["vision"]),) if data["vision"] else (),
            (f"qwenops bench vision {files}",),
        ),
    )


def machine_table(machine: Mapping[str, Any]) -> Table:
    """Devices, host and runtime."""
    rows = []
    for d in machine["devices"]:
        said = f"{one_line(d['description']) or d['name']}, {gib(d['free_bytes'])} of {gib(d['total_bytes'])} GiB free"
        driver = f", driver {one_line(d['driver'])}" if d["driver"] else ""
        rows.append((one_line(d["name"]), said + driver))
    if not rows:
        rows.append(("devices", "none: models run on the CPU"))
    host = machine["host"]
    rows.append(
        (
            "host",
            f"{host['physical_cores']} cores, {gib(host['available_bytes'])} of {gib(host['total_bytes'])} GiB "
            f"available, {host['os']} {host['arch']}",
        )
    )
    runtime = machine["runtime"]
    if runtime is None or not runtime["reachable"]:
        rows.append(("runtime", "no Ollama answers here"))
    else:
        build = f", llama-server {one_line(runtime['llama_server_build'])}" if runtime["llama_server_build"] else ""
        rows.append(("runtime", f"Ollama {one_line(runtime['version'])}{build}"))
        said = ", ".join(f"{s['name']}={one_line(s['value'])}" for s in runtime["settings"])
        rows.append(("settings", said or "all of the server's settings are its defaults"))
    return Table("The machine", ("", "found"), tuple(rows), left=2)


def plan_table(plan: Mapping[str, Any]) -> Table:
    """The choice, and what else there was."""
    rows = []
    if choice := plan["choice"]:
        total = plan["total_device_bytes"] or plan["total_host_bytes"]
        rows.append(_planned("chosen", choice, total, "yes", plan["reasons"][0] if plan["reasons"] else ""))
    for other in plan["others"]:
        size = other["total_device_bytes"] or other["total_host_bytes"]
        rows.append(_planned(other["as"], other, size, other["fits"], other["why"] or other["cost"]))
    return Table(
        f"{one_line(plan['model'], 60)} for {plan['task']} on {one_line(plan['for'])}",
        ("", "quant", "num_ctx", "KV", "pictures", "GiB", "fits", "why"),
        tuple(rows),
        left=2,
    )


def _planned(word: str, choice: Mapping[str, Any], size: int, fits: str, why: str) -> tuple[str, ...]:
    pictures = f"{choice['images']} of {choice['picture_tokens']}" if choice["images"] else NONE
    head = (word, one_line(choice["quant"]), str(choice["num_ctx"]), choice["kv_type"], pictures)
    return (*head, gib(size), fits, one_line(why))


def fits_tables(explorer: Mapping[str, Any]) -> Iterator[Table]:
    """The largest context that fits, a row a model and KV type, a column a card; flash attention auto."""
    models = explorer["models"]
    cards = explorer["cards"][:6]
    rows = []
    for model in models:
        limit = len(model["image_limits"]) - 1
        for number, (flash, kv) in enumerate(model["caches"]):
            if flash == "auto":
                cells = (_largest(explorer, model, card, number, limit) for card in range(len(cards)))
                rows.append((one_line(model["label"]), kv, *cells))
    more = f" (the first {len(cards)} of {len(explorer['cards'])})" if len(explorer["cards"]) > len(cards) else ""
    yield Table(
        f"The largest context that fits, with pictures at the runtime's limit{more}",
        ("model", "KV", *(one_line(card["name"]) for card in cards)),
        tuple(rows),
        left=2,
    )


def _largest(explorer: Mapping[str, Any], model: Mapping[str, Any], card: int, cache: int, limit: int) -> str:
    fitting = [
        context
        for at, context in enumerate(model["contexts"])
        if verdict(explorer, model, card, (cache, at, limit)) == "yes"
    ]
    return str(max(fitting)) if fitting else NONE


def verdict(explorer: Mapping[str, Any], model: Mapping[str, Any], card: int, at: Sequence[int]) -> str:
    """'yes', 'no' or 'too close' at one point of the grid, by the planner's rule; the page's script has the same."""
    place = explorer["cards"][card]
    grid = model["grids"][model["grid_of_card"][card]]
    shape = (len(model["caches"]), len(model["contexts"]), len(model["image_limits"]))
    host = sum(value_at(column, shape, at) for column in grid["host"].values())
    if host > place["host_room_bytes"]:
        return "no"
    devices = list(zip(grid["devices"], place["devices"], strict=True))
    if any(value_at(columns.get("low"), shape, at) > device["free_bytes"] for columns, device in devices):
        return "no"
    fits = all(value_at(columns.get("high"), shape, at) <= device["free_bytes"] for columns, device in devices)
    return "yes" if fits else "too close"


def memory_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a part of each load."""
    body = []
    for row in rows:
        name = f"{one_line(row['label'])}, {memory_settings(row)}"
        for part in row["parts"]:
            seen = part["measured_bytes"]
            said = NONE if seen is None else mib(seen)
            off = NONE if seen is None or part["part"] == "encoder" else signed_mib(seen - part["predicted_bytes"])
            body.append((name, PART_NAMES[part["part"]], mib(part["predicted_bytes"]), said, off))
        if row["compared"]:
            planned, seen = row["compared"]["predicted_bytes"], row["compared"]["measured_bytes"]
            body.append((name, "compared", mib(planned), mib(seen), signed_mib(seen - planned)))
        else:
            body.append((name, "all", mib(row["predicted_bytes"]), mib(row["measured_bytes"]), NONE))
    return Table(
        f"Memory{whose(rows)} in MiB, predicted before the load and measured in it",
        ("load", "part", "predicted", "measured", "off"),
        tuple(body),
        left=2,
    )


def memory_settings(row: Mapping[str, Any]) -> str:
    """Where and under which settings a load ran."""
    context = f"num_ctx {row['num_ctx']}, " if row["num_ctx"] else ""
    test = f"{row['test']}, " if row["test"] else ""
    return f"{test}{context}KV {row['kv_type']}, {one_line(row['where'], 40)}"


def signed_mib(n_bytes: int) -> str:
    """A difference in MiB with its sign."""
    return "0" if n_bytes == 0 else f"{n_bytes / MIB:+.2f}"


def speed_tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """A table for each device and engine."""
    for (device, engine), group in grouped(rows, lambda r: (r["device"], r["engine"])):
        body = tuple(
            (
                one_line(r["label"]),
                r["test"],
                figure(r["value"]),
                between(r),
                r["unit"],
                str(r["n"]),
                "busy" if r["busy"] else "",
            )
            for r in group
        )
        where = " with ".join(one_line(word) for word in (device, engine) if word) or "this machine"
        header = ("variant", "test", "median", "95 % interval", "unit", "runs", "machine")
        yield Table(f"Speed{whose(rows)} on {where}", header, body, left=2)


def quality_tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """A table for each reference: what is compared with another reference is not compared."""
    for _, group in grouped(rows, lambda r: (r["reference"], r["ctx"])):
        body = tuple(
            (
                one_line(r["label"]) + (" (reference)" if r["is_reference"] else ""),
                human(r["file_bytes"]) if r["file_bytes"] else NONE,
                _beside(r["ppl"], r["ppl_error"], 3),
                _beside(r["kld_mean"], r["kld_error"], 4),
                NONE if r["kld_p99"] is None else f"{r['kld_p99']:.4f}",
                NONE if r["same_top"] is None else f"{100 * r['same_top']:.1f} %",
                "yes" if r.get("front") else "",
            )
            for r in group
        )
        first = group[0]
        header = ("variant", "size", "perplexity", "KL divergence", "KLD 99 %", "same top token", "front")
        yield Table(f"Quality{whose(rows)} over {first['chunks']} chunks of {first['ctx']} tokens", header, body)


def reading_tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Error rates by variant, a table a set of pages."""
    for (test,), group in grouped(rows, lambda r: (r["test"],)):
        body = tuple(
            (
                one_line(r["label"]),
                str(r["image_tokens"] or NONE),
                str(r["pages"]),
                percent(r["cer"]),
                percent(r["wer"]),
                NONE if not r["exact"] else f"{r['exact']['right']} of {r['exact']['n']}",
                str(r["empty"]),
                str(r["loops"]),
                figure(r["seconds"]["value"]) if r["seconds"] else NONE,
            )
            for r in group
        )
        header = (
            *("variant", "image tokens", "pages", "wrong characters", "wrong words", "exact"),
            *("empty", "loops", "s a page"),
        )
        yield Table(f"Reading{whose(rows)}, {one_line(test)}", header, body)


def vision_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Questions about made pictures that were answered right."""
    body = tuple(
        (
            one_line(r["label"]),
            one_line(r["test"]),
            f"{r['right']['right']} of {r['right']['n']}" if r["right"] else NONE,
            percent(r["right"]),
            NONE if r["iou"] is None else f"{r['iou']:.2f}",
        )
        for r in rows
    )
    return Table(
        f"Questions about made pictures{whose(rows)}", ("variant", "test", "right", "share", "mean IoU"), body, left=2
    )


def whose(rows: Iterable[Mapping[str, Any]]) -> str:
    """' of NAME' where all rows are of one model, whose name their labels leave out."""
    names = {row["model"] for row in rows}
    return f" of {one_line(names.pop(), 60)}" if len(names) == 1 else ""


def grouped(
    rows: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], tuple[Any, ...]]
) -> list[tuple[tuple[Any, ...], list[Mapping[str, Any]]]]:
    """Rows by key, in the order in which the keys first came."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.items())


def figure(value: float) -> str:
    """A value with three digits that count: 1 412, 41.2, 0.0143."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if abs(value) >= 1:
        return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"
    return f"{value:.3g}"


def between(row: Mapping[str, Any]) -> str:
    """'40.9 to 41.4', or a dot where there were too few runs for an interval."""
    return NONE if not row["interval"] else f"{figure(row['low'])} to {figure(row['high'])}"


def percent(share: Mapping[str, Any] | None) -> str:
    """A share with its interval: '2.9 % (2.1 to 3.8)'."""
    if share is None:
        return NONE
    value, low, high = (100 * share[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _beside(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return NONE
    return f"{value:.{digits}f} ±{error or 0.0:.{digits}f}"
