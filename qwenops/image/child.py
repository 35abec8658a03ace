"""The child's side of a run: stable-diffusion.cpp makes the pictures, and says what it does meanwhile.

Events: "stage" (load, references, encode, step, decode), "step" (number, of how many, seconds), "buffer" (whose,
weights or compute, bytes), "picture" (pixels as base64). The answer has what was measured.
"""

from __future__ import annotations

import base64
import ctypes
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from qwenops.errors import CheckFailed
from qwenops.image.library import backend_kind, load

Emit = Callable[..., None]

_BUFFER: Final = re.compile(r"- (\S+) (params backend|compute) buffer size\s*[:=]\s*([\d.]+) MB\((RAM|VRAM)\)")
_STAGES: Final = (
    ("encode", re.compile(r"parse '|qwen2.5vl compute buffer")),
    ("references", re.compile(r"EDIT mode|IMG2IMG|resize vae ref image")),
    ("step", re.compile(r"generating image: ")),
    ("decode", re.compile(r"decoding \d+ latents")),
)
_ERROR_LEVEL, _WARNING_LEVEL = 3, 2
_LOADING: Final = "load"


class _Listener:
    """Turns log lines and progress into events."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.stage = _LOADING
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.seconds: list[float] = []
        emit("stage", name=self.stage)

    def log(self, level: int, text: str) -> None:
        if level >= _ERROR_LEVEL:
            self.errors.append(text)
            sys.stderr.write(text + "\n")
        elif level == _WARNING_LEVEL:
            self.warnings.append(text)
        if found := _BUFFER.search(text):
            kind = "weights" if found[2].startswith("params") else "compute"
            size = int(float(found[3]) * (1 << 20))
            self.emit("buffer", whose=found[1], what=kind, bytes=size, stage=self.stage, on_host=found[4] == "RAM")
        for name, pattern in _STAGES:
            if name != self.stage and pattern.search(text):
                self.stage = name
                self.emit("stage", name=name)
                break

    def progress(self, step: int, steps: int, seconds: float) -> None:
        if self.stage == "step" and step > 0:
            self.seconds.append(seconds)
            self.emit("step", step=step, steps=steps, seconds=seconds)


def paint(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Make the pictures of a request; they leave as "picture" events, in the order of their seeds.

    Raises CheckFailed with the library's own words where it fails.
    """
    listener = _Listener(emit)
    lib = load(listener.log, listener.progress)
    kept: list[Any] = []
    began = time.monotonic()
    context = lib.new_sd_ctx(ctypes.pointer(_context(lib, request)))
    if not context:
        raise CheckFailed(f"stable-diffusion.cpp could not load the model: {_last(listener)}")
    try:
        asked = _picture(lib, request, kept)
        made = lib.generate_image(context, ctypes.byref(asked))
        if not made:
            raise CheckFailed(f"stable-diffusion.cpp made no picture: {_last(listener)}")
        for index in range(request["batch"]):
            one = made[index]
            if not one.data:
                raise CheckFailed(f"stable-diffusion.cpp made no picture: {_last(listener)}")
            pixels = ctypes.string_at(one.data, one.width * one.height * one.channel)
            emit(
                "picture",
                index=index,
                width=one.width,
                height=one.height,
                channels=one.channel,
                pixels=base64.b64encode(pixels).decode("ascii"),
            )
    finally:
        lib.free_sd_ctx(context)
    return {
        "version": lib.version,
        "backend": backend_kind(lib),
        "seconds": time.monotonic() - began,
        "step_seconds": listener.seconds,
        "peak_host_bytes": _peak_bytes(),
        "warnings": listener.warnings[-5:],
    }


def _last(listener: _Listener) -> str:
    said = listener.errors or listener.warnings
    return re.sub(r"^\S+\s+- ", "", said[-1]) if said else "it did not say why"


def _context(lib: Any, request: Mapping[str, Any]) -> Any:
    params = lib.sd_ctx_params_t()
    lib._lib.sd_ctx_params_init(ctypes.byref(params))
    files = request["files"]
    params.diffusion_model_path = _text(files["diffusion"])
    params.llm_path = _text(files["encoder"])
    params.llm_vision_path = _text(files.get("projector", ""))
    params.vae_path = _text(files["vae"])
    params.vae_decode_only = not (request["references"] or request["start"])
    params.free_params_immediately = True
    params.n_threads = request["threads"]
    params.diffusion_flash_attn = request["flash"]
    params.offload_params_to_cpu = request["offload"]
    params.keep_clip_on_cpu = request["encoder_on_cpu"]
    params.qwen_image_zero_cond_t = request["zero_cond"]
    params.max_vram = request["max_vram_gib"]
    return params


def _picture(lib: Any, request: Mapping[str, Any], kept: list[Any]) -> Any:
    """The request as the library's structure; `kept` holds what it points to."""
    params = lib.sd_img_gen_params_t()
    lib._lib.sd_img_gen_params_init(ctypes.byref(params))
    params.prompt = _text(request["prompt"])
    params.negative_prompt = _text(request["negative_prompt"])
    params.width, params.height = request["width"], request["height"]
    params.seed, params.batch_count = request["seed"], request["batch"]
    sample = params.sample_params
    sample.sample_steps = request["steps"]
    sample.guidance.txt_cfg = request["cfg_scale"]
    sample.flow_shift = request["flow_shift"]
    sample.sample_method = lib._lib.str_to_sample_method(_text(request["sampler"]))
    params.vae_tiling_params.enabled = request["vae_tiling"]
    if request["references"]:
        images = (lib.sd_image_t * len(request["references"]))(*(_image(lib, p, kept) for p in request["references"]))
        kept.append(images)
        params.ref_images, params.ref_images_count = images, len(request["references"])
        params.auto_resize_ref_image = True
        params.increase_ref_index = len(request["references"]) > 1
    if request["start"]:
        params.init_image = _image(lib, request["start"], kept, (request["width"], request["height"]))
        params.strength = request["strength"]
    if request["loras"]:
        loras = (lib.sd_lora_t * len(request["loras"]))(
            *(
                lib.sd_lora_t(is_high_noise=False, multiplier=one["weight"], path=_text(one["file"]))
                for one in request["loras"]
            )
        )
        kept.append(loras)
        params.loras, params.lora_count = loras, len(request["loras"])
    return params


def _image(lib: Any, path: str, kept: list[Any], size: tuple[int, int] | None = None) -> Any:
    """A picture file as the library takes it: upright, three channels, scaled where a size is given."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    if size is not None and image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    data = image.tobytes()
    pixels = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    kept.append(pixels)
    return lib.sd_image_t(width=image.width, height=image.height, channel=3, data=pixels)


def _text(value: str) -> bytes:
    return value.encode("utf-8")


def _peak_bytes() -> int | None:
    """The most that this process held, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
