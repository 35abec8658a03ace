"""Which loaded models are one runner: Ollama keeps one for each weights blob, whatever the names of it.

A load by a second name of the same weights is answered by the runner that is there, and /api/ps goes on to show the
first name. To be told to leave by any of its names is enough for it.
Source: server/sched.go (schedulerModelKey, expireRunner, needsReload), Ollama v0.32.14.
"""

from __future__ import annotations

import re

from qwenops.errors import QwenopsError
from qwenops.runtime.client import Client
from qwenops.runtime.names import Name, parse_name
from qwenops.runtime.types import LoadedModel

# The first FROM of the Modelfile that the server writes for a model is its weights blob.
_WEIGHTS = re.compile(r"^FROM .*sha256[-:]([0-9a-f]{64})\"?\s*$", re.MULTILINE)


def weights_of(client: Client, name: Name) -> str | None:
    """The digest of a model's weights by the server's own word; None where it has no such model (any more)."""
    try:
        said = str(client.show(name.short).get("modelfile") or "")
    except QwenopsError:
        return None
    found = _WEIGHTS.search(said)
    return found[1] if found else None


def sharing(client: Client, name: Name, loaded: tuple[LoadedModel, ...]) -> tuple[LoadedModel, ...]:
    """Those of the loaded models that have a name's weights, the one of that name first."""
    own = [m for m in loaded if parse_name(m.name).folded == name.folded]
    others = [m for m in loaded if m not in own]
    if others and (weights := weights_of(client, name)):
        own += [m for m in others if weights_of(client, parse_name(m.name)) == weights]
    return tuple(own)


def nameless(client: Client, loaded: tuple[LoadedModel, ...]) -> tuple[LoadedModel, ...]:
    """Loaded models that the server no longer lists: they were removed, and cannot be told to leave by their name."""
    listed = {parse_name(t.name).folded for t in client.tags()}
    return tuple(m for m in loaded if parse_name(m.name).folded not in listed)
