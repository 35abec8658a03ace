"""Between a plan and its registration: the chosen variant is brought here, where it was planned from afar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwenops.errors import CheckFailed
from qwenops.model.types import Model
from qwenops.ollama.types import Progress
from qwenops.plan.types import Judged, Plan
from qwenops.units import human


def would_bring(made: Plan, *, offline: bool) -> dict[str, Any] | None:
    """What bring_chosen would fetch; None where everything is here."""
    from qwenops.model.download import missing_bytes
    from qwenops.model.hub_cache import cache_folder

    chosen = made.chosen
    if chosen is None or not _is_away(chosen.choice.model):
        return None
    wanted = missing_bytes(chosen.choice.model, offline=offline)
    return {"bytes": wanted, "fetched": False, "into": str(cache_folder())}


def bring_chosen(
    made: Plan, *, offline: bool, say: Callable[[str], None], progress: Progress
) -> tuple[Plan, dict[str, Any] | None]:
    """The plan with its chosen model here, and what was fetched; nothing of the other variants is.

    The digests that were made while the files arrived are noted, so that registering does not read them again. What was
    here before is read once and compared with what the hub has listed. Raises CheckFailed where it differs.
    """
    from qwenops.model.download import bring, missing_bytes
    from qwenops.model.hub_cache import cache_folder
    from qwenops.ollama.digest import digest_file, remember

    chosen = made.chosen
    if chosen is None or not _is_away(chosen.choice.model):
        return made, None
    model = chosen.choice.model
    wanted = missing_bytes(model, offline=offline)
    if wanted and not offline:
        say(f"downloading {human(wanted)}: {model.source}, into {cache_folder()}")
    brought = bring(model, offline=offline, progress=progress)
    for path, sha256 in brought.sha256.items():
        remember(Path(path).resolve(), sha256)
    for path, sha256 in brought.listed.items():
        found = digest_file(path, progress=progress)
        if found.sha256 != sha256:
            raise CheckFailed(
                f"{found.path} was here before and is not what the hub has: its digest is {found.sha256[:12]}…",
                do=(f"rm '{found.path}'", "then run the command again: it is downloaded anew"),
            )
    entry = {"bytes": brought.fetched_bytes, "fetched": brought.fetched_bytes > 0, "into": str(cache_folder())}
    return replace(made, chosen=_with_model(chosen, brought.model)), entry


def _is_away(model: Model) -> bool:
    return model.remote is not None or (model.projector is not None and model.projector.remote is not None)


def _with_model(judged: Judged, model: Model) -> Judged:
    return replace(judged, choice=replace(judged.choice, model=model))
