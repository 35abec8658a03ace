"""The fit of llama-server as it tells it: the table of each trial, and which trial it will load.

Formats as printed by llama.cpp b10434 (common/fit.cpp, tools/server). Sizes are bytes; the tables give whole MiB
rounded down. At verbosity 5 the log has the lines of single buffers as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from qwenops.memory.buffer_lines import CACHE, BufferLine, buffer_in, flash_attn_in, in_bytes, layers_in
from qwenops.memory.types import Layers
from qwenops.units import MIB

FitEnd = Literal["as asked", "spilled", "none"]

_CACHE_LAYER = re.compile(r"(llama_kv_cache|llama_memory_recurrent)\w*[:,] layer\s+(\d+): dev = (\S+)")
_LAYER = re.compile(r"load_tensors: layer\s+(\d+) assigned to device (\S+?),")
_OVERRIDDEN = re.compile(r"tensor (blk\.\d+\.\S+) .* buffer type overridden to (\S+)")
_ROW = re.compile(
    r"\|\s+- (?P<name>\S+)(?: \((?P<description>.*)\))?\s*\|\s*"
    r"(?:(?P<total>\d+) =\s*(?P<free>\d+) \+ \()?\s*"
    r"(?P<self>\d+) =\s*(?P<model>\d+) \+\s*(?P<context>\d+) \+\s*(?P<compute>\d+)"
)
_TRY = re.compile(r"id=(\d+), n_layer=\s*(\d+), n_part=\s*(\d+), overflow_type=(\d+), mem=\s*(\d+) MiB")
_CHOICE = re.compile(
    r"common_params_fit_impl:\s+- (\S+) .*:\s+(\d+) layers(?: \(\s*(\d+) overflowing\))?,\s+(\d+) MiB used"
)
_MMPROJ_SUM = re.compile(r"estimated worst-case memory usage of mmproj is ([\d.]+) MiB")
_MMPROJ_SHARE = re.compile(r"\[mtmd\] adding ([\d.]+) MiB to fit_params_target for device (\S+)")
_DRAFT_SHARE = re.compile(r"\[spec\] adding ([\d.]+) MiB to fit_params_target for device (\S+)")
_DRAFT_SUM = "[spec] estimated memory usage of"
_FIT_BEGIN = "getting device memory data for initial parameters"
_FIT_DONE = "fitting params to free memory took"


@dataclass(frozen=True)
class MemoryRow:
    """A row of the fit's table, in bytes rounded down to whole MiB; total and free only for devices."""

    name: str
    description: str
    total_bytes: int | None
    free_bytes: int | None
    self_bytes: int
    model_bytes: int
    context_bytes: int
    compute_bytes: int


@dataclass(frozen=True)
class Cache:
    """A KV cache or recurrent state: its exact size and the device of each layer that owns a part."""

    kind: Literal["KV", "RS"]
    size_bytes: int
    cells: int
    layer_devices: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class FitPass:
    """One trial of the fit: its table, and the exact lines of the same trial where the log is verbose enough.

    `overridden` names the tensors that go elsewhere than their layer, with the buffer they go to.
    """

    rows: tuple[MemoryRow, ...]
    layers: Layers | None
    layer_devices: tuple[tuple[int, str], ...]
    caches: tuple[Cache, ...]
    buffers: tuple[BufferLine, ...]
    tries: tuple[tuple[int, int], ...]
    flash_attn: bool | None
    overridden: tuple[tuple[str, str], ...] = ()

    def row(self, name: str) -> MemoryRow | None:
        """The row of one device, or of "Host"."""
        return next((r for r in self.rows if r.name == name), None)

    @property
    def devices(self) -> tuple[MemoryRow, ...]:
        """The rows of real devices: those that have a free figure."""
        return tuple(r for r in self.rows if r.free_bytes is not None)


@dataclass(frozen=True)
class FitLog:
    """The fit's whole answer. `end` says whether what was asked was kept; `chosen` is the trial that will be loaded.

    `draft` is the trial in which a draft's context was measured, before the fit.
    """

    passes: tuple[FitPass, ...]
    end: FitEnd
    chosen: FitPass | None
    mmproj_bytes: int | None
    mmproj_shares: Mapping[str, int]
    draft_shares: Mapping[str, int]
    overflowing_layers: int
    draft: FitPass | None = None


def parse_fit_log(text: str) -> FitLog:
    """The fit's trials and its choice, from a log at verbosity 4 (tables) or 5 (exact lines as well)."""
    lines = text.splitlines()
    passes = tuple(_passes(lines))
    choice = [found for line in lines if (found := choice_in(line)) is not None]
    # The dense stage and the expert stage each print a line a device: the last ones are the choice.
    devices = len(passes[0].devices) if passes else 0
    final = tuple(choice[-devices:]) if devices and len(choice) >= devices else ()
    if not passes:
        end: FitEnd = "none"
        chosen = None
    elif final:
        end = "spilled"
        # The dense stage prints from the last device to the first.
        chosen = _last_try(passes, final, -1) or _last_try(passes, final[::-1], 0)
    else:
        end, chosen = "as asked", passes[0]
    return FitLog(
        passes=passes,
        end=end,
        chosen=chosen,
        mmproj_bytes=next((in_bytes(m[1]) for line in lines if (m := _MMPROJ_SUM.search(line))), None),
        mmproj_shares=_shares(lines, _MMPROJ_SHARE),
        draft_shares=_shares(lines, _DRAFT_SHARE),
        overflowing_layers=sum(part for _, part, _ in final),
        draft=_draft_pass(lines),
    )


def fit_is_done(line: str) -> bool:
    """Whether this line is printed after the fit's last trial and before any weights are read."""
    return _FIT_DONE in line


def first_trial_is_done(line: str) -> bool:
    """Whether this line is printed just after the first table."""
    return "projected to use" in line


def choice_in(line: str) -> tuple[int, int, int] | None:
    """What a line says was chosen for a device: layers, those of them that overflow, MiB used; or None."""
    match = _CHOICE.search(line)
    return (int(match[2]), int(match[3] or 0), int(match[4])) if match else None


def _draft_pass(lines: list[str]) -> FitPass | None:
    ends = [i for i, line in enumerate(lines) if _DRAFT_SUM in line]
    return _fit_pass(lines[: ends[0]]) if ends else None


def _passes(lines: list[str]) -> Iterator[FitPass]:
    """Cut the fit's log into trials: each ends with its table; what the search says about it follows the table."""
    inside = False
    block: list[str] = []
    for line in lines:
        if _FIT_BEGIN in line:
            inside, block = True, []
        elif _FIT_DONE in line and inside:
            break
        if not inside:
            continue
        starts_next = "loading model tensors" in line and any("| " in seen and _ROW.search(seen) for seen in block)
        if starts_next:
            yield _fit_pass(block)
            block = []
        block.append(line)
    if inside and any(_ROW.search(line) for line in block):
        yield _fit_pass(block)


def _fit_pass(block: list[str]) -> FitPass:
    rows: list[MemoryRow] = []
    caches: list[Cache] = []
    owners: dict[str, list[tuple[int, str]]] = {"KV": [], "RS": []}
    buffers: dict[tuple[str, str, str], BufferLine] = {}
    layer_devices: list[tuple[int, str]] = []
    tries: list[tuple[int, int]] = []
    overridden: list[tuple[str, str]] = []
    layers: Layers | None = None
    flash: bool | None = None
    for line in block:
        if match := _ROW.search(line):
            rows.append(_row(match))
        elif match := _TRY.search(line):
            tries.append((int(match[2]), int(match[3])))
        elif found := buffer_in(line):
            buffers[(found.component, found.backend, found.kind)] = found
        elif match := _CACHE_LAYER.search(line):
            owners[_cache_kind(match[1])].append((int(match[2]), match[3]))
        elif match := CACHE.search(line):
            kind = _cache_kind(match[1])
            caches.append(Cache(kind, in_bytes(match[2]), int(match[3]), tuple(owners[kind])))
            owners[kind] = []
        elif match := _OVERRIDDEN.search(line):
            overridden.append((match[1], match[2]))
        elif match := _LAYER.search(line):
            layer_devices.append((int(match[1]), match[2]))
        else:
            layers = layers_in(line) or layers
            said = flash_attn_in(line)
            flash = flash if said is None else said
    return FitPass(
        rows=tuple(rows),
        layers=layers,
        layer_devices=tuple(layer_devices),
        caches=tuple(caches),
        buffers=tuple(buffers.values()),
        tries=tuple(tries),
        flash_attn=flash,
        overridden=tuple(overridden),
    )


def _cache_kind(component: str) -> Literal["KV", "RS"]:
    return "RS" if component == "llama_memory_recurrent" else "KV"


def _row(match: re.Match[str]) -> MemoryRow:
    def size(name: str) -> int | None:
        return int(match[name]) * MIB if match[name] is not None else None

    return MemoryRow(
        name=match["name"],
        description=match["description"] or "",
        total_bytes=size("total"),
        free_bytes=size("free"),
        self_bytes=size("self") or 0,
        model_bytes=size("model") or 0,
        context_bytes=size("context") or 0,
        compute_bytes=size("compute") or 0,
    )


def _last_try(passes: tuple[FitPass, ...], final: tuple[tuple[int, int, int], ...], newest: int) -> FitPass | None:
    """The trial of a choice: layers, those without experts, MiB used, by device.

    The last trials of a mixture of experts move parts of one block at the same number of layers, and not all of them
    are taken: what was used tells them apart, on the device that was printed last; what was printed of others before
    may have changed since.
    """
    tried = [p for p in reversed(passes) if p.tries == tuple((layers, part) for layers, part, _ in final)]
    used = final[newest][2] * MIB
    return next((p for p in tried if p.devices[newest].self_bytes == used), tried[0] if tried else None)


def _shares(lines: list[str], pattern: re.Pattern[str]) -> dict[str, int]:
    return {m[2]: in_bytes(m[1]) for line in lines if (m := pattern.search(line))}
