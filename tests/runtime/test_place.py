"""Where a server runs is told from what can be seen of it, not from its address."""

from __future__ import annotations

import dataclasses

import pytest

from qwenops.runtime import place as p
from qwenops.runtime.place import Evidence, tell_place

HERE = Evidence(address_is_here=True, port_taken=True, process_name="ollama", same_mounts=True)
DOCKER = "0::/system.slice/docker-3f6c2ad1.scope\n"


def seen(**changes: object) -> Evidence:
    return dataclasses.replace(HERE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evidence", "place"),
    [
        (seen(), "local"),
        (seen(cgroup="0::/system.slice/ollama.service\n", same_mounts=None), "local"),
        (seen(address_is_here=False), "remote"),
        (seen(address_is_here=False, in_wsl=True, address_is_windows_host=True), "wsl"),
        (seen(address_is_here=False, in_wsl=True), "remote"),
        (seen(process_name="docker-proxy"), "container"),
        (seen(process_name="com.docker.backend"), "container"),
        (seen(process_name="rootlessport"), "container"),
        (seen(process_name="wslrelay.exe"), "wsl"),
        (seen(same_mounts=False, cgroup=DOCKER), "container"),
        (seen(same_mounts=False), "container"),
        (seen(same_mounts=None, cgroup=DOCKER, own_cgroup="0::/user.slice\n"), "container"),
        (seen(same_mounts=None, cgroup=DOCKER, own_cgroup=DOCKER), "local"),
        (seen(same_mounts=True, cgroup=DOCKER, own_cgroup=DOCKER), "local"),
        (seen(same_mounts=False, cgroup="0::/system.slice/snap.ollama.listener.service\n"), "snap"),
        (seen(exe="/snap/ollama/105/bin/ollama", same_mounts=False), "snap"),
        (seen(exe="/Applications/Ollama.app/Contents/Resources/ollama", same_mounts=None), "app"),
        (seen(exe=r"C:\Users\a\AppData\Local\Programs\Ollama\ollama.exe", same_mounts=None), "app"),
        (seen(process_name=None, port_taken=False), "remote"),
        (seen(process_name=None, port_taken=False, in_wsl=True), "wsl"),
        (seen(process_name=None, port_taken=True), "local"),
        (seen(process_name=None, port_taken=None), "local"),
    ],
)
def test_the_place_is_told(evidence: Evidence, place: str) -> None:
    found, note = tell_place(evidence)
    assert found == place
    if place in ("container", "wsl"):
        assert note


@pytest.mark.parametrize(
    ("cgroup", "unit", "user"),
    [
        ("0::/system.slice/ollama.service\n", "ollama.service", False),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service\n", "ollama.service", True),
        ("12:cpu:/system.slice/my-ollama.service\n1:x:/system.slice/my-ollama.service\n", "my-ollama.service", False),
        ("0::/user.slice/user-1000.slice/session-2.scope\n", None, False),
        ("0::/user.slice/user-1000.slice/user@1000.service\n", None, False),
        ("0::/\n", None, False),
        (None, None, False),
    ],
)  # fmt: skip
def test_the_unit_is_read_from_the_control_group(cgroup: str | None, unit: str | None, user: bool) -> None:
    assert (p.unit_of(cgroup), p.user_unit(cgroup)) == (unit, user)


def test_wsl_reaches_windows_by_its_gateway_and_its_name_server() -> None:
    routes = "Iface\tDestination\tGateway\nlo\t0000007F\t00000000\neth0\t00000000\t0120A8C0\n"
    resolv = "# made by WSL\nnameserver 10.255.255.254\nsearch x\n"
    assert p.windows_addresses(routes, resolv) == {"192.168.32.1", "10.255.255.254"}
    assert p.is_wsl("5.15.167.4-microsoft-standard-WSL2")
    assert not p.is_wsl("6.1.0-31-amd64")


@pytest.mark.parametrize(
    ("addresses", "here"),
    [
        (["127.0.0.5"], True),
        (["192.168.1.7"], True),
        (["fe80::1%eth0"], True),
        (["192.168.1.8"], False),
        (["x"], False),
    ],
)
def test_an_address_is_here_when_it_is_loopback_or_our_own(addresses: list[str], here: bool) -> None:
    assert p.is_here(addresses, ["192.168.1.7", "fe80::1%eth0"]) is here
