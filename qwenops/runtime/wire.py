"""HTTP to one Ollama server: time limits, no proxy for loopback, and errors that say what to do.

The official client is not used for this: it sends requests for 127.0.0.1 through HTTP_PROXY, and waits for ever
on a server that hangs. Go's own clients never ask a proxy for loopback (net/http, ProxyFromEnvironment), and
neither does this one.
"""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any

from qwenops.errors import CheckFailed, ServerDown
from qwenops.runtime.host import Endpoint


class ServerRefused(CheckFailed):
    """The server answered, and its answer is an error; `status` is the HTTP status, `text` the server's words."""

    def __init__(self, text: str, *, status: int, do: str | tuple[str, ...] = ()) -> None:
        super().__init__(f"Ollama refused: {text}", do=do)
        self.status = status
        self.text = text


class NothingListens(ServerDown):
    """The connection was refused: the port is free."""


class NoAnswer(ServerDown):
    """The time ran out: something holds the port and says nothing, or nothing leads to the host."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An Ollama server never redirects; what does is something else, and gets no second request."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener(where: Endpoint) -> urllib.request.OpenerDirector:
    proxies: dict[str, str] | None = {} if where.loopback else None
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirect())


@contextmanager
def exchange(
    where: Endpoint,
    method: str,
    path: str,
    *,
    body: Mapping[str, Any] | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
) -> Iterator[HTTPResponse]:
    """One request; the open answer is handed to the caller's block.

    `timeout_s` limits the connection and every single wait for data, in seconds. Raises ServerDown when nothing or
    something else answers, ServerRefused when Ollama answers with an error.
    """
    data: bytes | Iterable[bytes] | None
    sent = dict(headers or {})
    if isinstance(body, Mapping):
        data = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    else:
        data = body
    request = urllib.request.Request(f"{where.url}{path}", data=data, headers=sent, method=method)
    try:
        with _opener(where).open(request, timeout=timeout_s) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        with error:
            if method == "HEAD":
                raise ServerRefused(f"{path} with status {error.code}", status=error.code) from None
            raise _refusal(where, error.code, error.read(65536)) from None
    except urllib.error.URLError as error:
        raise down(where, error.reason, timeout_s) from None
    except (OSError, HTTPException) as error:
        raise down(where, error, timeout_s) from None


def ask(
    where: Endpoint, method: str, path: str, *, body: Mapping[str, Any] | None = None, timeout_s: float
) -> dict[str, Any]:
    """One request with one JSON object as its answer; an empty answer is an empty object."""
    with exchange(where, method, path, body=body, timeout_s=timeout_s) as answer:
        raw = answer.read()
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _not_ollama(where, f"{path} gave no JSON")
    return value


def lines(
    where: Endpoint, method: str, path: str, *, body: Mapping[str, Any], timeout_s: float
) -> Iterator[dict[str, Any]]:
    """One request answered by a stream of JSON lines; an error in the stream is raised as ServerRefused."""
    with exchange(where, method, path, body=body, timeout_s=timeout_s) as answer:
        for raw in answer:
            if not raw.strip():
                continue
            try:
                value = json.loads(raw)
            except ValueError:
                raise _not_ollama(where, f"{path} gave no JSON") from None
            if isinstance(value, dict) and value.get("error"):
                raise ServerRefused(str(value["error"]), status=answer.status)
            yield value


def down(where: Endpoint, cause: object, timeout_s: float) -> ServerDown:
    """The ServerDown that fits a cause, with what to type next."""
    if isinstance(cause, TimeoutError | socket.timeout):
        return NoAnswer(f"The server at {where.url} did not answer within {timeout_s:g} s", do=_restart(where))
    if isinstance(cause, ConnectionRefusedError):
        return NothingListens(f"No Ollama server listens at {where.url}", do=_start(where))
    if isinstance(cause, socket.gaierror):
        return ServerDown(
            f"The host name of {where.url} is not known", do="set OLLAMA_HOST to the server's address, host:port"
        )
    return ServerDown(f"The server at {where.url} cannot be asked: {_plain(cause)}", do=_start(where))


def _start(where: Endpoint) -> tuple[str, ...]:
    if where.loopback:
        return ("ollama serve", "sudo systemctl start ollama     (where it is a service)")
    return ("start Ollama on that machine, with OLLAMA_HOST=0.0.0.0 in its environment, or set OLLAMA_HOST here",)


def _restart(where: Endpoint) -> tuple[str, ...]:
    """`ollama serve` would find the port taken."""
    if where.loopback:
        return (
            "sudo systemctl restart ollama     (or stop and start ollama serve, the app or the container)",
            f"ss -ltnp 'sport = :{where.port_number}'     (shows who holds the port)",
        )
    return ("restart Ollama on that machine, and see that its firewall lets this one in",)


def _not_ollama(where: Endpoint, what: str) -> ServerDown:
    return ServerDown(
        f"What answers at {where.url} is not Ollama: {what}", do="set OLLAMA_HOST to the Ollama server's host:port"
    )


def _refusal(where: Endpoint, status: int, raw: bytes) -> Exception:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return ServerRefused(value["error"], status=status)
    if status in (502, 503, 504):
        return ServerDown(
            f"A proxy answers for {where.url} with status {status}",
            do=f"add {where.host} to NO_PROXY, or look at the proxy in front of the server",
        )
    return _not_ollama(where, f"status {status}")


def _plain(cause: object) -> str:
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
