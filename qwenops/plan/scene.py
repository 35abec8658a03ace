"""The scene of a search: the task, the ground, and whom to ask what a load needs."""

from __future__ import annotations

from typing import Any

from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.ground import Ground
from qwenops.plan.profile import profile
from qwenops.plan.search import AskNeed, Scene
from qwenops.plan.types import Wish


def make_scene(task: str, base: Ground, wish: Wish, history: Any) -> Scene:
    """The scene of a search: every question of need is asked once, on the devices that Ollama would use."""
    from qwenops.memory import ladder, reserve
    from qwenops.memory.learned import learn

    learned = learn(history, base.runtime)
    answers: dict[tuple[int, LoadSettings, str], Need] = {}

    def ask(rung: str) -> AskNeed:
        def answer(model: Model, settings: LoadSettings) -> Need:
            key = (id(model), settings, rung)
            if key not in answers:
                answers[key] = answer_afresh(model, settings)
            return answers[key]

        def answer_afresh(model: Model, settings: LoadSettings) -> Need:
            devices = reserve.devices_in_use(model, settings, base.devices, base.host, base.environment)
            return ladder.need(
                model,
                settings,
                devices,
                host=base.host,
                runtime=base.runtime,
                rung=rung,
                history=history,
                reserve_bytes=reserve.fit_reserve(model, settings, devices, base.environment),
                learned=learned,
            )

        return answer

    return Scene(
        profile=profile(task),
        ground=base,
        wish=wish,
        quick=ask("closed form"),
        best=ask(wish.rung),
        warmup_saving=reserve.warmup_saving,
        asked=lambda: len(answers),
    )
