"""Registration by the API: upload what the server lacks, then let it make the model.

The server keeps the uploaded file and, for a text model, writes a second one with llama-quantize; the first is pruned
when it next starts. Source: server/create.go and CreateBlobHandler, Ollama v0.32.14.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qwenops.errors import BadInput, CheckFailed, PartMissing
from qwenops.ollama import ledger
from qwenops.ollama.contents import Contents, fingerprint
from qwenops.ollama.digest import Digested, digest_file
from qwenops.ollama.types import Progress, Registered, Spec
from qwenops.runtime.client import Client, TaggedModel
from qwenops.runtime.names import Name, parse_name
from qwenops.runtime.silence import server_down
from qwenops.runtime.store import ADAPTER, DRAFT
from qwenops.runtime.types import Runtime
from qwenops.runtime.wire import ServerRefused
from qwenops.units import human


def register(
    contents: Contents,
    name: Name,
    runtime: Runtime,
    *,
    replace: bool,
    dry_run: bool,
    progress: Progress,
    why: str = "",
) -> Registered:
    """Upload and create. See qwenops.ollama.register for what it raises; `why` says what ruled the store out."""
    if not runtime.reachable:
        raise server_down(runtime)
    client = Client(runtime.url)
    there = refuse_foreign(client, name, replace=replace)
    made = ledger.made_here(runtime.url, name.short)
    needed = contents.total_bytes + contents.model_bytes
    if dry_run:
        return _told(contents, name, 0, needed, changed=True, digest="", why=why)
    digested = [digest_file(path, progress=progress) for _, path in contents.files]
    wanted = fingerprint(_with_base_digest(contents.spec, client), digested)
    if there and made and made.spec == wanted:
        return _told(contents, name, 0, 0, changed=False, digest=there.digest, why=why)
    sent = sum(_upload(client, found, progress) for found in digested)
    _create(client, contents, name, digested, needed, progress)
    now = _tagged(client, name)
    if now is None:
        raise CheckFailed(f"Ollama said success, and its list lacks {name.short}", do="ollama list")
    ledger.record_model(runtime.url, name.short, now.digest, wanted)
    return _told(contents, name, sent, needed, changed=True, digest=now.digest, why=why)


def refuse_foreign(client: Client, name: Name, *, replace: bool) -> TaggedModel | None:
    """What the server has under the name; BadInput where that was not made by qwenops and may not be replaced."""
    there = _tagged(client, name)
    made = ledger.made_here(client.url, name.short)
    if there and not replace and (made is None or made.digest != there.digest):
        raise BadInput(
            f"{name.short} exists in Ollama and was not made by qwenops through the API, or was changed since",
            do=("choose another name", "or add --replace"),
        )
    return there


def _with_base_digest(spec: Spec, client: Client) -> Spec:
    """The Spec as it is known again: its base by content too, which another pull may change under its name."""
    base = _tagged(client, parse_name(spec.base)) if spec.base else None
    return dataclasses.replace(spec, base=f"{spec.base}@{base.digest}") if base else spec


def _upload(client: Client, found: Digested, progress: Progress) -> int:
    digest = f"sha256:{found.sha256}"
    if client.has_blob(digest):
        return 0
    size = found.stamp.size
    client.upload_blob(found.path, digest, on_bytes=lambda done: progress(f"uploading {found.path.name}", done, size))
    return size


def _create(
    client: Client, contents: Contents, name: Name, digested: list[Digested], needed: int, progress: Progress
) -> None:
    spec = contents.spec
    groups: dict[str, dict[str, str]] = {"files": {}, "adapters": {}, "draft_files": {}}
    for (kind, _), named, found in zip(contents.files, spec.files, digested, strict=True):
        group = {ADAPTER: "adapters", DRAFT: "draft_files"}.get(kind, "files")
        groups[group][named.name] = f"sha256:{found.sha256}"
    fields: dict[str, Any] = {
        **groups,
        "from_": spec.base,
        "parameters": dict(spec.parameters),
        "template": spec.template,
        "system": spec.system,
        "license": list(spec.license),
        "messages": [{"role": m.role, "content": m.content} for m in spec.messages],
        "renderer": spec.renderer,
        "parser": spec.parser,
        "requires": spec.requires,
    }
    told: Mapping[str, Any] = {k: v for k, v in fields.items() if v}

    def status(line: Mapping[str, Any]) -> None:
        progress(str(line.get("status", "")), int(line.get("completed") or 0), int(line.get("total") or 0))

    try:
        client.create(name.short, on_status=status, **told)
    except ServerRefused as refused:
        if "no space left" in refused.text or "quota" in refused.text:
            raise PartMissing(
                f"The disk of the server's store is full: the API way takes {human(needed)}",
                do="make room there, or register on that machine, where a link takes none",
            ) from None
        raise


def _tagged(client: Client, name: Name) -> TaggedModel | None:
    return next((t for t in client.tags() if parse_name(t.name).folded == name.folded), None)


def _told(
    contents: Contents, name: Name, sent: int, needed: int, *, changed: bool, digest: str, why: str
) -> Registered:
    notes = [why] if why else []
    if needed and contents.files:
        notes.append(
            f"by the API the server keeps two copies of the model until it next starts: {human(needed)} in its store"
        )
    return Registered(
        name=name.short,
        how="uploaded" if contents.files else "linked",
        bytes_copied=sent + contents.model_bytes if sent else (contents.model_bytes if changed else 0),
        bytes_linked=0,
        manifest=None,
        changed=changed,
        undo=f"qwenops remove {name.short}",
        digest=digest,
        notes=tuple(notes),
    )
