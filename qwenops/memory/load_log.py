"""What one real load logged: its buffers, where its layers went, and why it failed where it did.

Formats as printed by llama.cpp b10434; Ollama 0.32.14 copies them into its own log unchanged, between lines of its own
and with several loads one after the other. Sizes are bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from qwenops.memory.buffer_lines import (
    CACHE,
    BufferKind,
    BufferLine,
    buffer_in,
    flash_attn_in,
    in_bytes,
    layers_in,
)
from qwenops.memory.fit_log import choice_in, fit_is_done
from qwenops.memory.types import Layers
from qwenops.units import MIB

_FREE = re.compile(r"using device (\S+)\s+\(.*\)\s+-\s+(\d+)\s+MiB free")
_CLIP_WEIGHTS = re.compile(r"model size:\s+([\d.]+) MiB")
_CLIP_BACKEND = re.compile(r"CLIP using (\S+) backend")
_CONTEXT = re.compile(r"llama_context: n_ctx\s+= (\d+)")
_START = re.compile(r"starting llama-server\b.*")


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
    ends = [i for i, line in enumerate(lines) if fit_is_done(line)]
    head = [line for line in lines[: ends[-1]] if choice_in(line)] if ends else []
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
        elif buffer := buffer_in(line):
            found = replace(buffer, of_draft=contexts > 1)
            part = cache if found.kind in ("KV", "RS") else 0
            buffers[(group, part, found.component, found.backend, found.kind)] = found
        elif CACHE.search(line):
            cache += 1
        elif placed := layers_in(line):
            layers = layers or placed
        elif match := _FREE.search(line):
            free.setdefault(match[1], int(match[2]) * MIB)
        elif match := _CONTEXT.search(line):
            n_ctx = n_ctx or int(match[1])
        elif "load_hparams" in line and (match := _CLIP_WEIGHTS.search(line)):
            weights = in_bytes(match[1])
        elif match := _CLIP_BACKEND.search(line):
            clip_backend = match[1]
        elif choice := choice_in(line):
            overflowing += choice[1]
        elif (fused := flash_attn_in(line)) is not None:
            flash = fused
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
