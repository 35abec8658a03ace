"""Files and servers of other users: refused before anything is written, or handed over in one line of sudo."""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.errors import NotAllowed
from qwenops.ollama.models import list_models
from qwenops.ollama.register import register
from qwenops.ollama.remove import remove_model
from qwenops.ollama.rights import Reader, may_read
from qwenops.ollama.types import Spec
from qwenops.runtime.client import Client
from qwenops.runtime.store import open_store
from tests.ollama.support import (
    SecondUser,
    as_user,
    is_root,
    minimal_gguf,
    runtime_of,
    second_user,
    server_of,
    snapshot,
    spec_for,
    store_alone,
)

ALICE = Reader("alice", 2000, frozenset({2000, 3000}))


@pytest.mark.skipif(not is_root(), reason="needs root to give files to other users")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "readable"),
    [
        (2000, 1, 0o600, True),
        (2000, 1, 0o044, False),
        (1, 2000, 0o640, True),
        (1, 3000, 0o640, True),
        (1, 3000, 0o604, False),
        (1, 1, 0o604, True),
        (1, 1, 0o660, False),
        (1, 1, 0o600, False),
    ],
)
def test_mode_bits_decide_as_the_kernel_does(tmp_path: Path, owner: int, group: int, mode: int, readable: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    os.chown(path, owner, group)
    path.chmod(mode)

    assert may_read(path, ALICE) is readable
    assert may_read(path, Reader("root", 0, frozenset({0})))


@pytest.mark.skipif(not is_root(), reason="needs root to write access lists for other users")
@pytest.mark.parametrize(
    ("entries", "readable"),
    [
        pytest.param([(1, 6, 0), (2, 4, 2000), (4, 0, 0), (16, 7, 0), (32, 0, 0)], True, id="named user"),
        pytest.param([(1, 6, 0), (2, 4, 2000), (4, 0, 0), (16, 0, 0), (32, 0, 0)], False, id="masked"),
        pytest.param([(1, 6, 0), (2, 0, 2000), (4, 7, 0), (16, 7, 0), (32, 7, 0)], False, id="named user shut out"),
        pytest.param([(1, 6, 0), (4, 0, 0), (8, 4, 3000), (16, 7, 0), (32, 0, 0)], True, id="named group"),
        pytest.param([(1, 6, 0), (4, 0, 0), (8, 0, 3000), (16, 7, 0), (32, 7, 0)], False, id="named group shut out"),
        pytest.param([(1, 6, 0), (4, 0, 0), (8, 7, 4000), (16, 7, 0), (32, 4, 0)], True, id="others"),
    ],
)
def test_an_access_list_decides_as_acl_5_says(
    tmp_path: Path, entries: list[tuple[int, int, int]], readable: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    tmp_path.chmod(0o755)
    packed = b"".join(
        struct.pack("<HHI", tag, permissions, who if tag in (2, 8) else 0xFFFFFFFF) for tag, permissions, who in entries
    )
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        pytest.skip(f"this file system has no access lists: {error.strerror}")

    assert may_read(path, ALICE) is readable
    assert _kernel_lets(path, 2000, [2000, 3000]) is readable


def _kernel_lets(path: Path, uid: int, groups: list[int]) -> bool:
    """What the kernel itself says, to a process of that user that is handed the folder."""
    folder = os.open(path.parent, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        os.fchdir(folder)
        os.setgroups(groups)
        os.setgid(groups[0])
        os.setuid(uid)
        try:
            os.close(os.open(path.name, os.O_RDONLY))
            os._exit(0)
        except OSError:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    os.close(folder)
    return os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(not is_root(), reason="needs root, to have a file of another user")
def test_a_file_that_the_server_cannot_read_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    file = minimal_gguf(tmp_path / "model.gguf")
    file.chmod(0o600)
    (tmp_path / "store").mkdir()
    runtime = replace(store_alone(tmp_path / "store"), user="nobody")

    with pytest.raises(NotAllowed) as refused:
        register(spec_for(file), "secret", runtime)

    assert refused.value.message == f"Ollama runs as nobody, who cannot read {file} (owner root, mode 600)"
    assert refused.value.do[0] == f"chmod o+r {file}"
    assert "--copy" in refused.value.do[1]
    assert list((tmp_path / "store").iterdir()) == []
    assert register(spec_for(file), "secret", runtime, copy=True).how == "copied"


@pytest.mark.server
def test_a_private_file_on_a_server_of_another_user(smollm: Path) -> None:
    with second_user() as user, server_of(user) as server:
        file = user.folder / "private.gguf"
        file.write_bytes(smollm.read_bytes())
        file.chmod(0o600)
        runtime = runtime_of(server, user=user.name)
        before = snapshot(server.store)

        with pytest.raises(NotAllowed, match=f"Ollama runs as {user.name}, who cannot read"):
            register(Spec(shards=(file,)), "private", runtime)
        assert snapshot(server.store) == before

        register(Spec(shards=(file,), parameters={"num_ctx": 256}), "private", runtime, copy=True)
        assert Client(server.url).generate("private", "Hi", options={"num_predict": 2}).tokens > 0
        assert {p.stat().st_uid for p in server.store.rglob("*")} == {user.uid}, "what root made is the server's"
        Client(server.url).delete("private")
        assert snapshot(server.store) == before


@pytest.mark.server
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["a store to look into", "a closed home"])
def test_a_store_of_the_service_is_linked_into_by_one_line_of_sudo(smollm: Path, mode: int) -> None:
    with second_user() as service, server_of(service) as server:
        server.store.parent.chmod(mode)
        file = service.folder / "public.gguf"
        file.write_bytes(smollm.read_bytes())
        alice = replace(service, uid=service.uid + 1000, gid=service.gid + 1000)
        os.chown(file, alice.uid, alice.gid)
        home = service.folder / "alice"
        home.mkdir()
        os.chown(home, alice.uid, alice.gid)
        spec = Spec(shards=(file,), parameters={"num_ctx": 256}, system='it\'s "quoted"')

        refused = as_user(alice, lambda: _register_as(alice, spec, server.url, server.store, service.name, home))

        assert refused.startswith(f"NotAllowed: The store {server.store} can be written by {service.name} only")
        sudo = next(line for line in refused.splitlines() if line.startswith("sudo "))
        assert Client(server.url).tags() == ()
        subprocess.run(shlex.split(sudo.removeprefix("sudo ")), check=True, timeout=60)
        assert [t.name for t in Client(server.url).tags()] == ["shared:latest"]
        blob = max((server.store / "blobs").iterdir(), key=lambda p: p.stat().st_size)
        assert os.path.samefile(blob, file)
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (alice.uid, 0o644), "owner and mode stay"

        again = as_user(alice, lambda: _register_as(alice, spec, server.url, server.store, service.name, home))

        assert again == "changed False, confirmed True"
        assert Client(server.url).generate("shared", "Hi", options={"num_predict": 2}).tokens > 0
        Client(server.url).delete("shared")
        assert file.exists()


def _register_as(alice: SecondUser, spec: Spec, url: str, store: Path, server_user: str, home: Path) -> str:
    from qwenops.runtime.types import Runtime

    os.environ["QWENOPS_HOME"] = str(home)
    runtime = Runtime(
        place="local", url=url, version="0.32.14", user=server_user, store=open_store(store, "OLLAMA_MODELS")
    )
    done = register(spec, "shared", runtime)
    return f"changed {done.changed}, confirmed {done.confirmed}"


@pytest.mark.server
def test_a_removal_by_the_server_forgets_our_notes(start_server: object, smollm: Path) -> None:
    server = start_server(gpu=False)  # type: ignore[operator]
    runtime = runtime_of(server)
    register(Spec(shards=(smollm,)), "gone", runtime)
    assert list_models(runtime)[0].made_by_qwenops

    remove_model(runtime, "gone")

    assert list_models(runtime) == ()
    assert smollm.exists()
