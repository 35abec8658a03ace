"""At which addresses something listens on a port of this machine: what another container or machine could reach."""

from __future__ import annotations

import ipaddress
from contextlib import suppress


def bound_addresses(port: int) -> frozenset[str] | None:
    """The addresses with a listener on the port; None where the system does not show them (macOS, to a normal user)."""
    import psutil

    try:
        sockets = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    return frozenset(s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr and s.laddr.port == port)


def only_loopback(addresses: frozenset[str]) -> bool:
    """Whether nobody but this machine itself gets through to any of them."""
    return bool(addresses) and all(_loopback(address) for address in addresses)


def _loopback(address: str) -> bool:
    with suppress(ValueError):
        ip = ipaddress.ip_address(address)
        mapped = getattr(ip, "ipv4_mapped", None)
        return (mapped or ip).is_loopback
    return False
