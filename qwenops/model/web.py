"""One GET over HTTP, bounded in every direction: waiting, redirects, headers, and whom the token is shown to.

The official clients do more than is wanted here: huggingface_hub asks for further things on its way (a refreshed
token, a newer version), follows redirects wherever they lead, and reads answers whole. Only what is asked for leaves
this machine, and a server gets neither more time nor more memory than the caller allows.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import TracebackType
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from qwenops import __version__
from qwenops.errors import BadInput, OutOfReach, PartMissing, QwenopsError
from qwenops.runtime.host import Endpoint

REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Limits:
    """How long a server may take: `stall_s` for any single wait, `total_s` for a whole answer; and redirects."""

    stall_s: float = 15.0
    total_s: float = 180.0
    redirects: int = 5


@dataclass(frozen=True)
class Token:
    """A secret and the one origin (scheme, host, port) that may see it. It has no text form."""

    secret: str = field(repr=False)
    origin: tuple[str, str, int]


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def shown(url: str) -> str:
    """An address as messages carry it: without what a signed one hides in its query."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    with contextlib.suppress(ValueError):
        host += f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{parts.path}"


def check_url(url: str) -> str:
    """The address with its path escaped. Raises BadInput for one that is not asked: which, and why."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise BadInput(f"{url!r} is not an address: {e}") from None
    if not parts.hostname:
        raise BadInput(f"{url!r} names no host", do="give it like https://host/model.gguf")
    if parts.username is not None or parts.password is not None:
        raise BadInput(f"an address for {parts.hostname} carries a user or a password", do="give it without them")
    if parts.scheme not in ("https", "http"):
        raise BadInput(f"{shown(url)} is neither https nor http")
    if parts.scheme == "http" and not Endpoint(host=parts.hostname).loopback:
        raise BadInput(
            f"{shown(url)} is not encrypted; http is taken from this machine alone",
            do=f"https://{parts.netloc}{parts.path}",
        )
    try:
        host = parts.hostname.encode("idna").decode()
    except UnicodeError:
        raise BadInput(f"{parts.hostname!r} is not the name of a host") from None
    host = f"[{host}]" if ":" in host else host
    netloc = f"{host}:{port}" if port else host
    query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    return f"{parts.scheme}://{netloc}{quote(parts.path, safe=_SAFE) or '/'}{query}"


_SAFE = "/%:=&?~+!$,;'@()*[]-._"


class Answer:
    """An open answer. `url` is where it came from in the end; `read` gives b"" at its end."""

    def __init__(
        self, url: str, response: HTTPResponse, connection: HTTPConnection, watch: _Watch, limits: Limits
    ) -> None:
        self.url, self.status, self.headers = url, response.status, response.headers
        self._response, self._connection, self._watch, self._limits = response, connection, watch, limits

    def read(self, n_bytes: int) -> bytes:
        """What has come by now, at least one byte and at most `n_bytes`; b"" when there is no more."""
        try:
            got = self._response.read1(n_bytes)
        except (OSError, HTTPException, ValueError) as e:
            raise trouble(self.url, e, self._limits, late=self._watch.late) from None
        if self._watch.late:
            raise trouble(self.url, TimeoutError(), self._limits, late=True)
        return got

    def read_all(self, most_bytes: int) -> bytes:
        """The whole body. Raises BadInput where it is longer than `most_bytes`."""
        data = bytearray()
        while got := self.read(65536):
            data += got
            if len(data) > most_bytes:
                raise BadInput(f"{shown(self.url)} answers with more than {most_bytes} bytes")
        return bytes(data)

    def hang_up(self) -> None:
        """End a `read` that waits in another thread; it raises there."""
        self._watch.hang_up()

    def close(self) -> None:
        """Hang up, whatever is still on its way."""
        self._watch.stop()
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Watch:
    """Hangs up at the end of the time, however slowly a server keeps sending: a timeout ends only a silent one."""

    def __init__(self, connection: HTTPConnection, seconds: float) -> None:
        self.late = False
        self._connection = connection
        self._timer = threading.Timer(seconds, self.hang_up)
        self._timer.daemon = True
        self._timer.start()
        self.socket: socket.socket | None = None

    def hang_up(self) -> None:
        """Wake whoever reads: there is no more."""
        self.late = True
        # http.client lets go of the socket once it has made the answer, so we hold it ourselves
        for line in (self.socket, self._connection.sock):
            if line is not None:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._timer.cancel()


def get(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    token: Token | None = None,
    limits: Limits | None = None,
) -> Answer:
    """GET an address, following redirects; any status that is no redirect is handed back, to be closed.

    The token goes to its own origin only, and not again once a redirect has led away from there. Proxies of the
    environment are asked for hosts other than this machine. Raises PartMissing where the host is out of reach,
    BadInput for an address that is not asked.
    """
    limits = limits or Limits()
    began = time.monotonic()
    start = url = check_url(url)
    for _ in range(limits.redirects + 1):
        if token is not None and origin_of(url) != token.origin:
            token = None
        left = limits.total_s - (time.monotonic() - began)
        if left <= 0:
            raise trouble(url, TimeoutError(), limits, late=True)
        answer = _ask(url, headers or {}, token, limits, left)
        if answer.status not in REDIRECTS or not answer.headers.get("Location"):
            return answer
        answer.close()
        url = _next(url, answer.headers["Location"])
    raise BadInput(f"{shown(start)} redirects more than {limits.redirects} times, in the end to {shown(url)}")


def _next(url: str, location: str) -> str:
    try:
        # what arrives as Latin-1 is UTF-8 in practice
        with contextlib.suppress(UnicodeError):
            location = location.encode("latin-1").decode("utf-8")
        to = check_url(urljoin(url, location))
    except (BadInput, ValueError) as e:
        raise BadInput(f"{shown(url)} redirects to where we do not follow: {e}") from None
    here, there = (Endpoint(host=urlsplit(u).hostname or "").loopback for u in (url, to))
    if there and not here:
        raise BadInput(f"{shown(url)} redirects to this machine ({shown(to)}), which no public server has reason to")
    return to


def _ask(url: str, headers: Mapping[str, str], token: Token | None, limits: Limits, left_s: float) -> Answer:
    parts = urlsplit(url)
    sent = {"User-Agent": f"qwenops/{__version__}", "Accept-Encoding": "identity", "Accept": "*/*", **headers}
    if token is not None:
        sent["Authorization"] = f"Bearer {token.secret}"
    connection = _connection(url, min(limits.stall_s, left_s))
    watch = _Watch(connection, left_s)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("GET", target, headers=sent)
        watch.socket = connection.sock
        return Answer(url, connection.getresponse(), connection, watch, limits)
    except (OSError, HTTPException, ValueError) as e:
        watch.stop()
        connection.close()
        raise trouble(url, e, limits, late=watch.late) from None
    except BaseException:
        watch.stop()
        connection.close()
        raise


def _connection(url: str, timeout_s: float) -> HTTPConnection:
    scheme, host, port = origin_of(url)
    if scheme == "http":  # this machine: never through a proxy
        return HTTPConnection(host, port, timeout=timeout_s)
    context = ssl.create_default_context()
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or Endpoint(host=host).loopback or proxy_bypass(f"{host}:{port}") or proxy_bypass(host):
        return HTTPSConnection(host, port, timeout=timeout_s, context=context)
    try:
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        at = (via.hostname or "", via.port or 80)
    except ValueError as e:
        raise BadInput(f"the proxy of the environment is not an address: {e}", do="look at HTTPS_PROXY") from None
    if via.scheme not in ("http", "https") or not at[0]:
        raise PartMissing(f"the proxy of the environment is a {via.scheme} one, which is not spoken here")
    connection = HTTPSConnection(*at, timeout=timeout_s, context=context)
    pair = f"{unquote(via.username or '')}:{unquote(via.password or '')}".encode()
    login = {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode()} if via.username else {}
    connection.set_tunnel(host, port, headers=login)
    return connection


def trouble(url: str, cause: BaseException, limits: Limits, *, late: bool = False) -> QwenopsError:
    """The error that names what went wrong on the way, with what to do."""
    where, offline = shown(url), "or use --offline with what was read before"
    if late:
        return OutOfReach(f"{where} did not finish within {limits.total_s:.3g} s", do=("try again later", offline))
    if isinstance(cause, TimeoutError):
        return OutOfReach(f"{where} did not answer within {limits.stall_s:g} s", do=("try again later", offline))
    if isinstance(cause, ssl.SSLCertVerificationError):
        return PartMissing(
            f"{where} shows a certificate that is not trusted here: {cause.verify_message}",
            do="export SSL_CERT_FILE=/path/to/the/authority.pem     (where a proxy of your own signs)",
        )
    if isinstance(cause, socket.gaierror):
        return OutOfReach(
            f"the host of {where} is not known", do=("look at the spelling and the network (HTTPS_PROXY?)", offline)
        )
    if isinstance(cause, HTTPException | ValueError):
        return PartMissing(f"{where} does not answer as a web server does: {type(cause).__name__}")
    return OutOfReach(
        f"{where} cannot be reached: {getattr(cause, 'strerror', None) or cause}",
        do=("look at the network (HTTPS_PROXY?)", offline),
    )
