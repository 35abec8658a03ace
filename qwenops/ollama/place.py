"""A store that we may not write, as the Linux service has it: work everything out, and write down the linking alone.

The script that results holds nothing but links, installs of a few small files that were prepared in our own cache, and
one rename. It is for the user to read and to run with sudo; ownership and modes of existing files stay as they are.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

from qwenops import paths
from qwenops.errors import BadInput, NotAllowed
from qwenops.ollama import ledger
from qwenops.ollama.contents import Bundle, Contents, bundle
from qwenops.ollama.digest import digest_file
from qwenops.ollama.judge import judge_rights
from qwenops.ollama.store_register import note_link
from qwenops.ollama.types import Progress, Registered
from qwenops.runtime.client import Client, TaggedModel
from qwenops.runtime.names import Name, parse_name
from qwenops.runtime.store import manifest_digest
from qwenops.runtime.types import Runtime, Store
from qwenops.units import human


def offer(
    contents: Contents,
    name: Name,
    runtime: Runtime,
    store: Store,
    *,
    replace: bool,
    dry_run: bool,
    progress: Progress,
) -> Registered:
    """Say that the store cannot be written and what to type: the exact linking with sudo, or the API.

    Returns only when the model is there already with this content (the script was run); else raises NotAllowed,
    or BadInput for a name that other content has.
    """
    judge_rights(contents, runtime, store, copy=False)
    api = f"or add --via api ({human(contents.total_bytes + contents.model_bytes)} in the store: it keeps a copy and"
    api += " rewrites it)"
    why = f"The store {store.path} can be written by {_owner(store, runtime)} only"
    if dry_run:
        raise NotAllowed(why, do=("run it without --dry-run to get the exact sudo command", api))
    digested = [digest_file(path, progress=progress) for _, path in contents.files]
    made = bundle(contents, digested)
    there = _tagged(runtime, name)
    if there and there.digest == manifest_digest(made.manifest):
        return _already(made, name, store)
    if there and not replace and ledger.made_here(store.path, name.short) is None:
        raise BadInput(
            f"{name.short} exists in Ollama with other content and was not made by qwenops",
            do=("choose another name", "or add --replace"),
        )
    script = write_script(made, name, store)
    raise NotAllowed(
        why,
        do=(
            f"sudo sh {shlex.quote(str(script))}",
            "     (links the files, then run this command again to check it)",
            api,
        ),
    )


def write_script(made: Bundle, name: Name, store: Store) -> Path:
    """Prepare the small files and the script in the cache; returns the script's path."""
    folder = paths.cache_dir() / "register" / name.short.replace("/", "_").replace(":", "_")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    blobs, manifest = store.path / "blobs", store.path / "manifests" / name.relative_path
    lines = [
        "#!/bin/sh",
        f"# Registers {name.short} in {store.path}: links the weights and installs the small files beside them.",
        "set -eu",
        f"blobs={shlex.quote(str(blobs))}",
        'owner=$(stat -c %u "$blobs") group=$(stat -c %g "$blobs")',
        'own() { install -o "$owner" -g "$group" "$@"; }',
    ]
    for blob in made.blobs:
        target = f'"$blobs"/{_file_name(blob.row.digest)}'
        lines.append(f"[ -e {target} ] || ln -- {shlex.quote(str(blob.found.path))} {target}")
    for digest, data in made.small:
        prepared = folder / _file_name(digest)
        prepared.write_bytes(data)
        target = f'"$blobs"/{_file_name(digest)}'
        lines.append(f"[ -e {target} ] || own -m 644 -- {shlex.quote(str(prepared))} {target}")
    prepared = folder / "manifest"
    prepared.write_bytes(made.manifest)
    above = [parent for parent in manifest.parents if parent.is_relative_to(store.path) and parent != store.path]
    for parent in reversed(above):
        lines.append(f"[ -d {shlex.quote(str(parent))} ] || own -d -m 755 -- {shlex.quote(str(parent))}")
    half = shlex.quote(str(store.path / "manifests" / ".qwenops-new"))
    lines.append(f"own -m 644 -- {shlex.quote(str(prepared))} {half}")
    lines.append(f"mv -f -- {half} {shlex.quote(str(manifest))}")
    script = folder / "link.sh"
    script.write_text("\n".join(lines) + "\n")
    return script


def _already(made: Bundle, name: Name, store: Store) -> Registered:
    for blob in made.blobs:
        with contextlib.suppress(OSError):
            note_link(store, blob, None)
    digest = manifest_digest(made.manifest)
    ledger.record_model(store.path, name.short, digest)
    return Registered(
        name=name.short,
        how="linked",
        bytes_copied=0,
        bytes_linked=0,
        manifest=store.path / "manifests" / name.relative_path,
        changed=False,
        undo=f"qwenops remove {name.short}",
        digest=digest,
    )


def _tagged(runtime: Runtime, name: Name) -> TaggedModel | None:
    if not runtime.reachable:
        return None
    tags = Client(runtime.url).tags()
    return next((t for t in tags if parse_name(t.name).folded == name.folded), None)


def _owner(store: Store, runtime: Runtime) -> str:
    with contextlib.suppress(OSError, KeyError, NotImplementedError, ImportError):
        return store.path.owner()
    return runtime.user or "another user"


def _file_name(digest: str) -> str:
    return digest.replace(":", "-")
