"""Makes modelfiles/ again from the planner and the templates. With --check it only says what is stale, and exits 1.

    python -m scripts.render_modelfiles [--check]

For each model of the catalogue and each card of a common size: the best published quant that the planner puts onto the
card whole, with its arithmetic. Models come from their published dimensions, so nothing is downloaded. `qwenops render`
plans one for the card that is here and the files that are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from qwenops.machine.types import Machine
from qwenops.model.catalog import Entry, Repo, catalog
from qwenops.modelfile.families import chat_format
from qwenops.modelfile.render import render
from qwenops.plan.best_quant import Published
from qwenops.plan.fit import DEFAULT_HEADROOM_BYTES
from qwenops.plan.ground import ground
from qwenops.plan.profile import profiles
from qwenops.plan.scene import make_scene
from qwenops.plan.search import first_choice, widen
from qwenops.plan.types import Judged, Wish
from qwenops.setup.answers import look_around
from qwenops.setup.drawn import published_variants
from qwenops.setup.modelfiles import context_of
from qwenops.units import MIB

FOLDER = Path(__file__).resolve().parent.parent / "modelfiles"
CARDS: Final = {6: "RTX 3050 6GB", 8: "RTX 4060", 12: "RTX 3060 12GB", 16: "RTX 4060 Ti 16GB", 24: "RTX 3090"}
USUAL_TASKS: Final = {"instruct": ("chat", "ocr"), "both": ("chat", "ocr"), "thinking": ("thinking",)}
SHOWN: Final = ("qwen3-vl-8b-instruct", 12)
"""The one model and card with every task that suits it."""
PROJECTOR_TYPE: Final = "F16"


@dataclass(frozen=True)
class Example:
    """One Modelfile: a model for a task on a card, as the planner chose it, and the repository that has its files."""

    entry: Entry
    task: str
    card_gib: int
    judged: Judged
    repo: Repo

    @property
    def file_name(self) -> str:
        """Below the folder of the card."""
        return f"{self.card_gib}gib/{self.entry.id}-{self.task}.Modelfile"


@cache
def examples() -> tuple[Example, ...]:
    """Every Modelfile there is to be, by card, then as the catalogue has the models."""
    return tuple(e for gib in CARDS for entry in catalog().values() for e in _of(entry, gib))


def _of(entry: Entry, gib: int) -> Iterator[Example]:
    if entry.own or entry.shape is None:
        return
    tasks = USUAL_TASKS[entry.mode]
    if (entry.id, gib) == SHOWN:
        tasks = tuple(name for name, p in profiles().items() if p.mode is None)
    for task in tasks:
        judged = _planned(entry, task, gib)
        repo = judged and _repo_with(entry, judged.choice.model.quant)
        if judged and repo:
            yield Example(entry, task, gib, judged, repo)


def _planned(entry: Entry, task: str, gib: int) -> Judged | None:
    """The best published quant that the card holds whole, asked of the formula."""
    base = ground(_machine(gib), None)
    for variant in _variants(entry.id):
        if variant.file_bytes > base.free_bytes:
            continue
        wish = Wish(headroom_bytes=DEFAULT_HEADROOM_BYTES + variant.more_bytes)
        scene = make_scene(task, base, wish, None)
        judged = widen(first_choice(variant.model, scene), scene)
        if judged.fits == "yes":
            return judged
    return None


@cache
def _machine(gib: int) -> Machine:
    return look_around(CARDS[gib], probe_devices=False)[0]


@cache
def _variants(id_: str) -> tuple[Published, ...]:
    return tuple(published_variants(catalog()[id_]))


def _repo_with(entry: Entry, quant: str) -> Repo | None:
    """The repository to take a quant and its projector from: one whose names were seen, before others."""
    for repo in sorted(entry.repos, key=lambda r: not r.sure):
        if (not repo.quants or quant in repo.quants) and repo.projector and _projector_type(repo):
            return repo
    return None


def _projector_type(repo: Repo) -> str | None:
    return next((t for t in repo.projector_types if t.upper() == PROJECTOR_TYPE), None)


def text_of(example: Example) -> str:
    """The Modelfile of one example."""
    choice, repo, entry = example.judged.choice, example.repo, example.entry
    context = context_of(choice, example.task, head=_summary(example))
    projector = str(repo.projector).format(type=_projector_type(repo))
    return render(
        example.task,
        replace(
            context,
            name=entry.title,
            model_paths=(Path(repo.model.format(quant=choice.model.quant)),),
            projector_path=Path(projector),
            format=chat_format(context.family, context.mode),
        ),
    )


def _summary(example: Example) -> tuple[str, ...]:
    need, device = example.judged.need, example.judged.need.devices[0]
    parts = {
        "weights": device.weights_bytes,
        "KV": device.kv_bytes,
        "state": device.state_bytes,
        "compute": device.compute_bytes,
        "projector": device.projector_bytes,
        "picture": device.encoder_bytes,
        "driver": device.overhead_bytes,
    }
    summed = " + ".join(f"{name} {size / MIB:.0f}" for name, size in parts.items() if size)
    settings = [f"The Ollama server must run with {n}={v}." for n, v in example.judged.choice.server_settings]
    return (
        f"For a card of {example.card_gib} GiB ({CARDS[example.card_gib]}): {summed} = {device.total_bytes / MIB:.0f} "
        f"of {device.free_bytes / MIB:.0f} MiB free, by formula (up to {need.band.high / MIB:.0f}).",
        *settings,
        f"Put both files of huggingface.co/{example.repo.repo} beside it. qwenops render makes one for your card.",
    )


def index() -> str:
    """The table of what there is: quant and context by model and card, for the first task of each model."""
    found: dict[str, dict[int, Example]] = {id_: {} for id_ in catalog()}
    for e in examples():
        found[e.entry.id].setdefault(e.card_gib, e)
    lines = [
        "# Ready Modelfiles",
        "",
        "Made by `python -m scripts.render_modelfiles`; do not edit. Each cell has the best published quant that the",
        "card holds whole, and its context, for the first of the model's tasks. Every file says its arithmetic and",
        "where its two downloads are.",
        "",
        "| model | " + " | ".join(f"{gib} GiB" for gib in CARDS) + " |",
        "|---|" + "---|" * len(CARDS),
    ]
    for id_, by_card in ((i, cards) for i, cards in found.items() if cards):
        cells = [_cell(by_card[gib]) if gib in by_card else "" for gib in CARDS]
        lines.append(f"| {id_} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(e: Example) -> str:
    return f"[{e.judged.choice.model.quant}, {e.judged.choice.settings.num_ctx}]({e.file_name})"


def wanted() -> dict[str, str]:
    """Every file of the folder, by its name below it."""
    return {"README.md": index(), **{e.file_name: text_of(e) for e in examples()}}


def stale(folder: Path, files: dict[str, str] | None = None) -> list[str]:
    """What in the folder is not as it would be made, by name."""
    files = wanted() if files is None else files
    there = {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in folder.rglob("*") if p.is_file()}
    return sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))


def main(arguments: list[str] | None = None) -> int:
    """Make what is stale, or name it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a file is stale")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    asked = parser.parse_args(arguments)
    files = wanted()
    changed = stale(asked.folder, files)
    if asked.check:
        for name in changed:
            print(f"stale: {asked.folder / name}")
        if changed:
            print("python -m scripts.render_modelfiles makes them again")
        return 1 if changed else 0
    for name in changed:
        path = asked.folder / name
        if name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name], encoding="utf-8")
        else:
            path.unlink()
        print(f"{'made' if name in files else 'removed'}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
