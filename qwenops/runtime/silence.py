"""Why no server could be asked: nothing listens, something listens and does not answer, or it is not Ollama."""

from __future__ import annotations

from qwenops.errors import QwenopsError, ServerDown
from qwenops.runtime.host import Endpoint
from qwenops.runtime.types import Runtime, Silence, SilenceKind
from qwenops.runtime.wire import NoAnswer, NothingListens


def silence_of(where: Endpoint, error: QwenopsError, *, here: bool) -> Silence:
    """What one failed question to a server says about it; `here` is whether its address is this machine's."""
    kind: SilenceKind = "other"
    if isinstance(error, NoAnswer):
        kind = "hangs"
    elif isinstance(error, NothingListens):
        kind = "nothing listens"
    return Silence(kind, error.message, error.do, where.port_number, here)


def server_down(runtime: Runtime, so: str = "") -> ServerDown:
    """The error for a step that needs the server that `discover` did not reach; `so` is what cannot be done."""
    after = f", {so}" if so else ""
    if runtime.silence is None:
        return ServerDown(f"No Ollama answers at {runtime.url}{after}", do="ollama serve")
    return ServerDown(f"{runtime.silence.message}{after}", do=runtime.silence.do)
