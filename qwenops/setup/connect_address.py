"""By which address a client reaches the server from where it runs, and whether it can.

Inside a container 127.0.0.1 is the container; the machine around it is host.docker.internal, which Docker Desktop
knows by itself and Docker on Linux by `extra_hosts` (docs/integrations/n8n.mdx, Ollama v0.32.14). Ollama listens at
127.0.0.1 alone unless OLLAMA_HOST says otherwise (docs/faq.mdx), and takes requests for names below .internal there
(server/routes.go, allowedHost).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from qwenops.runtime.bound import only_loopback
from qwenops.runtime.host import Endpoint
from qwenops.runtime.types import Place

Client = Literal["host", "docker"]
Reach = Literal["yes", "no", "unknown"]
HOST_GATEWAY = "host.docker.internal:host-gateway"
_NO_PASSWORD = "Ollama asks nobody for a password: close the port to other machines in the firewall"


@dataclass(frozen=True)
class Address:
    """The server as the client names it. `why` and `do` explain a `reach` that is not "yes".

    `host_gateway` says that the client's container needs a name for the machine around it; `notes` are worth knowing.
    """

    url: str
    reach: Reach = "yes"
    why: str = ""
    do: tuple[str, ...] = ()
    host_gateway: bool = False
    notes: tuple[str, ...] = ()


def address_for(where: Endpoint, client: Client, *, place: Place, bound: frozenset[str] | None, linux: bool) -> Address:
    """The address for a client on this machine or in a container on it.

    `where` is the server as this machine asks it, `bound` the addresses at which its port is listened on (None where
    they cannot be seen), `linux` whether Docker is not a Desktop with a network of its own.
    """
    if client == "host" or not where.loopback:
        return Address(where.url)
    inside = Address(replace(where, host="host.docker.internal").url, host_gateway=True)
    if place == "container":
        inside = replace(
            inside, notes=(f"in one compose file with Ollama its service's name is enough: http://ollama:{where.port}",)
        )
    if not linux:
        return inside
    look = f"ss -ltn 'sport = :{where.port}'     (127.0.0.1 alone is out of a container's reach)"
    if not bound:
        return replace(inside, reach="unknown", why="where the server listens could not be seen", do=(look,))
    if only_loopback(bound):
        return replace(
            inside,
            reach="no",
            why=f"Ollama listens at {', '.join(sorted(bound))} alone, which a container cannot reach",
            do=(
                f"qwenops server write OLLAMA_HOST=0.0.0.0:{where.port}     ({_NO_PASSWORD})",
                f"or network_mode: host for the client, with {where.url}: --in host",
            ),
        )
    return replace(inside, notes=(*inside.notes, _NO_PASSWORD))
