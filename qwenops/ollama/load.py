"""Load one model and gather what can be seen of it: /api/ps, the log's buffer lines, the devices' own figures."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass

from qwenops.errors import CheckFailed
from qwenops.memory.load_log import LoadLines, parse_load_log
from qwenops.memory.types import Layers
from qwenops.ollama import serverlog
from qwenops.ollama.runners import nameless, sharing
from qwenops.ollama.types import Progress, silent
from qwenops.ollama.usage import Usage, settled, usage_of_load
from qwenops.runtime.client import Client
from qwenops.runtime.names import Name, checked_name
from qwenops.runtime.types import LoadedModel, Runtime
from qwenops.runtime.wire import ServerRefused

_CLIP_BACKEND = re.compile(r"CLIP using (\S+) backend")
_PROJECTOR_MOVED = re.compile(r'msg="disabling multimodal projector offload" reason="?([^"\n]*?)"? model=')
_LOAD_LIMIT_S = 1800.0
_REMOVED_LEAVES_S = 3.0


@dataclass(frozen=True)
class Loaded:
    """What one load showed.

    `lines` are the log's buffer lines, None where the log could not be read (`log_missing` says why).
    `projector_backend` is where the projector runs ("Vulkan0", "CPU"), `projector_moved` the server's reason for the
    CPU. `usage` is each device before and after by its own driver's count, where one could be asked. `others` were
    loaded at the same time.
    """

    model: LoadedModel
    seconds: float
    lines: LoadLines | None
    log_missing: str = ""
    projector_backend: str | None = None
    projector_moved: str | None = None
    usage: tuple[Usage, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def layers(self) -> Layers | None:
        """Layers on devices. llama-server logs "offloaded 5/5" on a machine without a GPU as well: buffers decide."""
        if self.lines is None or self.lines.layers is None:
            return None
        on_a_device = any(b.kind == "model" and not b.on_host for b in self.lines.buffers)
        return self.lines.layers if on_a_device else Layers(0, self.lines.layers.total)


def load_alone(
    name: str, runtime: Runtime, *, alone: bool = False, keep: bool = True, progress: Progress = silent
) -> Loaded:
    """Load a model afresh and say what it took.

    The model itself is unloaded first, under whatever name its weights are loaded, so that the load is seen from its
    start; other models stay unless `alone`, and are named. It stays loaded afterwards, for the server's own time,
    unless `keep` is off. Raises ServerDown, BadInput for what is no name, and CheckFailed with the server's words when
    it cannot be loaded.
    """
    wanted = checked_name(name)
    client = Client(runtime.url)
    _make_way(client, wanted, alone=alone)
    others = tuple(m.name for m in client.ps())
    before = settled(runtime)
    place = serverlog.mark(runtime)
    started = time.monotonic()
    progress(f"loading {wanted.short}", 0, 0)
    try:
        client.load(wanted.short, timeout_s=_LOAD_LIMIT_S)
    except ServerRefused as refused:
        text, _ = serverlog.lines_since(place)
        raise _why_not(wanted.short, refused, parse_load_log(text)) from None
    seconds = time.monotonic() - started
    shown = client.ps()
    model = next(iter(sharing(client, wanted, shown)), None)
    if model is None:
        raise CheckFailed(f"{wanted.short} was loaded and is gone again", do="ollama ps")
    gone = tuple(name for name in others if name not in {m.name for m in shown})
    usage = usage_of_load(before, settled(runtime), evicted=gone, server=runtime.pid)
    text, missing = serverlog.lines_since(place)
    lines = parse_load_log(text) if text else None
    if lines is not None and not lines.complete:
        lines, missing = None, "the log shows no buffers of this load"
    if not keep:
        client.unload(wanted.short, shown_as=model.name)
    backend, moved = projector_place(text)
    return Loaded(
        model=model,
        seconds=seconds,
        lines=lines,
        log_missing=missing,
        projector_backend=backend,
        projector_moved=moved,
        usage=usage,
        others=others,
    )


def projector_place(log: str) -> tuple[str | None, str | None]:
    """Where the last projector of a log runs ("CUDA0", "CPU"), and the server's reason where it moved it to the CPU."""
    clip, moved = _CLIP_BACKEND.findall(log), _PROJECTOR_MOVED.findall(log)
    return clip[-1] if clip else None, moved[-1] if moved else None


def _make_way(client: Client, wanted: Name, *, alone: bool) -> None:
    """Take the wanted weights out of memory, whatever name they were loaded by, and with `alone` all others too."""
    loaded = client.ps()
    own = sharing(client, wanted, loaded)
    for one in own:
        with contextlib.suppress(ServerRefused):
            client.unload(wanted.short, shown_as=one.name)
    rest = tuple(m for m in loaded if m not in own)
    removed = nameless(client, rest) if rest else ()
    if removed:
        # One that was removed while it was loaded may have the wanted weights: then it leaves by the wanted name.
        # Else it leaves in its own time.
        with contextlib.suppress(CheckFailed):
            client.unload(wanted.short, shown_as=removed[0].name, wait_s=_REMOVED_LEAVES_S)
    for other in rest if alone else ():
        if other not in removed:
            with contextlib.suppress(ServerRefused):
                client.unload(other.name)


def _why_not(name: str, refused: ServerRefused, lines: LoadLines) -> CheckFailed:
    said = f"{refused.text}" + (f" ({lines.error})" if lines.error and lines.error not in refused.text else "")
    if "does not support generate" in said:
        return CheckFailed(f"{name} cannot be loaded: the server cannot read its file", do=f"qwenops show {name}")
    if "unknown model architecture" in said or "unknown architecture" in said:
        return CheckFailed(f"{name} cannot be loaded: this Ollama is too old for it: {said}", do="update Ollama")
    if "memory" in said:
        return CheckFailed(f"{name} cannot be loaded: {said}", do=(f"qwenops plan {name}", "ollama ps"))
    return CheckFailed(f"{name} cannot be loaded: {said}", do=(f"qwenops show {name}", "qwenops doctor"))
