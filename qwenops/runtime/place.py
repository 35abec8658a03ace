"""Tell where the server runs: a local address alone proves nothing.

A port of this machine may lead into a container, through WSL to Windows, into a snap or an app bundle. It decides
whose GPU counts, whether the store can be reached, and whether llama-server can be asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from qwenops.runtime.types import Place

# Programs that listen on a port for a container.
_CONTAINER_PROXIES = (
    "docker-proxy",
    "com.docker",
    "dockerd",
    "rootlessport",
    "rootlesskit",
    "slirp4netns",
    "pasta",
    "gvproxy",
    "conmon",
    "kube-proxy",
)
_WSL_PROXIES = ("wslrelay", "wslhost")
_CONTAINER_GROUPS = re.compile(r"docker|libpod|containerd|kubepods|crio|/lxc|\.machine|nspawn", re.IGNORECASE)
_SNAP = re.compile(r"snap\.ollama|/snap/ollama/")
_APP = re.compile(r"Ollama\.app/|[\\/]Programs[\\/]Ollama[\\/]", re.IGNORECASE)
_UNIT = re.compile(r"/([^/\n]+\.service)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Evidence:
    """What is known of the server's surroundings; None where it could not be learned."""

    address_is_here: bool
    port_taken: bool | None = None
    process_name: str | None = None
    exe: str | None = None
    cgroup: str | None = None
    own_cgroup: str | None = None
    same_mounts: bool | None = None
    in_wsl: bool = False
    address_is_windows_host: bool = False


def tell_place(seen: Evidence) -> tuple[Place, str | None]:
    """The place, and a note where a person should know how it was told or that it is a guess."""
    if not seen.address_is_here:
        if seen.in_wsl and seen.address_is_windows_host:
            return "wsl", "the server runs on the Windows side of this WSL"
        return "remote", None
    name = (seen.process_name or "").lower()
    if name.startswith(_CONTAINER_PROXIES):
        return "container", f"{seen.process_name} passes the port on to a container"
    if name.startswith(_WSL_PROXIES):
        return "wsl", f"{seen.process_name} passes the port on to WSL"
    if _SNAP.search(f"{seen.exe or ''}\n{seen.cgroup or ''}"):
        return "snap", None
    if seen.same_mounts is False:
        return "container", "the server sees other files than this shell does"
    if seen.same_mounts is None and _in_another_container(seen.cgroup, seen.own_cgroup):
        return "container", "the server's control group is a container's"
    if _APP.search(seen.exe or ""):
        return "app", None
    if seen.process_name is None and seen.port_taken is False:
        if seen.in_wsl:
            return "wsl", "nothing in this WSL listens on the port: the server is taken to run on Windows"
        return "remote", "the port answers, and no process here listens on it: whose hardware it is cannot be told"
    return "local", None


def _in_another_container(cgroup: str | None, own: str | None) -> bool:
    if not cgroup or not _CONTAINER_GROUPS.search(cgroup):
        return False
    return cgroup != own


def unit_of(cgroup: str | None) -> str | None:
    """The systemd unit whose control group a process is in ("ollama.service"), or None."""
    found = [name for name in _UNIT.findall(cgroup or "") if not name.startswith(("user@", "docker", "containerd"))]
    return found[-1] if found else None


def user_unit(cgroup: str | None) -> bool:
    """Whether that unit is a user's own, asked with `systemctl --user`."""
    return bool(re.search(r"/user@\d+\.service/", cgroup or ""))


def is_wsl(kernel_release: str) -> bool:
    """Whether a kernel's release (uname -r) is that of Windows' subsystem for Linux."""
    return "microsoft" in kernel_release.lower()


def windows_addresses(routes: str, resolv_conf: str) -> set[str]:
    """The addresses by which WSL reaches Windows: the default gateway of /proc/net/route and the name servers."""
    found = set(re.findall(r"^nameserver\s+(\S+)", resolv_conf, re.MULTILINE))
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000":
            with_zeros = fields[2].rjust(8, "0")
            octets = [str(int(with_zeros[i : i + 2], 16)) for i in (6, 4, 2, 0)]
            found.add(".".join(octets))
    return found


def is_here(addresses: Iterable[str], own: Iterable[str]) -> bool:
    """Whether one of the addresses of a name is loopback or one of this machine's own."""
    import ipaddress

    mine = {a.partition("%")[0] for a in own}
    for address in addresses:
        plain = address.partition("%")[0]
        if plain in mine:
            return True
        try:
            if ipaddress.ip_address(plain).is_loopback:
                return True
        except ValueError:
            continue
    return False
