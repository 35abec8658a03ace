"""A child process for everything native: JSON lines out, a time limit, and death turned into a clear error.

    parent   run("qwenops.bench.child:speed", {...}, limit_s=600, on_event=print) -> the function's answer
    child    python -m qwenops.worker qwenops.bench.child:speed < request

The child's own stdout is sent to stderr before anything native is loaded, so that a library that prints cannot
break the lines; they travel on a private file descriptor.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import IO, Any

from qwenops.errors import ChildDied, QwenopsError

Event = Callable[[Mapping[str, Any]], None]
_TAIL_LINES = 20


def run(
    function: str,
    request: Mapping[str, Any],
    *,
    limit_s: float,
    on_event: Event | None = None,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Call `module:function` in a child and return its answer.

    The function takes the request and an `emit` for events, and returns plain JSON values. Raises ChildDied when the
    child aborts or passes `limit_s` seconds; an error that qwenops raised in the child is raised again here.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "qwenops.worker", function],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        env={**os.environ, **(env or {})},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    drain = threading.Thread(target=_keep_tail, args=(child.stderr, tail), daemon=True)
    drain.start()
    out_of_time = threading.Event()
    alarm = threading.Timer(limit_s, _stop_late, (child, out_of_time))
    alarm.daemon = True
    alarm.start()
    answer: dict[str, Any] | None = None
    try:
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(json.dumps(dict(request)))
        for line in child.stdout:
            message = _message(line)
            if message is None:
                continue
            if message["event"] == "answer":
                answer = message["data"]
            elif message["event"] == "error":
                raise _error(message)
            elif on_event:
                on_event(message)
        child.wait()
    finally:
        alarm.cancel()
        _kill(child)
        child.wait()
        drain.join(timeout=1)
    if answer is not None:
        return answer
    raise ChildDied(_how_it_died(function, child.returncode, limit_s if out_of_time.is_set() else None, tail))


def _message(line: str) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "event" in message else None


def _error(message: Mapping[str, Any]) -> QwenopsError:
    """The error that the child raised, as the same class where it is one of ours."""
    from qwenops import errors

    kind = getattr(errors, str(message.get("kind")), ChildDied)
    error: QwenopsError = kind(str(message["message"]), do=tuple(message.get("do", ())))
    return error


def _keep_tail(stream: IO[str], tail: deque[str]) -> None:
    for line in stream:
        if line.strip():
            tail.append(line.rstrip())


def _stop_late(child: subprocess.Popen[str], out_of_time: threading.Event) -> None:
    out_of_time.set()
    _kill(child)


def _kill(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    for _ in range(20):
        if child.poll() is not None:
            return
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _how_it_died(function: str, code: int, limit_s: float | None, tail: deque[str]) -> str:
    step = function.rsplit(":", 1)[-1]
    said = f": {tail[-1]}" if tail else ""
    if limit_s is not None:
        return f"{step} was stopped after its limit of {limit_s:.0f} s{said}"
    if code < 0:
        return f"{step} was ended by {signal.Signals(-code).name} in native code{said}"
    return f"{step} ended with code {code} and no answer{said}"


def _serve(function: str) -> int:
    """The child's side: one request in, events and one answer out."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def emit(event: str, **data: Any) -> None:
        lines.write(json.dumps({"event": event, **data}) + "\n")

    module, name = function.split(":")
    try:
        request = json.loads(sys.stdin.read())
        data = getattr(import_module(module), name)(request, emit)
    except QwenopsError as error:
        emit("error", kind=type(error).__name__, message=error.message, do=list(error.do))
        return error.exit_code
    emit("answer", data=data)
    return 0


if __name__ == "__main__":
    sys.exit(_serve(sys.argv[1]))
