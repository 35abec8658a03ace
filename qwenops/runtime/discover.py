"""Find the runtime: the server, where it runs, its programs, its devices, its settings and its store.

Nothing here fails because a part is missing or hidden: what could not be learned is a note, and whoever needs the
server asks `need_server`, which says what to do.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from qwenops.errors import QwenopsError, ServerDown
from qwenops.machine.types import Device
from qwenops.runtime.client import Client, TaggedModel
from qwenops.runtime.devices import list_devices
from qwenops.runtime.envconfig import relevant
from qwenops.runtime.find import find_llama_server, find_ollama, llama_server_build, this_os
from qwenops.runtime.host import Endpoint, endpoint
from qwenops.runtime.place import Evidence, is_here, is_wsl, tell_place, unit_of, user_unit, windows_addresses
from qwenops.runtime.process import (
    Search,
    ServerProcess,
    contained_server,
    find_server,
    home_of,
    is_serve,
    own_cgroup,
)
from qwenops.runtime.server_log import LogFacts, log_file, read_journal, read_log_file
from qwenops.runtime.settings import Source, merge, settings_in_force
from qwenops.runtime.silence import silence_of
from qwenops.runtime.store import confirm_store, default_store_path, open_store
from qwenops.runtime.types import Backend, LoadedModel, Place, Runtime, Store
from qwenops.runtime.unit import DEFAULT_UNIT, Unit, read_unit

# A server that is well answers its version in a millisecond; one that hangs must not hold a command up.
HELLO_S = 3.0
_OUR_FILES: frozenset[Place] = frozenset({"local", "snap", "app", "none"})


@dataclass(frozen=True)
class _Programs:
    ollama: Path | None = None
    llama_server: Path | None = None
    build: str | None = None
    devices: tuple[Device, ...] = ()
    backends: tuple[Backend, ...] = ()
    notes: tuple[str, ...] = ()
    asked: bool = False


def discover(url: str | None = None, *, probe_devices: bool = True) -> Runtime:
    """The runtime at `url`, or where OLLAMA_HOST points, or at Ollama's own address.

    `place` is "none" when nothing answers within 3 s; the installed programs and devices are found even then.
    `probe_devices` off leaves out llama-server's build and devices, which take a few tenths of a second.
    """
    where = endpoint(url)
    client = Client(where, quick_s=HELLO_S)
    try:
        version = client.version()
    except QwenopsError as error:
        return _without_server(where, error, probe_devices)
    return _with_server(where, client, version, probe_devices)


def need_server(runtime: Runtime) -> Client:
    """A client for a server that answers. Raises ServerDown, saying why and what to type, when none does."""
    client = Client(runtime.url)
    if not client.version(timeout_s=HELLO_S):
        raise ServerDown(f"What answers at {runtime.url} is not Ollama", do="set OLLAMA_HOST to the server's host:port")
    return client


def _with_server(where: Endpoint, client: Client, version: str, probe_devices: bool) -> Runtime:
    search, place, notes = _locate(where)
    process = search.process if place in _OUR_FILES else _inside(search) if place == "container" else None
    unit, unit_name = _unit(process, place)
    log, log_path = _log(process, unit_name)
    environment, told_by, whole = merge(_sources(process, unit, log))
    ollama = _program(process, unit, environment) if place in _OUR_FILES else None
    programs = _ask_programs(ollama, process, environment, probe_devices)
    devices = _refined(programs.devices, log)
    loaded, tags, list_notes = _lists(client)
    store, store_notes = _store(place, process, unit, environment, tags)
    return Runtime(
        place=place,
        url=where.url,
        version=version,
        ollama_path=programs.ollama,
        llama_server_path=programs.llama_server,
        llama_server_build=programs.build,
        devices=devices,
        backends=programs.backends,
        settings=settings_in_force(
            environment,
            told_by,
            known=whole,
            devices=devices,
            devices_known=programs.asked,
            logged_num_ctx=log.default_num_ctx if log else None,
        ),
        environment=environment,
        pid=process.pid if process else None,
        user=(process.user if process else None) or (unit.user if unit else None),
        store=store,
        loaded=loaded,
        notes=(*notes, *_hidden(place, process, whole), *programs.notes, *list_notes, *store_notes),
        unit=unit_name,
        log_path=log_path,
    )


def _without_server(where: Endpoint, error: QwenopsError, probe_devices: bool) -> Runtime:
    """What is installed here, for plans made while nothing runs."""
    unit = read_unit()
    sources = [Source(relevant(unit.environment), unit.name)] if unit else [Source(relevant(os.environ), "this shell")]
    environment, told_by, _ = merge(sources)
    here = _is_here(where)
    ollama = ((unit.program if unit else None) or find_ollama()) if here else None
    programs = _ask_programs(ollama, None, environment, probe_devices and here)
    store = None
    # A store that was named counts without a program: models can be registered before Ollama is installed.
    if ollama is not None or (here and environment.get("OLLAMA_MODELS")):
        user = unit.user if unit else None
        store = open_store(*default_store_path("none", environment, user=user, home=home_of(user)))
    return Runtime(
        place="none",
        url=where.url,
        ollama_path=programs.ollama,
        llama_server_path=programs.llama_server,
        llama_server_build=programs.build,
        devices=programs.devices,
        backends=programs.backends,
        settings=settings_in_force(
            environment, told_by, known=True, devices=programs.devices, devices_known=programs.asked
        ),
        environment=environment,
        user=unit.user if unit else None,
        store=store,
        notes=(error.message, *programs.notes),
        unit=unit.name if unit else None,
        silence=silence_of(where, error, here=here),
    )


def _locate(where: Endpoint) -> tuple[Search, Place, tuple[str, ...]]:
    here = _is_here(where)
    search = find_server(where.port_number) if here else Search(None, None)
    process = search.process
    wsl = is_wsl(platform.release())
    place, note = tell_place(
        Evidence(
            address_is_here=here,
            port_taken=search.port_taken,
            process_name=process.name if process else None,
            exe=str(process.exe) if process and process.exe else None,
            cgroup=process.cgroup if process else None,
            own_cgroup=own_cgroup(),
            same_mounts=process.same_mounts if process else None,
            in_wsl=wsl,
            address_is_windows_host=wsl and where.host in _windows_addresses(),
        )
    )
    return search, place, (*search.notes, *((note,) if note else ()))


def _inside(search: Search) -> ServerProcess | None:
    """The server in a container, where the host sees it: its settings count, its files are not ours."""
    if search.process and is_serve(search.process.command):
        return search.process
    return contained_server()


def _is_here(where: Endpoint) -> bool:
    if where.loopback:
        return True
    import psutil

    addresses = {where.host}
    with suppress(OSError):
        addresses |= {str(info[4][0]) for info in socket.getaddrinfo(where.host, None)}
    own = {a.address for group in psutil.net_if_addrs().values() for a in group}
    return is_here(addresses, own)


def _windows_addresses() -> set[str]:
    texts = []
    for path in ("/proc/net/route", "/etc/resolv.conf"):
        try:
            texts.append(Path(path).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            texts.append("")
    return windows_addresses(texts[0], texts[1])


def _unit(process: ServerProcess | None, place: Place) -> tuple[Unit | None, str | None]:
    """The unit that the process belongs to; the usual one when it runs and may be the server that we cannot see."""
    if place != "local" or (process is not None and process.same_mounts is False):
        return None, None
    name = unit_of(process.cgroup) if process else None
    if process and name:
        return read_unit(name, user=user_unit(process.cgroup)), name
    usual = read_unit(DEFAULT_UNIT)
    if usual and usual.pid and (process is None or usual.pid == process.pid):
        return usual, usual.name
    return None, None


def _log(process: ServerProcess | None, unit: str | None) -> tuple[LogFacts | None, Path | None]:
    if process is None or process.same_mounts is False:
        return None, None
    environment = process.environment or os.environ
    path = process.log_path or log_file(process.home, environment, os=this_os())
    facts = read_log_file(path) if path else None
    if facts is None and unit:
        facts = read_journal(unit, user=user_unit(process.cgroup))
    return facts, path


def _sources(process: ServerProcess | None, unit: Unit | None, log: LogFacts | None) -> list[Source]:
    sources = []
    if process and process.environment:
        sources.append(Source(relevant(process.environment), f"process {process.pid}"))
    if unit:
        sources.append(Source(relevant(unit.environment), unit.name))
    if log:
        # The log shows Ollama's own variables and few of llama.cpp's: not all that a child inherits.
        sources.append(Source(log.environment, log.source, complete=False))
    return sources


def _program(process: ServerProcess | None, unit: Unit | None, environment: Mapping[str, str]) -> Path | None:
    if process and process.exe:
        return process.exe
    if unit and unit.program:
        return unit.program.resolve()
    if process and process.command and Path(process.command[0]).is_absolute():
        return Path(process.command[0]).resolve()
    return find_ollama()


def _ask_programs(
    ollama: Path | None, process: ServerProcess | None, environment: Mapping[str, str], probe: bool
) -> _Programs:
    if ollama is None:
        return _Programs()
    folder = process.working_dir if process else None
    llama_server = find_llama_server(ollama, working_dir=folder)
    found = _Programs(ollama=ollama, llama_server=llama_server)
    if llama_server is None:
        return replace(found, notes=(f"no llama-server was found beside {ollama}: this Ollama cannot run a model",))
    if not probe:
        return found
    whole = as_the_server(environment)
    devices, backends, notes = list_devices(llama_server, whole, ollama=ollama, os=this_os())
    build = llama_server_build(llama_server, whole)
    return replace(found, build=build, devices=devices, backends=backends, notes=notes, asked=not notes)


def as_the_server(environment: Mapping[str, str]) -> dict[str, str]:
    """Our own environment with everything that decides about models replaced by the server's."""
    ours = relevant(os.environ)
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **environment}


def _refined(devices: tuple[Device, ...], log: LogFacts | None) -> tuple[Device, ...]:
    """The devices, with "integrated" as the server itself logged it."""
    if log is None:
        return devices
    return tuple(replace(d, integrated=log.integrated.get(d.name, d.integrated)) for d in devices)


def _lists(client: Client) -> tuple[tuple[LoadedModel, ...], tuple[TaggedModel, ...], tuple[str, ...]]:
    try:
        return client.ps(), client.tags(), ()
    except QwenopsError as error:
        return (), (), (error.message,)


def _store(
    place: Place,
    process: ServerProcess | None,
    unit: Unit | None,
    environment: Mapping[str, str],
    tags: tuple[TaggedModel, ...],
) -> tuple[Store | None, tuple[str, ...]]:
    if place not in _OUR_FILES:
        return None, ()
    user = (process.user if process else None) or (unit.user if unit else None)
    home = process.home if process else home_of(user)
    if process and process.environment and process.environment.get("HOME"):
        home = Path(process.environment["HOME"])
    path, source = default_store_path(place, environment, user=user, home=home)
    if not path.is_absolute() and process and process.working_dir:
        path = process.working_dir / path
    store = open_store(path, source)
    if not tags:
        # An empty server: its own process told the folder, and it sees the files that we see.
        proven = bool(process and process.listens and process.environment and process.same_mounts)
        return replace(store, confirmed=proven), ()
    for candidate in (store, *_usual_stores(place, path)):
        if confirm_store(candidate, tags):
            return replace(candidate, confirmed=True), ()
    return store, (f"the models of {path} are not those that the server lists",)


def _usual_stores(place: Place, known: Path) -> tuple[Store, ...]:
    """Where else the store of a server may lie whose settings are hidden; what the server lists decides."""
    if place != "local":
        return ()
    homes = (Path("/usr/share/ollama"), Path("/var/lib/ollama"), Path.home())
    paths = [home / ".ollama" / "models" for home in homes] + [Path("/var/lib/ollama/models")]
    return tuple(open_store(p, "found by its models") for p in paths if p != known and os.path.isdir(p))


def _hidden(place: Place, process: ServerProcess | None, whole: bool) -> tuple[str, ...]:
    if place in ("remote", "wsl") or (place == "container" and not whole):
        return ("the server's settings cannot be read from here: defaults are assumed",)
    if process is not None and not whole:
        return (
            f"the environment of process {process.pid} may not be read, and no unit tells it: defaults are assumed",
        )
    if process is None:
        return ("the server's process was not found: its settings are taken for the defaults",)
    return ()
