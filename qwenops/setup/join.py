"""Split models for Ollama, which runs a model from one file: refused with what would do, or joined with --join.

A manifest of Ollama's cannot hold shards, and a link cannot merge them. By the API the server merges them itself, from
uploaded copies. Joined here, each shard of the hub is fetched, put into the one file and removed, so that the weights
are on the disk once when all is done, and once and a shard meanwhile. Shards that were here before stay.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qwenops.errors import BadInput, PartMissing
from qwenops.model.join import Joined, append, is_whole, joined, joined_name, shards_in
from qwenops.model.types import Model
from qwenops.ollama.types import Progress
from qwenops.paths import data_dir
from qwenops.plan.types import Plan
from qwenops.units import MIB, human

if TYPE_CHECKING:
    from qwenops.model.hub_cache import Piece

KEPT_FREE_BYTES: Final = 512 * MIB


@dataclass(frozen=True)
class Cost:
    """What joining takes. Sizes in bytes; `stays_bytes` are shards that were here before and are not removed."""

    target: Path
    joined_bytes: int
    left_bytes: int
    meanwhile_bytes: int
    stays_bytes: int

    def __str__(self) -> str:
        said = f"{human(self.joined_bytes)} on the disk"
        if self.stays_bytes:
            return f"{said}, beside the {human(self.stays_bytes)} of shards that you have already"
        return f"{said}, {human(self.joined_bytes + self.meanwhile_bytes)} while it works"


def is_split(made: Plan) -> bool:
    """Whether the chosen model comes in several files."""
    return made.chosen is not None and len(made.chosen.choice.model.shards) > 1


def target_of(made: Plan) -> Path:
    """Where the one file of the chosen model is or will be."""
    assert made.chosen is not None
    return _target(made.chosen.choice.model)


def joined_before(made: Plan) -> bool:
    """Whether the one file that the chosen model's shards make is here."""
    assert made.chosen is not None
    model = made.chosen.choice.model
    return is_whole(_target(model), joined(model))


def refuse_split(made: Plan, pieces: Sequence[Piece]) -> None:
    """Raise BadInput for a split model that nobody asked to join: with a quant in one file, and what each way takes."""
    assert made.chosen is not None
    model = made.chosen.choice.model
    one_file = next((o.judged.choice.model for o in made.runners_up if len(o.judged.choice.model.shards) == 1), None)
    other = (
        f"--quant {one_file.quant}     (fits, and is one file of {human(one_file.file_bytes)})"
        if one_file
        else "take a repository that has the model in one file"
    )
    raise BadInput(
        f"{model.source} comes in {len(model.shards)} shards: Ollama runs a model from one file, so it must merge "
        "them, and a link cannot do that",
        do=(
            other,
            f"or add --join ({cost_of(model, pieces)})",
            f"or add --via api ({human(2 * model.file_bytes)} in the server's store while it works)",
        ),
    )


def cost_of(model: Model, pieces: Sequence[Piece]) -> Cost:
    """What joining the shards of a model will take on the disk, with what an earlier try left counted."""
    made, target = joined(model), _target(model)
    shards = [p for p in pieces if not p.is_projector]
    left = 0 if is_whole(target, made) else made.file_bytes - _size(_partial(target))
    theirs = [p for p in shards if _is_theirs(p)]
    ours = [p.remote.size_bytes or 0 for p in shards if p not in theirs]
    stays = sum(p.remote.size_bytes or 0 for p in theirs) if shards else model.file_bytes
    return Cost(target, made.file_bytes, max(left, 0), max(ours, default=0), stays)


def join_chosen(
    made: Plan,
    pieces: Sequence[Piece],
    *,
    name: str,
    dry_run: bool,
    offline: bool,
    say: Callable[[str], None],
    progress: Progress,
) -> tuple[Plan, dict[str, Any]]:
    """The plan with its chosen model in one file, and what was fetched for it, noted as brought for a model's name.

    Stopped at any point it goes on with the first shard that is not in the file. Raises PartMissing where the disk has
    no room or the hub is out of reach, CheckFailed where a shard is not what it was.
    """
    from qwenops.model.read import read_model
    from qwenops.ollama.digest import digest_file
    from qwenops.setup.gc_models import note_download

    assert made.chosen is not None
    model = made.chosen.choice.model
    cost = cost_of(model, pieces)
    shards = [p for p in pieces if not p.is_projector]
    fetched = cost.left_bytes if shards else 0
    entry = {"bytes": fetched, "fetched": False, "into": str(cost.target.parent)}
    if dry_run:
        say(f"would join {len(model.shards)} shards into {cost.target}: {cost}")
        return _with_model(made, replace(model, shards=(cost.target,))), entry
    eyes = _projector(model, pieces, offline=offline, progress=progress)
    if cost.left_bytes:
        _check_disk(cost)
        say(f"joining {len(model.shards)} shards into {cost.target}: {cost}")
        cost.target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(cost.target):
            _join(model, joined(model), cost.target, shards, offline=offline, progress=progress)
    if shards:
        digest = digest_file(cost.target, progress=progress)
        note_download(model.source, cost.target, digest.sha256, name, fetched=fetched > 0)
    here = read_model(cost.target, eyes)
    here = replace(here, name=model.name, quant=model.quant)
    return _with_model(made, here), {**entry, "fetched": fetched > 0}


def _join(
    model: Model, made: Joined, target: Path, pieces: Sequence[Piece], *, offline: bool, progress: Progress
) -> None:
    from qwenops.model.download import fetch

    partial = _partial(target)
    if is_whole(target, made):
        return
    for index in range(shards_in(partial, made), len(made.starts)):
        if not pieces:
            append(partial, made, index, model.shards[index], progress)
            continue
        theirs = _is_theirs(pieces[index])
        shard = fetch(pieces[index], offline=offline, progress=progress)
        append(partial, made, index, shard, progress)
        if not theirs:
            shard.unlink()
    partial.replace(target)


def _projector(model: Model, pieces: Sequence[Piece], *, offline: bool, progress: Progress) -> Path | None:
    """The projector's file, fetched where it is away."""
    from qwenops.model.download import fetch
    from qwenops.model.hub_cache import linked

    away = next((p for p in pieces if p.is_projector), None)
    if away is None:
        return model.projector.path if model.projector else None
    fetch(away, offline=offline, progress=progress)
    return linked(away, offline=offline)


def _with_model(made: Plan, model: Model) -> Plan:
    assert made.chosen is not None
    return replace(made, chosen=replace(made.chosen, choice=replace(made.chosen.choice, model=model)))


def _target(model: Model) -> Path:
    """Beside shards that are here; for those of the hub in a folder of ours that is laid out as the hub's cache is, so
    that gc finds it as it finds a download."""
    if model.remote is None:
        return model.path.with_name(joined_name(model))
    repo = re.sub(r"[^A-Za-z0-9._-]+", "--", model.remote.removeprefix("hf:").split(":")[0])
    return data_dir() / "joined" / repo / "blobs" / joined_name(model)


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.joining")


def _is_theirs(piece: Piece) -> bool:
    """Whether a shard has its name in the library's cache: what was fetched to be joined never gets one."""
    from qwenops.model.hub_cache import named_in_cache

    return named_in_cache(piece) is not None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _check_disk(cost: Cost) -> None:
    folder = next(p for p in cost.target.parents if p.exists())
    free = shutil.disk_usage(folder).free
    wanted = cost.left_bytes + cost.meanwhile_bytes
    if free < wanted + KEPT_FREE_BYTES:
        raise PartMissing(
            f"{cost.target.name} will take {human(cost.left_bytes)} more in {folder}, and a shard of "
            f"{human(cost.meanwhile_bytes)} while it is joined; {human(free)} are free",
            do=("make room there", "or take a smaller quant: --quant NAME"),
        )


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time joins a file. Raises PartMissing where another one is at it."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PartMissing(f"another qwenops joins {target.name} at this moment", do="wait until it is done") from None
    try:
        yield
    finally:
        lock.release()
        Path(f"{target}.lock").unlink(missing_ok=True)
