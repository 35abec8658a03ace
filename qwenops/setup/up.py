"""The whole story in one command: plan, write, register, load, verify, see."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qwenops import history
from qwenops.errors import BadInput, PartMissing, ServerDown
from qwenops.history import History
from qwenops.machine.types import Machine
from qwenops.ollama.in_place import look_at_blobs, touched_by_server
from qwenops.ollama.types import Progress, silent
from qwenops.plan.types import Judged, Plan
from qwenops.result import Result
from qwenops.runtime.names import checked_name
from qwenops.runtime.silence import server_down
from qwenops.runtime.types import Runtime
from qwenops.setup.answers import make_plan, plan_as_result, runtime_entry
from qwenops.setup.bring import as_downloaded, bring_chosen, foresee, pieces_away, would_bring
from qwenops.setup.given import Given, must_be_in_reach
from qwenops.setup.join import is_split, join_chosen, joined_before, refuse_split, target_of
from qwenops.setup.modelfiles import base_of, inherited_notes, kept_modelfile, modelfile_text, write_whole
from qwenops.setup.pull import in_library, is_pulled, pull_chosen
from qwenops.setup.recipe import keep, recipe_of
from qwenops.setup.registering import registered_entry
from qwenops.setup.seeing import failed_before, prove_sight
from qwenops.setup.versions import check_server_knows

Say = Callable[[str], None]


@dataclass(frozen=True)
class UpOptions:
    """What the user asked of `up`, beside the plan's own wishes."""

    name: str | None = None
    task: str = "chat"
    mode: str | None = None
    system: str | None = None
    template: Path | None = None
    via: str = "auto"
    copy: bool = False
    replace: bool = False
    alone: bool = False
    load: bool = True
    again: bool = False
    join: bool = False
    dry_run: bool = False
    pins: dict[str, Any] = field(default_factory=dict)


def up_result(
    paths: tuple[Given, ...],
    mmproj: Given | None,
    options: UpOptions,
    *,
    say: Say = lambda _: None,
    progress: Progress = silent,
) -> Result:
    """Do everything, and say what was done ("qwenops.up/1").

    Exit code 1 when nothing fits or the load was not as planned. Run again it changes nothing and says so. Raises
    ServerDown when there is no server to load with, unless loading was not asked for.
    """
    must_be_in_reach((*paths, mmproj), "up")
    offline = bool(options.pins.get("offline"))
    if options.via == "pull":
        paths, options = in_library(paths, options.pins.get("quant"), offline=offline), replace(options, via="auto")
    if options.name:
        checked_name(options.name)
    made, machine, runtime = make_plan(paths, mmproj, gpu=None, task=options.task, **options.pins)
    if made.chosen is None:
        return plan_as_result(made, machine, runtime)
    if runtime is None:
        raise PartMissing("no Ollama was found", do="https://ollama.com/download")
    if options.load and not options.dry_run and not runtime.reachable:
        down = server_down(runtime)
        raise ServerDown(down.message, do=(*down.do, "or add --no-load to register into the store alone"))
    check_server_knows(made.chosen.choice.model, runtime)
    name = options.name or default_name(made.chosen, options.task)
    pieces = pieces_away(made, offline=offline)
    joins = is_split(made) and options.via != "api" and (options.join or joined_before(made))
    if is_split(made) and options.via != "api" and not joins:
        refuse_split(made, pieces)
    lies_in = target_of(made).parent if joins and pieces else None
    foreseen = foresee(made, pieces, name, runtime, via=options.via, replacing=options.replace, lies_in=lies_in)
    for note in foreseen:
        say(note)
    brought = would_bring(pieces) if options.dry_run else None
    if is_pulled(made):
        made, brought = pull_chosen(
            made,
            name,
            runtime,
            replacing=options.replace,
            dry_run=options.dry_run,
            offline=offline,
            say=say,
            progress=progress,
        )
    elif joins:
        made, brought = join_chosen(
            made, pieces, name=name, dry_run=options.dry_run, offline=offline, say=say, progress=progress
        )
    elif not options.dry_run:
        made, brought = bring_chosen(made, pieces, name=name, offline=offline, say=say, progress=progress)
    assert made.chosen is not None
    written = as_downloaded(made)
    text = modelfile_text(written, mode=options.mode, system=options.system, template=options.template)
    look_at_blobs(made.chosen.choice.model, progress=progress)
    story = _Story(made, machine, runtime, made.chosen, name, text, options, brought, (paths, mmproj))
    if options.dry_run:
        if brought is None and (runtime.reachable or runtime.store):
            story.register(progress)
        return story.result()
    if base := base_of(made.chosen.choice.model):
        say(f"registering {name} on the files of {base}")
    elif brought:
        say(f"registering {name}")
    else:
        say(f"registering {name}: the weights are read once for their digest")
    story.register(progress)
    if options.load:
        story.verify(say, progress)
    return story.result()


class _Story:
    """The steps after the plan, and what each of them left behind."""

    def __init__(
        self,
        made: Plan,
        machine: Machine,
        runtime: Runtime,
        chosen: Judged,
        name: str,
        text: str,
        options: UpOptions,
        brought: dict[str, Any] | None,
        asked: tuple[tuple[Given, ...], Given | None],
    ) -> None:
        self.made, self.machine, self.runtime, self.chosen = made, machine, runtime, chosen
        self.name, self.text, self.options, self.brought = name, text, options, brought
        self.asked = asked
        self.modelfile = kept_modelfile(name)
        self.registered: dict[str, Any] | None = None
        self.verified: dict[str, Any] | None = None
        self.sight: dict[str, Any] | None = None
        self.verified_before: str | None = None
        self.notes = [*made.notes, *inherited_notes(chosen.choice.model)]

    def register(self, progress: Progress) -> None:
        """Hand the Modelfile over, and keep it beside the list of what we made."""
        from qwenops.ollama.from_modelfile import spec_from
        from qwenops.ollama.register import register
        from qwenops.setup.gc_models import note_modelfile

        done = register(
            spec_from(self.text, Path.cwd()),
            self.name,
            self.runtime,
            via=self.options.via,  # type: ignore[arg-type]
            copy=self.options.copy,
            replace=self.options.replace,
            dry_run=self.options.dry_run,
            progress=progress,
        )
        if not self.options.dry_run:
            touched_by_server(self.chosen.choice.model)
        self.registered = registered_entry(done, dry_run=self.options.dry_run)
        self.notes += done.notes
        if self.options.dry_run:
            return
        if done.changed or not self.modelfile.exists():
            write_whole(self.modelfile, self.text)
            note_modelfile(self.modelfile, self._model_key(), self.made.as_data())
        self.keep_recipe()

    def keep_recipe(self) -> None:
        """Note how it was made, so that it can be planned again on another day or card."""
        options = self.options
        paths, mmproj = self.asked
        keep(
            recipe_of(
                checked_name(self.name).short,
                paths,
                mmproj,
                options.task,
                self.chosen,
                self.machine,
                self.runtime,
                mode=options.mode,
                system=options.system,
                template=options.template,
                pins=options.pins,
            )
        )

    def verify(self, say: Say, progress: Progress) -> None:
        """Load the model and hold the plan against it, unless that was done before and nothing changed since."""
        from qwenops.ollama.verify import load_and_verify
        from qwenops.plan.ground import ground
        from qwenops.setup.registered import formula_beside

        unchanged = self.registered is not None and not self.registered["changed"]
        if unchanged and not self.options.again:
            with history.open() as kept:
                self.verified_before = _verified_before(kept, self._model_key(), self.chosen)
            if self.verified_before:
                return
        say(f"loading {self.name}: {_load_seconds(self.chosen)}")
        verified = load_and_verify(
            self.name,
            self.runtime,
            self.chosen.need,
            model=self.chosen.choice.model,
            also=formula_beside(self.chosen.choice.model, self.chosen.need, ground(self.machine, self.runtime)),
            alone=self.options.alone,
            progress=progress,
        )
        self.verified = verified.as_data()
        self.notes += verified.notes
        if verified.ok and self.chosen.choice.images:
            # Only an answered picture is proof of sight.
            self.sight = prove_sight(
                self.name,
                self.runtime,
                model=self.chosen.choice.model,
                need=self.chosen.need,
                verified=verified,
                most_tokens=self.chosen.choice.settings.image_tokens,
                say=say,
                progress=progress,
            )

    def result(self) -> Result:
        """Everything that happened, in the order in which it did."""
        failed = [part for part in (self.verified, self.sight) if part and not part["ok"]]
        data = {
            "name": self.name,
            "dry_run": self.options.dry_run,
            "plan": {
                **self.made.as_data(),
                "runtime": runtime_entry(self.runtime),
                "host": asdict(self.machine.host),
            },
            "modelfile": {"path": str(self.modelfile), "text": self.text},
            "brought": self.brought,
            "registered": self.registered,
            "verified": self.verified,
            "verified_before": self.verified_before,
            "sight": self.sight,
            "ok": not failed,
        }
        return Result("qwenops.up/1", data, notes=tuple(dict.fromkeys(self.notes)), exit_code=1 if failed else 0)

    def _model_key(self) -> str:
        from qwenops.model.read import model_key

        return model_key(self.chosen.choice.model)


def default_name(chosen: Judged, task: str) -> str:
    """A name that Ollama takes: the model's own and the task, 'qwen3-vl-8b-instruct-ocr'."""
    words = re.sub(r"[^a-z0-9.]+", "-", chosen.choice.model.name.lower()).strip("-.")
    if not words:
        raise BadInput(f"the model's name {chosen.choice.model.name!r} makes no name for Ollama", do="--name NAME")
    return f"{words[:60].strip('-.')}-{task}"


def _verified_before(kept: History, model_key: str, chosen: Judged) -> str | None:
    """When exactly this load went as planned, or None; also None where a picture was not seen after it."""
    from qwenops.memory.measured import settings_key

    wanted = settings_key(chosen.choice.settings)
    if failed_before(kept, model_key, chosen.choice.settings):
        return None
    rows = [row for row in kept.loads(model_key=model_key) if row.ok and row.settings_key == wanted]
    return rows[-1].created.isoformat(timespec="minutes") if rows else None


def _load_seconds(chosen: Judged) -> str:
    """A span for the load: a disk gives between 0.2 and 2 GiB a second."""
    size = chosen.choice.model.file_bytes / 1024**3
    return f"about {max(2, round(size / 2))} to {max(5, round(size * 5))} s"


def verify_result(
    name: str, *, alone: bool, look: bool | None, say: Say = lambda _: None, progress: Progress = silent
) -> Result:
    """Load a registered model and judge what is seen, against its own parameters ("qwenops.verify/1")."""
    from qwenops.machine.detect import detect
    from qwenops.ollama.verify import load_and_verify
    from qwenops.plan.ground import ground
    from qwenops.runtime.discover import discover, need_server
    from qwenops.setup.registered import formula_beside, need_of_registered

    runtime = discover(probe_devices=True)
    need_server(runtime)
    started = time.monotonic()
    machine = detect()
    model, need = need_of_registered(name, runtime, machine)
    also = formula_beside(model, need, ground(machine, runtime)) if model and need else ()
    verified = load_and_verify(name, runtime, need, model=model, alone=alone, also=also, progress=progress)
    sight = None
    sees = model is not None and (model.projector is not None or model.inline_vision)
    if verified.ok and (sees if look is None else look):
        sight = prove_sight(name, runtime, model=model, need=need, verified=verified, say=say, progress=progress)
    data = {
        **verified.as_data(),
        "sight": sight,
        "seconds": round(time.monotonic() - started, 1),
    }
    ok = verified.ok and (sight is None or sight["ok"])
    return Result("qwenops.verify/1", {**data, "ok": ok}, notes=verified.notes, exit_code=0 if ok else 1)
