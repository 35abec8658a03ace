"""Ollama's own pull as a way for a model to come here: planned from the registry's headers, fetched by the server.

It is taken for an ollama: reference that is not in the store, and with --via pull for a name of the catalogue. The hub
comes first otherwise: it has many quants where Ollama's library has two or three, its projectors are files of their own
(which can go to the CPU), and its files serve other engines too. A pull has advantages of its own: the server writes
its store itself, so it needs no right to it, and the new model shares the pulled files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qwenops.errors import BadInput, CheckFailed, PartMissing, QwenopsError
from qwenops.model.registry import is_loopback, registry_files
from qwenops.model.stored import find_stored
from qwenops.model.types import Model
from qwenops.ollama.types import Progress
from qwenops.plan.types import Plan
from qwenops.runtime.names import Name, checked_name
from qwenops.runtime.types import Runtime, Store
from qwenops.setup.given import OLLAMA, Given
from qwenops.units import MIB, human

if TYPE_CHECKING:
    from qwenops.model.catalog import Entry
    from qwenops.model.remote import RemoteFile
    from qwenops.runtime.wire import ServerRefused

KEPT_FREE_BYTES: Final = 512 * MIB
_LIBRARY_QUANTS: Final = ("bf16", "q8_0", "q4_K_M")


def in_library(paths: Sequence[Given], quant: str | None = None, *, offline: bool = False) -> tuple[str, ...]:
    """The references in Ollama's library that the catalogue has for a name, for --via pull.

    Where the catalogue's tag names a quant, its sisters of other quants are asked for as well. Raises BadInput for what
    is no name of the catalogue or has no tag there.
    """
    from qwenops.model.catalog import find_named

    if len(paths) == 1 and isinstance(paths[0], str) and paths[0].lower().startswith(OLLAMA):
        return (paths[0],)
    found = find_named(str(paths[0])) if len(paths) == 1 and isinstance(paths[0], Path) else None
    if found is None:
        raise BadInput(
            "--via pull is for a name of the catalogue or an ollama: reference",
            do=("qwenops models", "or leave --via out"),
        )
    if found.entry.ollama is None:
        raise BadInput(
            f"the catalogue knows no tag of Ollama's library for {found.entry.names[0]}",
            do=f"qwenops up {found.entry.names[0]}     (from the Hugging Face hub)",
        )
    tags = _tags(found.entry, quant or found.quant)
    there = tuple(tag for tag in tags if len(tags) == 1 or _is_there(tag, offline=offline))
    if not there:
        raise BadInput(f"{', '.join(tags)}: none of them is in the registry", do=f"qwenops up {found.entry.names[0]}")
    return there


def is_pulled(made: Plan) -> bool:
    """Whether the chosen model is in a registry and not here."""
    return made.chosen is not None and (made.chosen.choice.model.remote or "").startswith(OLLAMA)


def pull_chosen(
    made: Plan,
    name: str,
    runtime: Runtime,
    *,
    replacing: bool = False,
    dry_run: bool = False,
    offline: bool = False,
    say: Callable[[str], None],
    progress: Progress,
) -> tuple[Plan, dict[str, Any]]:
    """The plan with its chosen model in Ollama's store, fetched by the server, and what came.

    What would stop it or the registration is looked at before: the server, the new name, room on the store's disk.
    Stopped at any point, the next pull goes on with what has come. Raises ServerDown, BadInput and PartMissing, and
    CheckFailed where the registry's model is another one than was planned.
    """
    from qwenops.ollama.api_register import refuse_foreign
    from qwenops.runtime.client import Client
    from qwenops.runtime.silence import server_down

    assert made.chosen is not None
    model = made.chosen.choice.model
    reference = checked_name((model.remote or "").removeprefix(OLLAMA))
    if offline:
        raise PartMissing(
            f"{model.remote} is not in your store, and the network is not to be used", do="leave --offline out"
        )
    if not runtime.reachable:
        raise server_down(runtime, f"and only the server can pull {reference.short}")
    _, files, projector = registry_files(f"{OLLAMA}{reference}", offline=False)
    wanted = (*files, *((projector,) if projector else ()))
    left = sum(_left(file, runtime.store) for file in wanted)
    _check_disk(left, runtime.store)
    client = Client(runtime.url)
    refuse_foreign(client, checked_name(name), replace=replacing)
    into = str(runtime.store.path) if runtime.store else f"the store of {runtime.url}"
    entry = {"bytes": left, "fetched": False, "into": into}
    if dry_run:
        return made, entry
    say(f"Ollama pulls {reference.short}: {human(left)}, into {into}")
    follow = _Follow(reference, sum(file.size_bytes or 0 for file in wanted), progress)
    try:
        client.pull(str(reference), insecure=is_loopback(reference.host), on_status=follow)
    except KeyboardInterrupt:
        say("what has come stays in Ollama's store: the same command goes on where it stopped")
        raise
    except QwenopsError as error:
        raise _explained(error, reference, runtime) from None
    here = find_stored(reference.short, runtime.store) if runtime.store else None
    if here is not None and here.header.checksum != model.header.checksum:
        raise CheckFailed(
            f"{reference.short} is not the model whose header was read: the registry's changed meanwhile",
            do="run the command again",
        )
    return _with_model(made, here or model), {**entry, "fetched": left > 0}


class _Follow:
    """The server's lines about each blob, as one progress over all of them."""

    def __init__(self, name: Name, total_bytes: int, progress: Progress) -> None:
        self.name, self.total_bytes, self.progress = name, total_bytes, progress
        self.done: dict[str, int] = {}

    def __call__(self, line: Mapping[str, Any]) -> None:
        """One line of the server's answer to /api/pull (api/types.go, ProgressResponse)."""
        digest = line.get("digest")
        if not digest:
            self.progress(str(line.get("status", "")), 0, 0)
            return
        self.done[str(digest)] = int(line.get("completed") or 0)
        self.progress(f"pulling {self.name.short}", min(sum(self.done.values()), self.total_bytes), self.total_bytes)


def _tags(entry: Entry, quant: str | None) -> tuple[str, ...]:
    from qwenops.model.quants import label_in_name

    tag = entry.ollama or ""
    label = label_in_name(tag.replace(":", "-"))
    if label is None:
        return (f"{OLLAMA}{tag}",)
    stem = tag[: -len(label)]
    quants = (_spelled(quant),) if quant else _LIBRARY_QUANTS
    return tuple(f"{OLLAMA}{stem}{one}" for one in quants)


def _spelled(quant: str) -> str:
    """A quant as the library's tags have it: q4_K_M, q8_0, fp16."""
    return {"F16": "fp16", "BF16": "bf16"}.get(quant.upper(), quant[:1].lower() + quant[1:].upper())


def _is_there(reference: str, *, offline: bool) -> bool:
    try:
        registry_files(reference, offline=offline)
    except BadInput:
        return False
    return True


def _left(file: RemoteFile, store: Store | None) -> int:
    """Bytes that the server will still fetch of a blob: what an earlier pull has of it is in small files beside it."""
    size = file.size_bytes or 0
    if store is None or file.content is None:
        return size
    blob = store.path / "blobs" / file.content.replace(":", "-")
    try:
        if blob.exists():
            return 0
        parts = [json.loads(part.read_text()) for part in blob.parent.glob(f"{blob.name}-partial-*")]
        return max(0, size - sum(int(part.get("Completed") or 0) for part in parts))
    except (OSError, ValueError, AttributeError):
        return size


def _check_disk(left: int, store: Store | None) -> None:
    from qwenops.ollama.judge import free_bytes

    if store is None or not left:
        return
    free = free_bytes(store)
    if free < left + KEPT_FREE_BYTES:
        raise PartMissing(
            f"{human(left)} are to be pulled into {store.path}, where {human(free)} are free",
            do=(
                "make room there: qwenops list, qwenops remove NAME",
                "or set OLLAMA_MODELS of the server to another disk",
            ),
        )


def _explained(error: QwenopsError, reference: Name, runtime: Runtime) -> QwenopsError:
    """The server's own words for a pull that failed, with what to do (server/images.go, server/download.go)."""
    refused: ServerRefused | None = error if hasattr(error, "text") else None  # type: ignore[assignment]
    if refused is None:
        return error
    words = refused.text
    if "file does not exist" in words or "not found" in words:
        return BadInput(f"{reference.short} is not in the registry any more", do="look at the spelling of its tag")
    if "no space left" in words or "quota" in words:
        return PartMissing(
            f"the disk of the store of {runtime.url} is full; what has come is kept",
            do="make room there and run the command again: it goes on where it stopped",
        )
    if "newer version" in words or "requires" in words:
        return PartMissing(f"{reference.short}: {words}", do="https://ollama.com/download")
    return PartMissing(
        f"the Ollama server could not pull {reference.short}: {words}",
        do="run the command again: it goes on where it stopped (the server's own network and proxy count, not yours)",
    )


def _with_model(made: Plan, model: Model) -> Plan:
    assert made.chosen is not None
    return replace(made, chosen=replace(made.chosen, choice=replace(made.chosen.choice, model=model)))
