"""Hold the closed form and gguf-parser-go against the same loads, and write docs/beside-gguf-parser.md.

Both read the header of the same file and say what the device will hold; neither sees the runtime. The truth is what the
llama-server that Ollama ships then allocates on the software GPU, by its log, for ghosts of published shapes: the
rows of beside/cases.py, and others drawn by chance; and what other people's logs show (beside/public_loads.py). Exits 1
where the closed form is further off than the other, or less than ten times closer on a vision or hybrid model.

    python -m scripts.compare_gguf_parser [--random 30] [--seed 11] [--no-write]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.encoder import encoder_warmup_bytes
from qwenops.memory.fit_log import parse_fit_log
from qwenops.memory.load_log import parse_load_log
from qwenops.memory.probe_run import listen
from qwenops.memory.shape import shape_of
from qwenops.memory.types import LoadSettings
from qwenops.model.read import read_model, read_projector
from qwenops.model.types import Model
from qwenops.units import MIB
from scripts.beside.cases import CASES, SOFTWARE_GPU, Case, drawn_case, held_in_one_piece
from scripts.beside.page import page
from scripts.beside.public_loads import PUBLIC_LOADS, PublicLoad
from scripts.beside.rows import Row
from tests.support.parts import layout
from tests.support.shapes import TEXT, VISION, Dims, write_text, write_vision

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "beside-gguf-parser.md"
RIVAL = ROOT / "scripts" / "beside" / "rival"
MODULE = "github.com/gpustack/gguf-parser-go"
LOAD_SECONDS = 240
PARTS = ("weights", "cache", "compute", "projector", "encoder")


@dataclass(frozen=True)
class Asked:
    """One question to both, before it is known what is true."""

    name: str
    model: Path | None
    projector: Path | None
    settings: LoadSettings
    device: Device | None
    flash: bool


# --- the truth


def loaded(
    model: Path, projector: Path | None, settings: LoadSettings, layers: int
) -> tuple[dict[str, float], bool] | None:
    """Load for real as Ollama would, and end it once the buffers stand: the device's parts, and flash attention.

    None where the runtime refuses the load, as it does what its device cannot hold in one piece.
    """
    flash = settings.flash_attn
    command = [str(layout().llama_server), "--model", str(model), "--offline", "--no-webui", "-ngl", str(layers)]
    command += ["--log-verbosity", "5", "--no-log-prefix", "--no-log-timestamps", "--flash-attn", flash]
    command += ["-c", str(settings.num_ctx * settings.parallel), "-np", str(settings.parallel)]
    command += ["-b", str(settings.batch), "-ub", str(settings.ubatch), "--no-jinja", "--chat-template", "chatml"]
    command += ["--cache-type-k", settings.kv_type_k, "--cache-type-v", settings.kv_type_v]
    command += ["--mmproj", str(projector)] if projector else ["--no-warmup"]
    environment = os.environ | {"GGML_VK_VISIBLE_DEVICES": "0", "LD_LIBRARY_PATH": str(layout().llama_server.parent)}
    weights_are_read = False

    def standing(line: str) -> bool:
        nonlocal weights_are_read
        weights_are_read = weights_are_read or "fitting params to free memory took" in line
        return weights_are_read and "sched_reserve: reserve took" in line

    with tempfile.TemporaryDirectory() as folder:
        text, done = listen([*command, "--host", f"{folder}/s.sock"], environment, standing, LOAD_SECONDS)
    lines = parse_load_log(text)
    if not done or not lines.complete:
        return None
    here = {
        "weights": lines.device_bytes("Vulkan0", "model") / MIB,
        "cache": lines.device_bytes("Vulkan0", "KV", "RS") / MIB,
        "compute": lines.device_bytes("Vulkan0", "compute") / MIB,
    }
    if projector:
        # llama-server makes the projector for a moment and says what its weights and its compute buffer took.
        here["projector"] = parse_fit_log(text).mmproj_shares["Vulkan0"] / MIB
    return here, lines.flash_attn is not False


# --- the two estimates


def ours(asked: Asked) -> dict[str, float]:
    """The closed form's parts, with the encoder at the size it has after a load."""
    projector = read_projector(asked.projector) if asked.projector else None
    parts = dict.fromkeys(PARTS, 0.0)
    if projector is not None:
        parts["projector"] = sum(t.size_bytes for t in projector.header.tensors)
        parts["encoder"] = encoder_warmup_bytes(projector, flash_attn=asked.flash, device=asked.device)
    if asked.model is not None:
        need = closed_form(read_model(asked.model), asked.settings, (asked.device,) if asked.device else ())
        held = need.devices[0] if asked.device else need.host
        parts["weights"] = held.weights_bytes
        parts["cache"] = held.kv_bytes + held.state_bytes
        parts["compute"] = held.compute_bytes
    return {part: size / MIB for part, size in parts.items()}


def theirs(questions: Sequence[Asked], program: Path) -> list[dict[str, float]]:
    """gguf-parser-go's parts."""
    loads = [
        {
            "model": str(q.model or ""),
            "projector": str(q.projector or ""),
            "num_ctx": q.settings.num_ctx,
            "parallel": q.settings.parallel,
            "batch": q.settings.batch,
            "ubatch": q.settings.ubatch,
            "kv_type_k": q.settings.kv_type_k,
            "kv_type_v": q.settings.kv_type_v,
            "flash_attn": q.flash,
            "gpu_layers": 1 << 32 if q.settings.gpu_layers == "all" else q.settings.gpu_layers,
            "host": q.device is None,
        }
        for q in questions
    ]
    done = subprocess.run([program], input=json.dumps(loads), capture_output=True, text=True, check=True, timeout=300)
    answers = json.loads(done.stdout)
    for question, answer in zip(questions, answers, strict=True):
        if answer.get("error"):
            raise SystemExit(f"gguf-parser-go on {question.name}: {answer['error']}")
        if answer["total"] != sum(answer[part] for part in PARTS):
            raise SystemExit(f"gguf-parser-go on {question.name}: its sum is not that of the parts")
    return [{p: a[p] / MIB for p in PARTS} for a in answers]


def built(folder: Path) -> tuple[Path, str]:
    """The other estimator, built, and its version."""
    program = folder / "rival"
    subprocess.run(["go", "build", "-o", program, "."], cwd=RIVAL, check=True)
    listed = subprocess.run(["go", "list", "-m", MODULE], cwd=RIVAL, capture_output=True, text=True, check=True)
    return program, listed.stdout.split()[1]


# --- rows


def kind_of(model: Model | None, projector: object) -> str:
    """Which of KINDS a load belongs to; a projector makes it vision."""
    if projector or model is None:
        return "vision"
    shape = shape_of(model)
    if any(shape.recurrent):
        return "hybrid"
    return "window" if any(shape.sliding) else "experts" if shape.experts else "dense"


def _cut(dims: Dims, whole: Dims) -> str:
    words = f", {dims.vocabulary} tokens" if dims.vocabulary != whole.vocabulary else ""
    return words + (f", {dims.experts} experts" if dims.experts != whole.experts else "")


def _in_words(settings: LoadSettings) -> str:
    said = [f"context {settings.num_ctx}{f' x {settings.parallel}' if settings.parallel > 1 else ''}"]
    if settings.ubatch != 512:
        said.append(f"batch {settings.ubatch}")
    if settings.kv_type_k != "f16":
        said.append(f"{settings.kv_type_k} cache")
    if settings.flash_attn == "off":
        said.append("no flash attention")
    if settings.gpu_layers != "all":
        said.append(f"{settings.gpu_layers} layers")
    return ", ".join(said)


def loaded_rows(cases: Sequence[tuple[str, Case]], folder: Path, program: Path) -> Iterator[Row]:
    """Ask both, load, compare; one case after the other."""
    for origin, (shape, quant, changed, vision) in cases:
        settings = LoadSettings(**changed)
        dims = held_in_one_piece(shape, quant)
        model = write_text(folder / f"{shape}-{quant}.gguf", dims, quant)
        projector = write_vision(folder / f"mmproj-{vision}.gguf", VISION[vision]) if vision else None
        layers = dims.layers + 1 if settings.gpu_layers == "all" else int(settings.gpu_layers)
        seen = loaded(model, projector, settings, layers)
        if seen is None:
            print(f"the runtime does not load {shape} {quant}, {_in_words(settings)}", file=sys.stderr)
            continue
        truth, flash = seen
        asked = Asked(shape, model, projector, settings, SOFTWARE_GPU, flash)
        said = both(asked, program)
        if projector:
            for one in said:
                one["projector"] += one.pop("encoder")
        name = f"{shape} {quant}{_cut(dims, TEXT[shape])}{' with its projector' if vision else ''}"
        kind = kind_of(read_model(model), projector)
        row = Row(name, kind, _in_words(settings), truth, said[0], said[1], origin)
        _report(row)
        yield row


def public_rows(loads: Iterable[PublicLoad], folder: Path, program: Path) -> Iterator[Row]:
    """The same for loads that other people ran."""
    for load in loads:
        model = projector = None
        if load.shape:
            model = write_text(folder / f"{load.shape}-{load.quant}.gguf", TEXT[load.shape], load.quant)
        if load.vision:
            projector = write_vision(folder / f"{load.vision}-{load.quant}.gguf", VISION[load.vision], load.quant)
        asked = Asked(load.name, model, projector, load.settings, load.device, load.settings.flash_attn != "off")
        said = both(asked, program)
        kind = kind_of(read_model(model) if model else None, projector)
        how = f"{load.runtime}; {_in_words(load.settings)}" if model else load.runtime
        row = Row(load.name, kind, how, load.mib, said[0], said[1], load.source, other_build=True)
        _report(row)
        yield row


def _report(row: Row) -> None:
    errors = f"{row.off(row.ours):+9.2f} {row.off(row.theirs):+9.2f}"
    print(f"{errors}  of {row.total:8.2f}  {row.name}, {row.how}", file=sys.stderr, flush=True)


def both(asked: Asked, program: Path) -> tuple[dict[str, float], dict[str, float]]:
    """What both say of one load."""
    (other,) = theirs([asked], program)
    return ours(asked), other


# --- all of it


def main() -> int:
    """Build the other one, load, compare, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=30, metavar="N", help="loads drawn by chance")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", default="", help="run only cases of shapes whose name contains this")
    parser.add_argument("--no-write", action="store_true", help="do not write the page")
    asked = parser.parse_args()
    dice = random.Random(asked.seed)
    drawn = [("drawn", drawn_case(dice)) for _ in range(asked.random)]
    cases = [c for c in (*(("listed", c) for c in CASES), *drawn) if asked.only in c[1][0]]
    with tempfile.TemporaryDirectory(prefix="qwenops-rival-") as folder:
        program, version = built(Path(folder))
        public = list(public_rows(PUBLIC_LOADS, Path(folder), program))
        rows = list(loaded_rows(cases, Path(folder), program))
    broken = [r for r in (*rows, *public) if r.fault]
    print(*(f"{r.name}, {r.how}: {r.fault}" for r in broken), sep="\n")
    if not asked.no_write and not asked.only:
        PAGE.write_text(page(rows, public, version, asked.seed), "utf-8")
    return 1 if broken or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
