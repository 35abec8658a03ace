"""What two models differ in: their files, how they are talked to, their settings, and what they will need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenops.errors import QwenopsError
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime

_TEXTS = ("template", "system", "renderer", "parser", "requires")
_PARTS = ("weights_bytes", "kv_bytes", "state_bytes", "compute_bytes", "projector_bytes", "encoder_bytes")


@dataclass(frozen=True)
class Side:
    """One of the two: a registered model, or a Modelfile on disk. Files are digests, or paths where nothing was read.

    `need_bytes` are the parts of its predicted memory, on the devices and on the host; empty where it is not known.
    """

    name: str
    files: tuple[str, ...]
    quant: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    need_bytes: Mapping[str, int] = field(default_factory=dict)


def diff_result(first: str, second: str, *, progress: Progress = silent) -> Result:
    """Two registered models or Modelfiles held against one another ("qwenops.diff/1").

    Exit code 1 where they differ, 0 where they are the same but for their names.
    """
    from qwenops.runtime.discover import discover

    runtime = discover(probe_devices=False)
    one, other = (_side(name, runtime, progress) for name in (first, second))
    rows = [*_rows("quant", {"quant": one.quant}, {"quant": other.quant}), *_file_rows(one, other)]
    rows += _rows("text", one.texts, other.texts)
    rows += _rows("parameter", one.parameters, other.parameters)
    rows += _rows("memory", one.need_bytes, other.need_bytes) if one.need_bytes and other.need_bytes else []
    different = [r for r in rows if not r["same"]]
    data = {
        "first": one.name,
        "second": other.name,
        "same": not different,
        "rows": rows,
        "memory_known": bool(one.need_bytes and other.need_bytes),
    }
    return Result("qwenops.diff/1", data, exit_code=1 if different else 0)


def _rows(kind: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_row(kind, key, first.get(key), second.get(key)) for key in dict.fromkeys((*first, *second))]


def _row(kind: str, what: str, first: Any, second: Any) -> dict[str, Any]:
    return {"kind": kind, "what": what, "first": first, "second": second, "same": bool(first == second)}


def _file_rows(one: Side, other: Side) -> list[dict[str, Any]]:
    """File by file in their order: model, projector, what else there is."""
    longest = max(len(one.files), len(other.files))
    pairs = [(side.files + (None,) * longest)[:longest] for side in (one, other)]
    return [_row("file", f"file {n}", a, b) for n, (a, b) in enumerate(zip(*pairs, strict=True), 1)]


def _side(given: str, runtime: Runtime, progress: Progress) -> Side:
    path = Path(given)
    if path.is_file():
        return _of_modelfile(path)
    return _of_model(checked_name(given).short, runtime, progress)


def _of_modelfile(path: Path) -> Side:
    from qwenops.ollama.from_modelfile import spec_from

    spec = spec_from(path.read_bytes(), path.absolute().parent)
    texts = {key: str(value) for key in _TEXTS if (value := getattr(spec, key))}
    files = tuple(str(f) for f in spec.files) or ((spec.base,) if spec.base else ())
    return Side(str(path), files, texts=texts, parameters=dict(spec.parameters))


def _of_model(name: str, runtime: Runtime, progress: Progress) -> Side:
    from qwenops.ollama.models import show_model

    shown = show_model(runtime, name, progress=progress)
    said = {"template": shown.template, "system": shown.system}
    said |= {key: shown.config.get(key) for key in ("renderer", "parser", "requires")}
    return Side(
        shown.listed.name,
        tuple(f.digest for f in shown.listed.files) or (shown.listed.digest,),
        quant=shown.listed.quant,
        texts={key: str(value) for key, value in said.items() if value},
        parameters=dict(shown.parameters),
        need_bytes=_need(shown.listed.name, runtime),
    )


def _need(name: str, runtime: Runtime) -> dict[str, int]:
    """The parts of what its load will need here, by formula; empty where its files cannot be read."""
    from qwenops.machine.detect import detect
    from qwenops.setup.registered import need_of, registered_model

    try:
        one = registered_model(name, runtime)
        if one is None:
            return {}
        need = need_of(one, runtime, detect(), rung="closed form")
    except (QwenopsError, OSError):
        return {}
    places = [("device", d) for d in need.devices] + [("host", need.host)]
    sums: dict[str, int] = {}
    for place, part_of in places:
        for part in _PARTS:
            key = f"{place} {part.removesuffix('_bytes')}"
            sums[key] = sums.get(key, 0) + int(getattr(part_of, part))
    return {key: size for key, size in sums.items() if size}
