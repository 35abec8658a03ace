"""The proof of sight as a step of a command: the picture is shown, and what came of it is kept and known again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from qwenops import history
from qwenops.history import History, Outcome
from qwenops.memory.measured import settings_key
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.image_tokens import MAX_TOKENS
from qwenops.model.types import Model
from qwenops.ollama.types import Progress
from qwenops.runtime.types import Runtime

if TYPE_CHECKING:
    from qwenops.ollama.verify import Verified

TEST: Final = "sight"
"""Under this name the history keeps what came of a picture, beside the benchmarks."""


def prove_sight(
    name: str,
    runtime: Runtime,
    *,
    model: Model | None,
    need: Need | None,
    verified: Verified,
    most_tokens: int = MAX_TOKENS,
    say: Callable[[str], None],
    progress: Progress,
) -> dict[str, Any]:
    """Show a model that was just loaded the made-up picture; what came of it, as the result has it."""
    from qwenops.model.read import model_key
    from qwenops.ollama.sight import look

    say("showing it a small picture with a made-up word, a number and two shapes")
    sight = look(
        name,
        runtime,
        model=model,
        need=need,
        loaded=verified.loaded,
        most_tokens=most_tokens,
        progress=progress,
    )
    if model is not None and need is not None:
        with history.open() as kept:
            about = {"settings_key": settings_key(need.settings), "name": sight.name}
            kept.record_result(
                Outcome(
                    kind="sight",
                    model=model.name,
                    quant=model.quant,
                    model_key=model_key(model),
                    test=TEST,
                    settings=about,
                    samples=({"ok": sight.ok, "why": sight.as_data()["why"]},),
                )
            )
    return sight.as_data()


def failed_before(kept: History, key: str, settings: LoadSettings) -> bool:
    """Whether the last picture shown to this model under these settings was not seen."""
    wanted = settings_key(settings)
    rows = [row for row in kept.results(kind="sight", model_key=key) if row.settings.get("settings_key") == wanted]
    return bool(rows) and not rows[-1].samples[0]["ok"]
