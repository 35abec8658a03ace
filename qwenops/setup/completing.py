"""What could stand at a place of the command line: names, tasks, quants, cards. Nobody is asked, and nothing fails.

A shell waits for this while a key is pressed: files that are here are read, no server is asked, and what cannot be read
gives no names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from qwenops.errors import QwenopsError

_USUAL_STORES = ("/usr/share/ollama/.ollama/models", "/var/snap/ollama/common/models")


def registered_names() -> list[str]:
    """The models in the stores that this user has, by their manifests' names; "latest" goes without saying."""
    from qwenops.runtime.names import name_from_path

    found = set(_made_on_servers())
    for store in _stores():
        with contextlib.suppress(OSError):
            root = store / "manifests"
            for path in root.glob("*/*/*/*"):
                name = name_from_path(path.relative_to(root).as_posix())
                if name is not None and path.is_file():
                    found.add(name.short)
    return sorted(name.removesuffix(":latest") for name in found)


def catalogue_names() -> list[str]:
    """The names of published models, as they are usually typed."""
    from qwenops.model.catalog import catalog

    with contextlib.suppress(QwenopsError, OSError):
        return _unique(name for entry in catalog().values() for name in entry.names)
    return []


def tasks() -> list[str]:
    """The tasks that a plan knows."""
    from qwenops.plan.profile import profiles

    return list(profiles())


def quants() -> list[str]:
    """The quants that can be named."""
    from qwenops.model.quants import WHOLE_FILE_BITS

    return list(WHOLE_FILE_BITS)


def cards() -> list[str]:
    """The names of known cards, and what else --gpu takes."""
    from qwenops.machine.cards import known_cards

    return _unique([*(card.name for card in known_cards()), "none"])


def _stores() -> Iterator[Path]:
    own = os.environ.get("OLLAMA_MODELS")
    if own:
        yield Path(own).expanduser()
        return
    from qwenops.ollama import ledger

    yield Path.home() / ".ollama" / "models"
    yield from map(Path, _USUAL_STORES)
    with contextlib.suppress(QwenopsError, OSError):
        yield from ledger.stores()


def _made_on_servers() -> list[str]:
    """The models that were made by a server's API, whose store is not here to be read."""
    from qwenops import history

    with contextlib.suppress(QwenopsError, OSError), history.open() as kept:
        return [row.name for row in kept.made("model") if "://" in row.location]
    return []


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
