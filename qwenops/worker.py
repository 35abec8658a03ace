"""A child process for everything native: JSON lines out, a time limit, and death turned into a clear error.

    run("qwenops.bench.child:library_info", {...}, limit_s=60)    one question, one answer, the child is gone
    with Worker() as worker: worker.ask(...); worker.ask(...)     a child that keeps what it loaded in between

Requests go to the child's stdin, a line each. Its own stdout is sent to stderr before anything native is loaded, so
that a library that prints cannot break the lines; they travel on a private file descriptor.
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
    with Worker(env=env) as worker:
        return worker.ask(function, request, limit_s=limit_s, on_event=on_event)


class Worker(contextlib.AbstractContextManager["Worker"]):
    """A child that stays between questions, with what it loaded; it ends with us, or at `close`."""

    def __init__(self, *, env: Mapping[str, str] | None = None) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "qwenops.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        assert self._child.stderr is not None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._drain = threading.Thread(target=_keep_tail, args=(self._child.stderr, self._tail), daemon=True)
        self._drain.start()

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._child.pid

    def ask(
        self, function: str, request: Mapping[str, Any], *, limit_s: float, on_event: Event | None = None
    ) -> dict[str, Any]:
        """Call `module:function` in the child. After ChildDied nothing more can be asked; after an error it can."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        out_of_time = threading.Event()
        alarm = threading.Timer(limit_s, _stop_late, (self._child, out_of_time))
        alarm.daemon = True
        alarm.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.write(json.dumps({"function": function, "request": dict(request)}) + "\n")
                self._child.stdin.flush()
            for line in self._child.stdout:
                message = _message(line)
                if message is None:
                    continue
                if message["event"] == "answer":
                    answer: dict[str, Any] = message["data"]
                    return answer
                if message["event"] == "error":
                    raise _error(message)
                if on_event:
                    on_event(message)
            self._child.wait()
        except BaseException as error:
            if not isinstance(error, QwenopsError):
                self.close()
            raise
        finally:
            alarm.cancel()
        self._drain.join(timeout=1)
        late = limit_s if out_of_time.is_set() else None
        raise ChildDied(_how_it_died(function, self._child.returncode, late, self._tail))

    def close(self) -> None:
        """End the child, whatever it is doing."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        _kill(self._child)
        self._child.wait()
        self._drain.join(timeout=1)
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()

    def __exit__(self, *_: object) -> None:
        self.close()


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


def _serve() -> int:
    """The child's side: a request a line, each answered by events and one answer or error, until there are no more."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def emit(event: str, **data: Any) -> None:
        lines.write(json.dumps({"event": event, **data}) + "\n")

    for line in sys.stdin:
        asked = json.loads(line)
        module, name = asked["function"].split(":")
        try:
            data = getattr(import_module(module), name)(asked["request"], emit)
        except QwenopsError as error:
            emit("error", kind=type(error).__name__, message=error.message, do=list(error.do))
        else:
            emit("answer", data=data)
    return 0


if __name__ == "__main__":
    sys.exit(_serve())
