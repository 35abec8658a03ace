"""The page: the template filled, style and script inside, and a policy under which nothing else is loaded or run."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qwenops.report.html import charts
from qwenops.report.html.svg import difference, patterns
from qwenops.report.known import PART_NAMES, figure, percent, sections, whose
from qwenops.report.plain import one_line, plain
from qwenops.units import human

_PARTS = (*PART_NAMES, "peak")


def page(data: Mapping[str, Any]) -> str:
    """The report as one HTML file: UTF-8 text without anything that a browser would fetch.

    `data` is that of "qwenops.report/1". Whatever stands in it, names and what a model read, is text to the page.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qwenops.report", "html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "line": one_line, "human": human}
    style, script = _packaged("style.css"), _packaged("explorer.js")
    marks = charts.Marks(data)
    charted = ("memory", "speed", "quality", "reading", "vision")
    drawn = {
        "memory": [charts.memory_chart(data["memory"])] if data["memory"] else [],
        "speed": charts.speed_charts(data["speed"], marks),
        "quality": charts.quality_charts(data["quality"], marks),
        "reading": charts.reading_charts(data["reading"], marks),
        "vision": charts.vision_charts(data["vision"], marks),
    }
    return environment.get_template("page.html.j2").render(
        data=data,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        explorer=Markup(_json_inside(data["explorer"])),
        patterns=patterns(_PARTS),
        part_names=Markup(_json_inside(PART_NAMES)),
        sections=sections(data),
        charts=drawn,
        misread=list(_misread(data)),
        findings=list(findings(data)),
        title=_title(data),
        has_encoder=any(p["part"] == "encoder" for row in data["memory"] for p in row["parts"]),
        whose={key: whose(data[key]) for key in charted},
    )


def findings(data: Mapping[str, Any]) -> Iterator[str]:
    """What the page comes to, a sentence each."""
    for plan in data["plans"]:
        where = f"{plan['task']} on {one_line(plan['for'])}"
        if choice := plan["choice"]:
            size = human(plan["total_device_bytes"] or plan["total_host_bytes"])
            what = f"{one_line(plan['model'], 60)} " * (len(data["plans"]) > 1) + one_line(choice["quant"])
            yield f"For {where}: {what} with num_ctx {choice['num_ctx']}, which takes {size}."
        else:
            yield f"{one_line(plan['model'], 60)} does not fit for {where}; the plan says what comes nearest."
    compared = [row for row in data["memory"] if row["compared"] and row["compared"]["predicted_bytes"]]
    if compared:
        off = max(abs(r["compared"]["measured_bytes"] / r["compared"]["predicted_bytes"] - 1) for r in compared)
        loads = "the load" if len(compared) == 1 else f"all {len(compared)} loads"
        yield f"Memory came as predicted within {max(0.01, math.ceil(1e4 * off) / 100):.2f} % in {loads}."
    generated = [r for r in data["speed"] if r["sort"] == "generation"]
    if generated:
        fastest = max(generated, key=lambda r: r["value"])
        others = [r for r in generated if all(r[key] == fastest[key] for key in ("test", "device", "engine"))]
        speed = f"{figure(fastest['value'])} tokens a second ({fastest['test']})"
        yield f"Fastest to generate: {one_line(fastest['label'])}, {speed}{_alike(fastest, others, lambda r: r)}."
    closest = min((r for r in data["quality"] if r["kld_mean"] is not None), key=lambda r: r["kld_mean"], default=None)
    if closest:
        yield f"Closest to its reference: {one_line(closest['label'])}, KL divergence {figure(closest['kld_mean'])}."
    best = min((r for r in data["reading"] if r["cer"]), key=lambda r: r["cer"]["value"], default=None)
    if best:
        others = [r for r in data["reading"] if r["cer"] and r["test"] == best["test"]]
        yield (
            f"Fewest characters misread: {one_line(best['label'])}, {percent(best['cer'])} "
            f"of {best['pages']} pages{_alike(best, others, lambda r: r['cer'])}."
        )


def _alike(
    best: Mapping[str, Any], others: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> str:
    """Whose interval meets the best one's: of those no difference was shown."""
    mine = of(best)
    near = [o for o in others if o is not best and of(o)["low"] <= mine["high"] and of(o)["high"] >= mine["low"]]
    named = list(dict.fromkeys(one_line(o["label"]) for o in near if o["label"] != best["label"]))
    return f"; no difference shown to {', '.join(named)}" if named else ""


def _misread(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Examples of what was misread, a block a variant."""
    for row in data["reading"]:
        if row["examples"]:
            yield {
                "label": one_line(row["label"]),
                "examples": [
                    {
                        "page": f"{one_line(e['page'])}, {one_line(e['kind'])}".rstrip(", "),
                        "wrong": f"{100 * e['cer']:.0f} %",
                        "truth": one_line(e["truth"][:320]) + ("…" if len(e["truth"]) > 320 else ""),
                        "read": difference(plain(e["truth"]), plain(e["read"])),
                        "nothing": not e["read"].strip(),
                    }
                    for e in row["examples"]
                ],
            }


def _title(data: Mapping[str, Any]) -> str:
    """The model's name where the report is of one."""
    rows = (*data["speed"], *data["quality"], *data["reading"], *data["vision"])
    names = {m["name"] for m in data["models"]} | {r["model"] for r in rows}
    return one_line(names.pop(), 80) if len(names) == 1 else "Models on this machine"


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy: this style and this script by their hashes, no request to anyone."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json_inside(value: Any) -> str:
    """JSON that may stand in a script element: no character of it can end the element."""
    said = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return said.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packaged(name: str) -> str:
    from importlib.resources import files

    return (files("qwenops.report.html") / name).read_text(encoding="utf-8").replace("\r\n", "\n")
