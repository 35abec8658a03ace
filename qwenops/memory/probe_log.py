"""Read what llama-server says about memory: the table of its fit, and the buffers of a real load.

Pure functions from text to frozen values. Formats as printed by llama.cpp b10434 (common/fit.cpp,
src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp, src/llama-context.cpp, tools/mtmd/clip.cpp); Ollama 0.32.14
copies them into its own log unchanged. Sizes are bytes; the log gives MiB with two digits (buffers) or whole MiB
rounded down (tables).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from qwenops.memory.types import Layers
from qwenops.units import MIB

BufferKind = Literal["model", "KV", "RS", "compute", "output"]
FitEnd = Literal["as asked", "spilled", "none"]

_BUFFER = re.compile(r"([A-Za-z_]\w*):\s+(\S+)\s+(model|KV|RS|compute|output)\s+buffer size\s*=\s*([\d.]+)\s*MiB")
_CACHE = re.compile(
    r"(llama_kv_cache|llama_memory_recurrent)\S*: size =\s*([\d.]+) MiB \(\s*(\d+) cells,\s*(\d+) layers"
)
_CACHE_LAYER = re.compile(r"(llama_kv_cache|llama_memory_recurrent)\w*[:,] layer\s+(\d+): dev = (\S+)")
_LAYER = re.compile(r"load_tensors: layer\s+(\d+) assigned to device (\S+?),")
_OVERRIDDEN = re.compile(r"tensor (blk\.\d+\.\S+) .* buffer type overridden to (\S+)")
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_FREE = re.compile(r"using device (\S+)\s+\(.*\)\s+-\s+(\d+)\s+MiB free")
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
_FLASH = re.compile(r"(?:Flash Attention|flash_attn\s+=) (enabled|disabled|not supported)")
_CLIP_WEIGHTS = re.compile(r"model size:\s+([\d.]+) MiB")
_CLIP_BACKEND = re.compile(r"CLIP using (\S+) backend")
_CONTEXT = re.compile(r"llama_context: n_ctx\s+= (\d+)")
_START = re.compile(r"starting llama-server\b.*")
_FIT_DONE = "fitting params to free memory took"
_FIT_BEGIN = "getting device memory data for initial parameters"


@dataclass(frozen=True)
class BufferLine:
    """One buffer as logged: `component` is the function that made it, `backend` its buffer type ("Vulkan_Host").

    `of_draft` is whether it was made for a draft, in a context of its own behind the model's.
    """

    component: str
    backend: str
    kind: BufferKind
    size_bytes: int
    of_draft: bool = False

    @property
    def on_host(self) -> bool:
        """Host memory: plain, mapped, repacked or pinned. By the same rule as Ollama's isGPUBuffer."""
        return self.backend in ("CPU", "BLAS") or self.backend.startswith("CPU_") or self.backend.endswith("_Host")

    @property
    def device(self) -> str:
        """The device's own name, without what says how the buffer was made ("MTL0_Mapped" is "MTL0")."""
        return re.sub(r"_(Mapped|REPACK|Private)$", "", self.backend)

    @property
    def of_projector(self) -> bool:
        """Made for the vision projector, not for the text model."""
        return self.component == "reserve_compute_meta"


@dataclass(frozen=True)
class LoadLines:
    """What one real load logged. `command` is the llama-server command line where Ollama wrote it."""

    buffers: tuple[BufferLine, ...] = ()
    layers: Layers | None = None
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    projector_weights_bytes: int | None = None
    projector_backend: str | None = None
    n_ctx: int | None = None
    flash_attn: bool | None = None
    overflowing_layers: int = 0
    command: str | None = None
    error: str | None = None

    def device_bytes(self, device: str, *kinds: BufferKind, projector: bool = False) -> int:
        """The sum of a device's buffers of these kinds (all kinds when none is named), without a draft's."""
        return sum(b.size_bytes for b in self._of_model(kinds, projector) if not b.on_host and b.device == device)

    def host_bytes(self, *kinds: BufferKind, projector: bool = False) -> int:
        """The same sum for the host."""
        return sum(b.size_bytes for b in self._of_model(kinds, projector) if b.on_host)

    def _of_model(self, kinds: tuple[BufferKind, ...], projector: bool) -> Iterator[BufferLine]:
        return (
            b for b in self.buffers if (not kinds or b.kind in kinds) and b.of_projector is projector and not b.of_draft
        )

    def draft_bytes(self, device: str | None) -> int:
        """Everything that was made for a draft on a device (None: on the host): a head's context, a model's weights."""
        mine = (b for b in self.buffers if b.of_draft and not b.of_projector)
        return sum(
            b.size_bytes for b in mine if (b.on_host if device is None else not b.on_host and b.device == device)
        )

    def projector_bytes(self, device: str) -> int:
        """The projector's weights on a device; the log gives one size and the backend that holds it."""
        return self.projector_weights_bytes or 0 if self.projector_backend == device else 0

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that hold buffers, in the order they were logged."""
        return tuple(dict.fromkeys(b.device for b in self.buffers if not b.on_host))

    @property
    def complete(self) -> bool:
        """Weights and compute were both logged: the text model was loaded."""
        kinds = {b.kind for b in self.buffers}
        return "model" in kinds and "compute" in kinds


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


def parse_load_log(text: str, *, model: str | None = None) -> LoadLines:
    """The buffers of the newest load in a llama-server or Ollama server log.

    Args:
        text: the log; several loads may be in it, one after the other.
        model: part of the command line (a blob's digest) that picks the load where several models were started.
    """
    chosen: tuple[str | None, list[str]] = (None, [])
    for command, lines in _loads(text):
        if model is None or (command is not None and model in command):
            chosen = (command, lines)
    command, lines = chosen
    return _load_lines(command, _after_fit(lines))


def parse_fit_log(text: str) -> FitLog:
    """The fit's trials and its choice, from a log at verbosity 4 (tables) or 5 (exact lines as well)."""
    lines = text.splitlines()
    passes = tuple(_passes(lines))
    choice = [(int(m[2]), int(m[3] or 0), int(m[4])) for line in lines if (m := _CHOICE.search(line))]
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
        mmproj_bytes=next((_mib(m[1]) for line in lines if (m := _MMPROJ_SUM.search(line))), None),
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


def _mib(text: str) -> int:
    return round(float(text) * MIB)


def _loads(text: str) -> Iterator[tuple[str | None, list[str]]]:
    command: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        started = _START.search(line)
        if started:
            if command is not None or lines:
                yield command, lines
            command, lines = started[0], []
        else:
            lines.append(line)
    yield command, lines


def _after_fit(lines: list[str]) -> list[str]:
    """Trials print buffers too at verbosity 5: only what follows the fit is the load."""
    ends = [i for i, line in enumerate(lines) if _FIT_DONE in line]
    head = [line for line in lines[: ends[-1]] if _CHOICE.search(line)] if ends else []
    return head + lines[ends[-1] + 1 :] if ends else lines


def _load_lines(command: str | None, lines: list[str]) -> LoadLines:
    # The graph is reserved more than once and prints each time: within one context the last line counts, as in
    # Ollama. What comes after the first context is a draft's: a model of its own, or a second context. A second cache
    # of one context, which sliding windows have, adds to the first: a cache ends with its "size =" line.
    buffers: dict[tuple[int, int, str, str, str], BufferLine] = {}
    group = cache = contexts = 0
    layers: Layers | None = None
    free: dict[str, int] = {}
    n_ctx: int | None = None
    flash: bool | None = None
    weights: int | None = None
    clip_backend: str | None = None
    overflowing = 0
    error: str | None = None
    for line in lines:
        if "constructing llama_context" in line:
            group, contexts = group + 1, contexts + 1
        elif "loading model tensors" in line:
            group, contexts = group + 1, contexts + (contexts == 1)
        elif match := _BUFFER.search(line):
            found = replace(_buffer(match), of_draft=contexts > 1)
            part = cache if found.kind in ("KV", "RS") else 0
            buffers[(group, part, found.component, found.backend, found.kind)] = found
        elif _CACHE.search(line):
            cache += 1
        elif match := _OFFLOADED.search(line):
            layers = layers or Layers(int(match[1]), int(match[2]))
        elif match := _FREE.search(line):
            free.setdefault(match[1], int(match[2]) * MIB)
        elif match := _CONTEXT.search(line):
            n_ctx = n_ctx or int(match[1])
        elif "load_hparams" in line and (match := _CLIP_WEIGHTS.search(line)):
            weights = _mib(match[1])
        elif match := _CLIP_BACKEND.search(line):
            clip_backend = match[1]
        elif match := _CHOICE.search(line):
            overflowing += int(match[3] or 0)
        elif match := _FLASH.search(line):
            flash = match[1] == "enabled"
        elif "error loading model" in line or "failed to load model" in line or "out of memory" in line.lower():
            error = error or line.strip()
    return LoadLines(
        buffers=tuple(b for b in buffers.values() if b.size_bytes > 0),
        layers=layers,
        free_bytes=free,
        projector_weights_bytes=weights,
        projector_backend=clip_backend,
        n_ctx=n_ctx,
        flash_attn=flash,
        overflowing_layers=overflowing,
        command=command,
        error=error,
    )


def _buffer(match: re.Match[str]) -> BufferLine:
    kind: BufferKind = match[3]  # type: ignore[assignment]  # the pattern admits only these words
    return BufferLine(component=match[1], backend=match[2], kind=kind, size_bytes=_mib(match[4]))


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
        elif match := _BUFFER.search(line):
            found = _buffer(match)
            buffers[(found.component, found.backend, found.kind)] = found
        elif match := _CACHE_LAYER.search(line):
            owners[_cache_kind(match[1])].append((int(match[2]), match[3]))
        elif match := _CACHE.search(line):
            kind = _cache_kind(match[1])
            caches.append(Cache(kind, _mib(match[2]), int(match[3]), tuple(owners[kind])))
            owners[kind] = []
        elif match := _OVERRIDDEN.search(line):
            overridden.append((match[1], match[2]))
        elif match := _LAYER.search(line):
            layer_devices.append((int(match[1]), match[2]))
        elif match := _OFFLOADED.search(line):
            layers = Layers(int(match[1]), int(match[2]))
        elif match := _FLASH.search(line):
            flash = match[1] == "enabled"
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
    return {m[2]: _mib(m[1]) for line in lines if (m := pattern.search(line))}
