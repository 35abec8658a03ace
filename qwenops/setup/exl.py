"""EXL2 and EXL3 as results: what one needs, what a card would hold of it, its config.yml, and it beside GGUF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops import __version__
from qwenops.errors import BadInput
from qwenops.machine.types import Device, Machine
from qwenops.memory.exl import CHUNK_TOKENS, Estimator, ExlSettings, entry, estimator
from qwenops.memory.exl_cache import USUAL_BITS, CacheBits, parse_bits
from qwenops.model.exl import ExlModel, is_exl, read_exl
from qwenops.plan.exl import ExlChoice, ExlPlan, judge, plan_exl, usable
from qwenops.result import Result
from qwenops.setup.given import Given
from qwenops.units import human, pad, parse_size

if TYPE_CHECKING:
    from qwenops.memory.types import Need
    from qwenops.model.types import Model

NOT_MEASURED = "not measured: weights and cache follow from the headers, compute and overhead are estimated"
_STEP_TOKENS = 256


def exl_need_result(
    given: Given,
    *,
    gpu: str | None,
    ctx: int = 4096,
    cache_bits: str | None = None,
    ubatch: int | None = None,
    image_tokens: int = 4096,
    offline: bool = False,
) -> Result:
    """What one model needs on one card ("qwenops.exl-need/1")."""
    estimate = estimator(read_exl(given, offline=offline))
    model = estimate.model
    machine, device = _look(gpu)
    bits = parse_bits(cache_bits or "16", model.format)
    need = estimate.need(ExlSettings(ctx, bits, _chunk(ubatch), image_tokens))
    why = _refusal(model, device)
    data = {
        "model": entry(model, estimate),
        "need": need.as_data(),
        "device": asdict(device) if device else None,
        "fits": "no" if why or device is None else judge(need, device, 0),
        "refused": why,
    }
    return Result("qwenops.exl-need/1", data, notes=(*machine.notes, *_notes(estimate, machine, device, image_tokens)))


def exl_plan_result(given: Sequence[Given], **wish: Any) -> Result:
    """What a card would hold ("qwenops.exl-plan/1"); exit code 1 where nothing is safe."""
    plan, data, notes = _planned(given, **wish)
    return Result("qwenops.exl-plan/1", data, notes=notes, exit_code=0 if plan and plan.chosen else 1)


def tabby_result(given: Sequence[Given], *, output: Path | None, **wish: Any) -> Result:
    """TabbyAPI's config.yml of a plan ("qwenops.modelfile/1"), or the plan where nothing is safe."""
    from qwenops.setup.modelfiles import write_whole

    plan, data, notes = _planned(given, **wish)
    if plan is None or plan.chosen is None:
        return Result("qwenops.exl-plan/1", data, notes=notes, exit_code=1)
    text = _config_text(plan.chosen, plan.device)
    if output is not None:
        write_whole(output, text)
    data = {"text": text, "written": str(output) if output else None, "plan": data}
    return Result("qwenops.modelfile/1", data, notes=notes)


def beside_result(
    given: tuple[Given, ...],
    beside: Sequence[Given],
    mmproj: Given | None,
    *,
    gpu: str | None,
    cache_bits: str | None = None,
    **wish: Any,
) -> Result:
    """The GGUF plan and EXL models in one table ("qwenops.beside/1"): what each engine would fit on this card.

    Of the GGUF variants the chosen one and, for each EXL model, the one nearest in size are shown.
    """
    from qwenops.setup.answers import make_plan

    exl_wish = {k: wish.get(k) for k in ("ctx", "image_tokens", "images", "headroom", "ubatch")}
    exl_wish["cache_bits"] = cache_bits
    plan, exl_data, exl_notes = _planned(beside, gpu=gpu, task=wish["task"], offline=wish["offline"], **exl_wish)
    made, machine, _ = make_plan(given, mmproj, gpu=gpu, drawn=True, **wish)
    chosen = made.chosen.choice.model if made.chosen else None
    sizes = [m["file_bytes"] for m in exl_data["models"]]
    rows = _gguf_rows(given, mmproj, machine, chosen, sizes, made, wish)
    rows += [_beside_row(row) for row in exl_data["choices"]]
    data = {
        "rows": rows,
        "refused": exl_data["refused"],
        "device": exl_data["device"],
        "floor": exl_data["floor"],
        "gguf_plan": made.as_data(),
    }
    fits = made.fits == "yes" or bool(plan and plan.chosen)
    notes = tuple(dict.fromkeys((*made.notes, *exl_notes)))
    return Result("qwenops.beside/1", data, notes=notes, exit_code=0 if fits else 1)


def all_exl(given: Sequence[Given]) -> bool:
    """Whether all that was typed names EXL models. Raises BadInput where only some of it does."""
    kinds = {is_exl(one) for one in given}
    if len(kinds) > 1:
        odd = next(one for one in given if is_exl(one))
        raise BadInput(f"{odd} is for ExLlama, and the rest is GGUF", do=f"qwenops plan GGUF-MODEL --beside {odd}")
    return kinds == {True}


def _planned(
    given: Sequence[Given],
    *,
    gpu: str | None,
    task: str = "chat",
    ctx: int | None = None,
    cache_bits: str | None = None,
    images: int | None = None,
    image_tokens: int | None = None,
    ubatch: int | None = None,
    headroom: str | None = None,
    offline: bool = False,
) -> tuple[ExlPlan | None, dict[str, Any], tuple[str, ...]]:
    from qwenops.plan.fit import DEFAULT_HEADROOM_BYTES
    from qwenops.plan.profile import profile

    estimates = [estimator(read_exl(one, offline=offline)) for one in given]
    machine, device = _look(gpu)
    asked = profile(task)
    asked = asked if images is None else replace(asked, images=images)
    tokens = image_tokens or asked.image_tokens
    floor = asked.floor(sees=any(e.sees for e in estimates), image_tokens=tokens)
    data: dict[str, Any] = {
        "models": [entry(e.model, e) for e in estimates],
        "device": asdict(device) if device else None,
        "task": task,
        "floor": ctx or floor,
        "fits": "no",
        "choice": None,
        "choices": [],
        "refused": [],
    }
    notes = list(machine.notes)
    for estimate in estimates:
        notes += _notes(estimate, machine, device, tokens)
    if device is None:
        data["refused"] = [{"model": e.model.name, "why": _refusal(e.model, None)} for e in estimates]
        return None, data, tuple(dict.fromkeys(notes))
    plan = plan_exl(
        estimates,
        device,
        floor=floor,
        goal=asked.context_goal,
        pinned=ctx,
        bits=[parse_bits(cache_bits, estimates[0].model.format)] if cache_bits else USUAL_BITS,
        settings=ExlSettings(floor, CacheBits(16, 16), _chunk(ubatch), tokens, sees=asked.images > 0),
        headroom_bytes=DEFAULT_HEADROOM_BYTES if headroom is None else parse_size(headroom),
    )
    data |= {
        "fits": plan.fits,
        "choice": _choice_entry(plan.chosen) if plan.chosen else None,
        "choices": [_choice_entry(c) for c in plan.choices],
        "refused": [{"model": name, "why": why} for name, why in plan.refused],
    }
    return plan, data, tuple(dict.fromkeys(notes))


def _choice_entry(choice: ExlChoice) -> dict[str, Any]:
    return {
        "model": entry(choice.estimate.model, choice.estimate),
        "cache_bits": str(choice.bits),
        "num_ctx": choice.need.settings.num_ctx,
        "largest_context": choice.largest_context,
        "need": choice.need.as_data(),
        "fits": choice.fits,
    }


def _beside_row(row: dict[str, Any]) -> dict[str, Any]:
    model = row["model"]
    return {
        "engine": "ExLlamaV2" if model["format"] == "exl2" else "ExLlamaV3",
        "name": model["name"],
        "variant": f"{model['stored_bits'] or 0:.2f} bpw",
        "file_bytes": model["file_bytes"],
        "cache": f"{row['cache_bits']} bit",
        "largest_context": row["largest_context"],
        "num_ctx": row["num_ctx"],
        "total_bytes": row["need"]["total_bytes"],
        "band_bytes": row["need"]["band_bytes"],
        "fits": row["fits"],
        "source": "headers, with a stated estimate",
    }


def _gguf_rows(
    given: tuple[Given, ...],
    mmproj: Given | None,
    machine: Machine,
    chosen: Model | None,
    sizes: Sequence[int],
    made: Any,
    wish: dict[str, Any],
) -> list[dict[str, Any]]:
    from qwenops.plan.matrix import fits_matrix
    from qwenops.setup.answers import make_wish
    from qwenops.setup.given import variants

    # the plan has just read them: what was kept of it is as new
    models = variants(given, mmproj, offline=True, drawn=True)
    whole = [m.file_bytes + (m.projector.file_bytes if m.projector else 0) for m in models]
    nearest = [models[min(range(len(models)), key=lambda i: abs(whole[i] - size))] for size in sizes]
    kept = [m for m in models if m in nearest or (chosen is not None and m.source == chosen.source)]
    pins = make_wish(kv=wish.get("kv"), image_tokens=wish.get("image_tokens"), headroom=wish.get("headroom"))
    rows = []
    for model, (cell,) in zip(kept, fits_matrix(kept, [machine], pins), strict=True):
        taken = made.chosen if chosen is not None and model.source == chosen.source else None
        rows.append(
            {
                "engine": "llama.cpp",
                "name": model.name,
                "variant": model.quant,
                "file_bytes": model.file_bytes + (model.projector.file_bytes if model.projector else 0),
                "cache": taken.choice.settings.kv_type_k if taken else wish.get("kv") or "f16",
                "largest_context": cell.num_ctx,
                "num_ctx": taken.choice.settings.num_ctx if taken else cell.num_ctx,
                "total_bytes": _taken_bytes(taken.need) if taken else cell.needed_bytes,
                "band_bytes": asdict(taken.need.band) if taken and taken.need.devices else None,
                "fits": "yes" if taken or cell.num_ctx else "no",
                "source": taken.need.rung if taken else "closed form",
            }
        )
    return rows


def _taken_bytes(need: Need) -> int:
    return need.total_device_bytes if need.devices else need.host.total_bytes


def _config_text(choice: ExlChoice, device: Device) -> str:
    from qwenops.modelfile.tabby import WITH_EXL2, download_line, tabby_config

    model, need = choice.estimate.model, choice.need
    head = [
        f"Made by qwenops {__version__} for TabbyAPI: save it as config.yml in TabbyAPI's folder.",
        f"{model.name}, cache of {choice.bits} bits, {need.settings.num_ctx} tokens.",
        f"Needs {human(need.band.low)} to {human(need.band.high)} of {human(device.free_bytes)} free on {device.name}: "
        "weights and cache by the headers, the rest estimated; not measured.",
    ]
    if line := download_line(model):
        head.append(f"Get it: {line}")
    if model.format == "exl2":
        head.append(f"TabbyAPI took ExLlamaV2 out on 2026-07-14 (c8b9a8f): use its commit {WITH_EXL2} or an older one.")
    return tabby_config(model, need.settings, sees=choice.estimate.sees, head=tuple(head))


def _look(gpu: str | None) -> tuple[Machine, Device | None]:
    from qwenops.machine.detect import detect

    machine = detect(gpu)
    return machine, usable(machine.devices)


def _chunk(ubatch: int | None) -> int:
    """TabbyAPI rounds the chunk up to its step (backends/exllamav3/model.py, adjust_chunk_size)."""
    return pad(ubatch, _STEP_TOKENS) if ubatch else CHUNK_TOKENS


def _refusal(model: ExlModel, device: Device | None) -> str | None:
    from qwenops.model.exl_support import why_not_here, why_not_loaded

    if why := why_not_loaded(model):
        return why
    return why_not_here(device, model.format) if device else "no CUDA card was found, and ExLlama needs one"


def _notes(estimate: Estimator, machine: Machine, device: Device | None, image_tokens: int) -> list[str]:
    from qwenops.model.exl_support import paged, support, version

    model = estimate.model
    said = [*model.notes, NOT_MEASURED]
    kind = support(model.architecture, model.format)
    if kind == "unknown":
        said.append(f"{model.architecture} is in no table of qwenops: whether {version(model.format)} loads it is open")
    elif kind == "text" and estimate.weights.vision_bytes:
        said.append(f"{version(model.format)} loads the text part of {model.architecture} alone")
    if estimate.weights.unused_bytes:
        said.append(
            f"{human(estimate.weights.unused_bytes)} are a draft head, which is loaded with draft_mode: mtp only"
        )
    most = model.most_image_tokens
    if estimate.sees and most and most > image_tokens:
        said.append(
            f"the figures hold for pictures up to {image_tokens} tokens; TabbyAPI has no cap of its own, and "
            f"preprocessor_config.json lets {most} through: make its longest_edge smaller"
        )
    if estimate.shape.recurrent:
        said.append("checkpoints of the state take up to 4 GiB of host memory (sysmem_recurrent_cache)")
    if device is None:
        return said
    if model.format == "exl2" and paged(device) is False:
        said.append(f"{device.name} has no FlashAttention 2: without it ExLlamaV2 needs more than is said here")
    if device.compute_capability is None:
        said.append(f"the compute capability of {device.name} is not known; EXL3 and FlashAttention 2 need 8.0 or more")
    if len([d for d in machine.devices if d.kind in ("cuda", "rocm")]) > 1:
        said.append(f"planned for {device.name} alone; how ExLlama splits a model over cards is not worked out here")
    return said
