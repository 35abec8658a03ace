"""What is kept of a run: the settings inside the picture, and each stage's buffers beside the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from qwenops.image.library import PACKAGE
from qwenops.image.memory import Need
from qwenops.image.run import Painted, Wish, request_of
from qwenops.units import human

_ROLE_OF: Final = {"qwen2.5vl": "encoder", "qwen_image": "diffusion", "wan_vae": "vae"}
_NEAR: Final = 0.05


def settings_text(wish: Wish, seed: int, digests: Mapping[str, str]) -> dict[str, Any]:
    """Everything that made a picture, as it is kept inside of it."""
    asked = request_of(wish)
    return {
        "schema": "qwenops.picture/1",
        "model": wish.settings.model.id,
        "prompt": wish.prompt,
        "negative_prompt": wish.negative_prompt,
        "width": asked["width"],
        "height": asked["height"],
        "steps": asked["steps"],
        "true_cfg_scale": wish.cfg_scale,
        "flow_shift": asked["flow_shift"],
        "sampler": asked["sampler"],
        "seed": seed,
        "strength": wish.strength if wish.start else None,
        "references": [path.name for path in wish.references],
        "start": wish.start.name if wish.start else None,
        "loras": [
            {"file": lora.path.name, "weight": lora.weight, "sha256": digests.get(lora.path.name)}
            for lora in wish.loras
        ],
        "flash_attention": wish.flash,
        "vae_tiling": wish.way.vae_tiling,
        "parts": {
            role: {"file": part.name, "bytes": part.file_bytes, "sha256": digests.get(role)}
            for role, part in wish.parts.items()
        },
    }


def summary(wish: Wish, seed: int) -> str:
    """Settings as one block of text, as many programs read it from a PNG."""
    asked = request_of(wish)
    negative = f"\nNegative prompt: {wish.negative_prompt}" if wish.negative_prompt.strip() else ""
    return (
        f"{wish.prompt}{negative}\nSteps: {asked['steps']}, CFG scale: {wish.cfg_scale:g}, Seed: {seed}, "
        f"Size: {asked['width']}x{asked['height']}, Sampler: {asked['sampler']}, Model: {wish.parts['diffusion'].name}"
    )


def engine_of(painted: Painted) -> str:
    return f"{PACKAGE} {painted.answer['version']}"


def beside_plan(asked: Need, painted: Painted) -> list[dict[str, Any]]:
    """Each stage's buffers as planned and as the library allocated them, in bytes."""
    weights = {_ROLE_OF.get(b["whose"]): b["bytes"] for b in painted.buffers if b["what"] == "weights"}
    seen: dict[str, int] = {}
    for buffer in painted.buffers:
        if buffer["what"] != "compute":
            continue
        name = _stage_of(buffer)
        seen[name] = max(seen.get(name, 0), buffer["bytes"])
    rows = []
    for stage in asked.stages:
        role = {"look": "encoder", "encode": "encoder", "step": "diffusion"}.get(stage.name, "vae")
        rows.append(
            {
                "stage": stage.name,
                "planned_weights_bytes": stage.weights_bytes,
                "weights_bytes": weights.get(role),
                "planned_compute_bytes": stage.compute_bytes,
                "compute_bytes": seen.get(stage.name),
            }
        )
    return rows


def _stage_of(buffer: Mapping[str, Any]) -> str:
    role = _ROLE_OF.get(buffer["whose"])
    if role == "encoder":
        return "encode"
    if role == "diffusion":
        return "step"
    return "decode" if buffer["stage"] == "decode" else "references"


def off_plan(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Where the plan was off by more than it may be."""
    notes = []
    for row in rows:
        planned = row["planned_weights_bytes"] + row["planned_compute_bytes"]
        if row["weights_bytes"] is None or row["compute_bytes"] is None:
            continue
        seen = row["weights_bytes"] + row["compute_bytes"]
        if abs(planned - seen) > _NEAR * seen:
            notes.append(f"{row['stage']}: planned {human(planned)}, allocated {human(seen)}")
    return tuple(notes)
