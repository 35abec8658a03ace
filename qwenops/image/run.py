"""Making pictures: the request for the child, the equal sd-cli command, and files that are whole or not there."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from qwenops import worker
from qwenops.errors import BadInput, CheckFailed, QwenopsError
from qwenops.image.lora import Lora
from qwenops.image.memory import Job, Way
from qwenops.image.parts import Part, Role, needs_file
from qwenops.image.settings import Settings

LONGEST_PROMPT: Final = 20_000
"""Characters; 1024 tokens are a fifth of it at most."""
LIMIT_S: Final = 24 * 3600.0
MOST_SEED: Final = 2**31 - 1

_PIECE: Final = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Wish:
    """What is to be painted: words, settings, and what goes in besides them. `seed` counts up over a batch."""

    prompt: str
    settings: Settings
    parts: Mapping[Role, Part]
    way: Way
    seed: int
    batch: int = 1
    references: tuple[Path, ...] = ()
    start: Path | None = None
    strength: float = 0.75
    loras: tuple[Lora, ...] = ()
    threads: int = 1
    flash: bool = True
    max_vram_gib: float = 0.0

    @property
    def negative_prompt(self) -> str:
        """The negative prompt; empty where the maker has none."""
        return self.settings.negative_prompt or ""

    @property
    def cfg_scale(self) -> float:
        """Guidance; without a published value there is none."""
        return self.settings.true_cfg_scale or 1.0


@dataclass
class Painted:
    """What came of it: pixels by index as (width, height, channels, bytes), and what was measured."""

    pictures: dict[int, tuple[int, int, int, bytes]] = field(default_factory=dict)
    buffers: list[Mapping[str, Any]] = field(default_factory=list)
    answer: Mapping[str, Any] = field(default_factory=dict)


def check_prompt(prompt: str) -> tuple[str, ...]:
    """What to know of a prompt as stable-diffusion.cpp reads it. Raises BadInput for one that cannot be meant."""
    if not prompt.strip():
        raise BadInput("the prompt is empty", do="--prompt 'A red fox in the snow'")
    if len(prompt) > LONGEST_PROMPT:
        raise BadInput(
            f"the prompt has {len(prompt)} characters; the models read at most 1024 tokens", do="make it shorter"
        )
    if found := _CONTROL.search(prompt):
        raise BadInput(f"the prompt has a control character (code {ord(found[0])})", do="write it without")
    notes = []
    if re.search(r"[\[\]]|\bBREAK\b", prompt):
        notes.append("stable-diffusion.cpp takes [ ] and BREAK for weights and does not show them to the model")
    return tuple(notes)


def literal(prompt: str) -> str:
    """The prompt such that its parentheses reach the model: stable-diffusion.cpp takes bare ones for weights."""
    return prompt.replace("(", "\\(")


def estimated_tokens(text: str) -> int:
    """About how many tokens a prompt takes, without a tokenizer: a word of up to eight letters is one."""
    count = 0
    for piece in _PIECE.findall(text):
        wide = sum(1 for c in piece if ord(c) > 0x2E7F)
        count += round(0.7 * wide + 0.49) if wide else -(-len(piece) // 8)
    return max(1, count)


def job_for(wish: Wish, reference_sizes: Sequence[tuple[int, int]]) -> Job:
    """What the plan is asked for."""
    size = wish.settings.size
    return Job(
        size.width,
        size.height,
        estimated_tokens(wish.prompt),
        estimated_tokens(wish.negative_prompt) if wish.cfg_scale > 1 else None,
        tuple(reference_sizes),
        wish.start is not None,
        wish.flash,
        bool(wish.settings.model.value("zero_cond_t")),
        sum(lora.file_bytes for lora in wish.loras),
    )


def request_of(wish: Wish) -> dict[str, Any]:
    """What the child is told."""
    settings = wish.settings
    return {
        "files": {role: str(needs_file(part)) for role, part in wish.parts.items()},
        "prompt": literal(wish.prompt),
        "negative_prompt": literal(wish.negative_prompt),
        "width": settings.size.width,
        "height": settings.size.height,
        "steps": settings.steps,
        "cfg_scale": wish.cfg_scale,
        "flow_shift": settings.flow_shift,
        "sampler": settings.sampler,
        "seed": wish.seed,
        "batch": wish.batch,
        "references": [str(path) for path in wish.references],
        "start": None if wish.start is None else str(wish.start),
        "strength": wish.strength,
        "loras": [{"file": str(lora.path), "weight": lora.weight} for lora in wish.loras],
        "threads": wish.threads,
        "flash": wish.flash,
        "offload": wish.way.placement in ("offload", "stream"),
        "encoder_on_cpu": wish.way.encoder_on_cpu,
        "vae_tiling": wish.way.vae_tiling,
        "zero_cond": bool(settings.model.value("zero_cond_t")),
        "max_vram_gib": wish.max_vram_gib if wish.way.placement == "stream" else 0.0,
    }


def sd_cli(wish: Wish, out: Path) -> str:
    """The command of stable-diffusion.cpp's own program that makes the same picture."""
    asked = request_of(wish)
    files = asked["files"]
    words = ["sd-cli", "--diffusion-model", files["diffusion"], "--llm", files["encoder"]]
    if "projector" in files:
        words += ["--llm_vision", files["projector"]]
    prompt = asked["prompt"] + "".join(f"<lora:{lora.path.stem}:{lora.weight:g}>" for lora in wish.loras)
    words += ["--vae", files["vae"], "-p", prompt]
    if wish.negative_prompt:
        words += ["-n", asked["negative_prompt"]]
    words += ["-W", str(asked["width"]), "-H", str(asked["height"]), "--steps", str(asked["steps"])]
    words += ["--cfg-scale", f"{wish.cfg_scale:g}", "--sampling-method", asked["sampler"]]
    words += ["--flow-shift", f"{asked['flow_shift']:g}", "-s", str(wish.seed), "-b", str(wish.batch)]
    words += ["-t", str(wish.threads), *(["--diffusion-fa"] if wish.flash else []), *wish.way.flags]
    if asked["max_vram_gib"]:
        words += ["--max-vram", f"{asked['max_vram_gib']:g}"]
    for path in asked["references"]:
        words += ["-r", path]
    if asked["start"]:
        words += ["-i", asked["start"], "--strength", f"{wish.strength:g}"]
    if wish.loras:
        words += ["--lora-model-dir", str(wish.loras[0].path.parent)]
    if asked["zero_cond"]:
        words.append("--qwen-image-zero-cond-t")
    return shlex.join([*words, "-o", str(out)])


def paint(wish: Wish, on_event: OnEvent | None = None) -> Painted:
    """Make the pictures in a child; nothing is written. Raises what the child raised."""
    painted = Painted()

    def heard(event: Mapping[str, Any]) -> None:
        if event["event"] == "picture":
            pixels = base64.b64decode(event["pixels"])
            painted.pictures[event["index"]] = (event["width"], event["height"], event["channels"], pixels)
        elif event["event"] == "buffer":
            painted.buffers.append(event)
        if on_event is not None:
            on_event(event)

    painted.answer = worker.run("qwenops.image.child:paint", request_of(wish), limit_s=LIMIT_S, on_event=heard)
    if len(painted.pictures) != wish.batch:
        raise CheckFailed(f"{len(painted.pictures)} of {wish.batch} pictures came back")
    return painted


# --- files ---------------------------------------------------------------------------------------


def out_paths(out: Path, seed: int, batch: int, *, force: bool = False) -> tuple[Path, ...]:
    """Where the pictures go: the file that was named, or with its seed in the name for each of a batch.

    Raises BadInput where something is there already, or the folder is not.
    """
    out = out.expanduser()
    if out.suffix.lower() != ".png":
        raise BadInput(f"{out} is not a PNG", do=f"--out {out.with_suffix('.png')}")
    if not out.parent.is_dir():
        raise BadInput(f"there is no folder {out.parent}", do=f"mkdir -p {shlex.quote(str(out.parent))}")
    paths = (out,) if batch == 1 else tuple(out.with_stem(f"{out.stem}-{seed + i}") for i in range(batch))
    for path in paths:
        if path.exists() and not force:
            raise BadInput(f"{path} is there already", do="another --out, or --force to write over it")
    return paths


def write_png(path: Path, picture: tuple[int, int, int, bytes], text: Mapping[str, Any], summary: str) -> None:
    """Write a picture with its settings inside; whole or not at all.

    Chunks: "qwenops" (iTXt, JSON) with everything, "parameters" with one line as other programs read it. Raises
    QwenopsError where the disk is full or the folder may not be written.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    width, height, channels, pixels = picture
    image = Image.frombytes({1: "L", 3: "RGB", 4: "RGBA"}[channels], (width, height), pixels)
    info = PngInfo()
    info.add_itxt("qwenops", json.dumps(text, ensure_ascii=False))
    info.add_itxt("parameters", summary)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            image.save(file, format="PNG", pnginfo=info)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise QwenopsError(
            f"the picture could not be written to {path}: {error.strerror or error}; nothing of it is left there",
            do="make room, or take another --out, and run it again with the same --seed",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_png(path: Path) -> dict[str, Any]:
    """The settings inside a picture that qwenops made. Raises BadInput where there are none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get("qwenops")
    except (OSError, UnidentifiedImageError) as error:
        raise BadInput(f"{path} cannot be read as a picture ({error})", do="give a PNG") from None
    if text is None:
        raise BadInput(f"{path} was not made by qwenops: it holds no settings", do="give one that was")
    found: dict[str, Any] = json.loads(text)
    return found
