"""Where the server is asked: OLLAMA_HOST, read exactly as Ollama reads it.

Source: envconfig/config.go, Host and ConnectableHost, and Go's net.SplitHostPort, net.JoinHostPort, net.ParseIP;
Ollama v0.32.14.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from qwenops.runtime.envconfig import var

_PORT = re.compile(r"^[+-]?[0-9]+$")


@dataclass(frozen=True)
class Endpoint:
    """One server's address. `path` has no slash in front; a reverse proxy may put the API below it."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: str = "11434"
    path: str = ""

    @property
    def netloc(self) -> str:
        """Host and port as one text; IPv6 stands in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host or "%" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address, without a slash at its end."""
        path = self.path.strip("/")
        return f"{self.scheme}://{self.netloc}" + (f"/{path}" if path else "")

    @property
    def port_number(self) -> int:
        """The port as a number."""
        return int(self.port)

    @property
    def loopback(self) -> bool:
        """Whether the address can only mean this machine; a proxy is never asked for it."""
        if self.host.rstrip(".").lower() == "localhost":
            return True
        ip = _parse_ip(self.host)
        return ip is not None and ip.is_loopback


def endpoint(text: str | None = None, environment: Mapping[str, str] | None = None) -> Endpoint:
    """The server to ask, as a client: `text` where given, else OLLAMA_HOST, else 127.0.0.1:11434.

    A server may bind 0.0.0.0 or ::, a client cannot connect there on every system: loopback stands in for them.
    """
    environment = os.environ if environment is None else environment
    given = text if text is not None else var(environment, "OLLAMA_HOST")
    return connectable(parse_host(given))


def parse_host(text: str) -> Endpoint:
    """What envconfig.Host makes of a value of OLLAMA_HOST; anything can be read, as there."""
    text = text.strip().strip("\"'").strip()
    default_port = "11434"
    scheme, separator, hostport = text.partition("://")
    if not separator:
        scheme, hostport = "http", text
        if text == "ollama.com":
            scheme, hostport = "https", "ollama.com:443"
    elif scheme in ("http", "https"):
        default_port = "80" if scheme == "http" else "443"

    hostport, _, path = hostport.partition("/")
    split = _split_host_port(hostport)
    if split:
        host, port = split
    else:
        host, port = "127.0.0.1", default_port
        ip = _parse_ip(hostport.strip("[]"))
        if ip is not None:
            host = str(ip)
        elif hostport:
            host = hostport
    if not _PORT.match(port) or not 0 <= int(port) <= 65535:
        port = default_port
    return Endpoint(scheme, host, port, path)


def connectable(where: Endpoint) -> Endpoint:
    """The same server as a client reaches it: loopback in place of "all addresses"."""
    ip = _parse_ip(where.host)
    if where.host == "":
        return replace(where, host="127.0.0.1")
    if ip is None or not ip.is_unspecified:
        return where
    return replace(where, host="127.0.0.1" if ip.version == 4 else "::1")


def _split_host_port(text: str) -> tuple[str, str] | None:
    """net.SplitHostPort: None where Go reports an error (no port, too many colons, stray brackets)."""
    if text.startswith("["):
        end = text.find("]")
        if end < 0 or text[end + 1 : end + 2] != ":":
            return None
        host, port = text[1:end], text[end + 2 :]
        rest = text[1:end]
        if "[" in rest or ":" in port or "[" in port or "]" in port:
            return None
        return host, port
    host, separator, port = text.rpartition(":")
    if not separator or ":" in host or any(c in text for c in "[]"):
        return None
    return host, port


def _parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """net.ParseIP: no zones; an IPv4 address written as IPv6 is IPv4."""
    if "%" in text:
        return None
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(ip, "ipv4_mapped", None)
    return mapped if mapped is not None else ip
