"""The catalogue as a command: which published models there are, and what of each fits this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qwenops.errors import BadInput
from qwenops.machine.types import Machine
from qwenops.model.catalog import Entry, catalog, find_named, matching, nearest
from qwenops.result import Result
from qwenops.setup.drawn import published_quants, published_variants


def models_result(query: Sequence[str], *, gpu: str | None) -> Result:
    """The catalogue's models that match a query, each with the best quant that fits ("qwenops.models/1").

    By formula from published dimensions: nothing is downloaded or asked. Exit code 1 when nothing matches.
    """
    from qwenops.setup.answers import look_around

    exact = find_named(" ".join(query)) if query else None
    entries = [exact.entry] if exact and exact.quant is None else matching(query)
    if not entries:
        near = nearest("".join(query))
        raise BadInput(
            f"no model of the catalogue matches {' '.join(query)!r}",
            do=(*(f"qwenops models {name}" for name in near), "qwenops models     (all of them)"),
        )
    machine, _ = look_around(gpu, probe_devices=False)
    data = {
        "machine": {
            "devices": [asdict(d) for d in machine.devices],
            "host_available_bytes": machine.host.available_bytes,
        },
        "models": _rows(entries, machine),
        "whole_catalogue": len(entries) == len(catalog()),
    }
    return Result("qwenops.models/1", data, notes=machine.notes)


def _rows(entries: Sequence[Entry], machine: Machine) -> list[dict[str, Any]]:
    """A row an entry; those of one shape and the same quants (Instruct and Thinking) are weighed once."""
    fits: dict[tuple[int, tuple[str, ...]], dict[str, Any] | None] = {}
    rows = []
    for entry in entries:
        key = (id(entry.shape), published_quants(entry))
        if key not in fits:
            fits[key] = _fits(entry, machine)
        rows.append(_row(entry, fits[key]))
    return rows


def _fits(entry: Entry, machine: Machine) -> dict[str, Any] | None:
    from qwenops.plan.best_quant import best_quant

    found = best_quant(published_variants(entry), machine)
    if found is None:
        return None
    variant = found.variant
    return {"quant": variant.model.quant, "num_ctx": found.num_ctx, "file_bytes": variant.file_bytes}


def _row(entry: Entry, fits: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": entry.names[0],
        "names": list(entry.names),
        "title": entry.title,
        "family": entry.family,
        "mode": entry.mode,
        "parameters": entry.parameters,
        "licence": entry.licence,
        "coordinates": entry.coordinates,
        "ollama": entry.ollama,
        "repos": [asdict(r) | {"sure": r.sure} for r in entry.repos],
        "dimensions_known": entry.shape is not None,
        "fits": fits,
        "sources": list(entry.sources),
        "unverified": list(entry.unverified),
        "own": entry.own,
    }
