"""Speed, quality, reading and sight as the history has them: the newest of each kind, with its interval."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.plain import whole
from qwenops.setup.report_names import Names

if TYPE_CHECKING:
    from qwenops.history import ResultRow

_TOKENS = re.compile(r"(pp|tg)(\d+)(?: @ d(\d+))?")
_EXAMPLES = 4
_ALTOGETHER = 0.9
_Z = 1.959964  # 95 % of a normal distribution lies within so many standard errors
_EXAMPLE_CHARACTERS = 1000


def speed_rows(names: Names, results: Iterable[ResultRow]) -> list[dict[str, Any]]:
    """A row a variant, test, engine, device and cache: median and interval in `unit`."""
    newest = _newest(
        (row for row in results if row.kind == "speed" and row.samples),
        lambda row: (row.model, row.quant, row.test, row.engine, row.device, *_conditions(row)),
    )
    names = names.within(row.model for row in newest)
    rows = [
        {**_shared(names, row), **_test(row), **_spread([float(s) for s in row.samples]), **_quiet(row)}
        for row in newest
    ]
    return _told_apart(rows)


_APART = {"ubatch": "ubatch {}", "batch": "batch {}", "threads": "{} threads", "flash_attn": "flash attention {}"}


def _told_apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with a setting in the label where variants differ in it alone."""
    varied = [
        key
        for key in _APART
        if any(
            len({row[key] for row in rows if all(row[k] == one[k] for k in ("label", "test", "engine", "device"))}) > 1
            for one in rows
        )
    ]
    return [
        {**row, "label": ", ".join([row["label"], *(_APART[key].format(row[key]) for key in varied if row[key])])}
        for row in rows
    ]


def _test(row: ResultRow) -> dict[str, Any]:
    """What a test's name says: "pp512 @ d4096" is 512 tokens of prompt behind 4096."""
    found = _TOKENS.fullmatch(row.test)
    if found is None:
        return {"test": row.test, "sort": "other", "tokens": None, "depth": None, "unit": row.unit}
    sort = "prompt" if found[1] == "pp" else "generation"
    return {
        "test": row.test,
        "sort": sort,
        "tokens": int(found[2]),
        "depth": int(found[3] or 0),
        "unit": row.unit or "t/s",
    }


def _spread(samples: Sequence[float]) -> dict[str, Any]:
    """The median with its interval; too few samples have none, and both ends are the median then."""
    from qwenops.bench.statistics import median_interval

    middle, found = statistics.median(samples), median_interval(samples)
    low, high = (found.low, found.high) if found else (middle, middle)
    return {"n": len(samples), "value": middle, "low": low, "high": high, "interval": found is not None}


def _quiet(row: ResultRow) -> dict[str, Any]:
    busy = row.evidence.get("busy") or ()
    energy = row.evidence.get("energy") or {}
    return {
        "busy": [f"{b.get('what')}: {b.get('value')} ({b.get('why')})" for b in busy if isinstance(b, Mapping)],
        "joules_per_1000_tokens": energy.get("joules_per_1000_tokens"),
    }


def quality_rows(names: Names, results: Iterable[ResultRow]) -> list[dict[str, Any]]:
    """A row a variant, cache, text and reference: the figures of llama-perplexity, and the file's size where known."""
    newest = _newest(
        (row for row in results if row.kind == "quality" and isinstance(row.settings.get("figures"), Mapping)),
        lambda row: (row.model, row.quant, *_conditions(row), *_under(row)),
    )
    names = names.within(row.model for row in newest)
    rows = []
    for row in newest:
        figures = row.settings["figures"]
        known = names.of_result(row)
        rows.append(
            {
                **_shared(names, row),
                "file_bytes": known.file_bytes,
                "ctx": row.settings.get("ctx"),
                "chunks": row.settings.get("chunks"),
                "reference": row.settings.get("reference_sha256"),
                "is_reference": figures.get("kld_mean") is None,
                **{
                    name: figures.get(name)
                    for name in (
                        *("ppl", "ppl_error", "kld_mean", "kld_error", "kld_median", "kld_p99"),
                        *("same_top", "same_top_error"),
                    )
                },
            }
        )
    return _with_front(rows)


def _with_front(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with whether each stands on the front of size and closeness among those under the same reference."""
    from qwenops.plan.front import Mark, front

    found: dict[int, str] = {}
    for at in {(row["reference"], row["ctx"]) for row in rows}:
        same = [n for n, row in enumerate(rows) if (row["reference"], row["ctx"]) == at and _placed(row)]
        points = []
        for row in (rows[n] for n in same):
            size, off = -float(row["file_bytes"]), row["kld_mean"] or 0.0
            reach = _Z * (row["kld_error"] or 0.0)
            points.append({"size": Mark(size, size, size), "close": Mark(-off, -off - reach, -off + reach)})
        found |= {n: place.standing for n, place in zip(same, front(points), strict=True)}
    return [{**row, "front": found.get(n) == "front"} for n, row in enumerate(rows)]


def _placed(row: Mapping[str, Any]) -> bool:
    return bool(row["file_bytes"]) and (row["kld_mean"] is not None or row["is_reference"])


def _under(row: ResultRow) -> tuple[Any, ...]:
    return tuple(row.settings.get(key) for key in ("ctx", "text_sha256", "reference_sha256"))


def reading_rows(names: Names, results: Iterable[ResultRow]) -> list[dict[str, Any]]:
    """A row a variant, set, engine and image limit: error rates over its pages, and examples of what was misread."""
    newest = _newest(
        (row for row in results if row.kind == "reading" and row.samples),
        lambda row: (
            *(row.model, row.quant, row.test, row.engine, *_conditions(row)),
            *(row.settings.get(key) for key in ("image_tokens", "temperature")),
        ),
    )
    names = names.within(row.model for row in newest)
    return [{**_shared(names, row), "test": row.test, **_pages(row)} for row in newest]


def _pages(row: ResultRow) -> dict[str, Any]:
    pages = [page for page in row.samples if isinstance(page, Mapping)]
    kinds = dict.fromkeys(str(page.get("kind") or "page") for page in pages)
    # A page that was read as something else altogether says less than one wrong letter does.
    wrong = sorted(
        (p for p in pages if (p.get("cer") or 0) > 0), key=lambda p: (float(p["cer"]) >= _ALTOGETHER, float(p["cer"]))
    )
    return {
        "image_tokens": row.settings.get("image_tokens"),
        "temperature": row.settings.get("temperature"),
        "pages": len(pages),
        "cer": _mean(pages, "cer"),
        "wer": _mean(pages, "wer"),
        "exact": _share([p["exact"] for p in pages if p.get("exact") is not None]),
        "empty": sum(bool(p.get("empty")) for p in pages),
        "loops": sum(bool(p.get("loop")) for p in pages),
        "seconds": _mean(pages, "seconds"),
        "tokens": _mean(pages, "tokens"),
        "kinds": [
            {"kind": kind, "cer": _mean([p for p in pages if str(p.get("kind") or "page") == kind], "cer")}
            for kind in kinds
        ],
        "examples": [
            {
                "page": whole(str(p.get("page"))),
                "kind": whole(str(p.get("kind") or "")),
                "cer": float(p["cer"]),
                "truth": _compared(p.get("truth")),
                "read": _compared(p.get("read")),
            }
            for p in _unlike(wrong)
        ],
    }


def _compared(text: Any) -> str:
    """A text as the score compares it: without marks of Markdown, and any blanks and line ends one blank."""
    from qwenops.bench.reading.score import even

    return whole(even(str(text or ""))[:_EXAMPLE_CHARACTERS])


def _unlike(pages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A few pages, one of each kind first."""
    firsts: dict[Any, Mapping[str, Any]] = {}
    for page in pages:
        firsts.setdefault(page.get("kind"), page)
    rest = [page for page in pages if not any(page is first for first in firsts.values())]
    return [*firsts.values(), *rest][:_EXAMPLES]


def vision_rows(names: Names, results: Iterable[ResultRow]) -> list[dict[str, Any]]:
    """A row a variant, test and engine: how many questions were answered right."""
    newest = _newest(
        (row for row in results if row.kind == "vision" and row.samples),
        lambda row: (row.model, row.quant, row.test, row.engine, *_conditions(row)),
    )
    names = names.within(row.model for row in newest)
    rows = []
    for row in newest:
        asked = [s for s in row.samples if isinstance(s, Mapping)]
        overlaps = [float(s["iou"]) for s in asked if s.get("iou") is not None]
        rows.append(
            {
                **_shared(names, row),
                "test": row.test.removeprefix("vision "),
                "right": _share([bool(s.get("right")) for s in asked]),
                "iou": statistics.fmean(overlaps) if overlaps else None,
            }
        )
    return rows


def _shared(names: Names, row: ResultRow) -> dict[str, Any]:
    kv, flash, batch, ubatch, threads = _conditions(row)
    label = names.label(row.model, row.quant)
    return {
        "label": label if kv == "f16" else f"{label}, KV {kv}",
        "model": whole(row.model),
        "kv_type": kv,
        "flash_attn": flash,
        "batch": batch,
        "ubatch": ubatch,
        "threads": threads,
        "engine": whole(row.engine),
        "device": whole(row.device),
        "created": row.created.isoformat(timespec="seconds"),
    }


def _conditions(row: ResultRow) -> tuple[Any, ...]:
    """What was set apart from the variant: KV type, flash attention, batch, micro-batch, threads."""
    settings = row.settings
    return (settings.get("kv_type") or "f16", *(settings.get(k) for k in ("flash_attn", "batch", "ubatch", "threads")))


def _newest(rows: Iterable[ResultRow], key: Callable[[ResultRow], tuple[Any, ...]]) -> list[ResultRow]:
    """The last row of each kind, in the order in which the kinds first came."""
    found: dict[tuple[Any, ...], ResultRow] = {}
    for row in rows:
        found[key(row)] = row
    return list(found.values())


def _mean(pages: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    from qwenops.bench.reading.figures import mean

    values = [float(page[key]) for page in pages if page.get(key) is not None]
    return {**mean(values).as_data(), "n": len(values)} if values else None


def _share(right: Sequence[bool]) -> dict[str, Any] | None:
    from qwenops.bench.reading.figures import share

    return {**share(sum(right), len(right)).as_data(), "n": len(right), "right": sum(right)} if right else None
