"""What a picture takes, stage by stage, on the device and on the host, for each way of running it.

The stages run one after another and each gives its compute buffer back (GGMLRunner in src/ggml_extend.hpp, and the
order in generate_image of src/stable-diffusion.cpp): references are encoded, the prompt is encoded, the model is run
for every step, the latent is decoded. The weights of a part leave with its stage. So the peak is the largest stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from qwenops.image.graphs import encoder, transformer, vae
from qwenops.image.parts import Part, Role
from qwenops.memory.backends import Backend

Placement = Literal["device", "offload", "stream", "cpu"]
StageName = Literal["look", "references", "encode", "step", "decode"]

_WORDS: Final[dict[Placement, str]] = {
    "device": "all on the GPU",
    "offload": "offloaded",
    "stream": "streamed by blocks",
    "cpu": "on the CPU",
}
TEMPLATE_TOKENS: Final = 39
"""Tokens of the template around a prompt: 34 before it, which are cut off again, and 5 after it (conditioner.hpp)."""
_CUT_TOKENS: Final = 34
_EDIT_CUT_TOKENS: Final = 64
_WORDS_A_PICTURE: Final = 8  # "Picture 1: <|vision_start|>" and the end mark
_TILE: Final = 32  # latents; get_tile_sizes in src/vae.hpp
_ENCODE_TILE_FACTOR: Final = 1.30539
_LOOK_CELL, _LOOK_LEAST, _LOOK_MOST = 28, 384 * 384, 560 * 560
_REFERENCE_STEP, _REFERENCE_MOST = 32, 1024 * 1024


@dataclass(frozen=True)
class Job:
    """One picture: its size in pixels, tokens of both prompts without the template, sizes of the references.

    `negative_tokens` is None where guidance is off: then the second prompt is not encoded. `start` is a picture to
    begin from (image to image). `lora_bytes` are LoRAs that are kept beside the weights.
    """

    width: int
    height: int
    prompt_tokens: int
    negative_tokens: int | None = 1
    references: tuple[tuple[int, int], ...] = ()
    start: bool = False
    flash: bool = True
    zero_cond: bool = False
    lora_bytes: int = 0

    @property
    def latent(self) -> tuple[int, int]:
        """Width and height of the latent."""
        return self.width // vae.SCALE, self.height // vae.SCALE

    @property
    def takes_pictures(self) -> bool:
        """Whether pictures go in, so that the VAE's encoder is needed."""
        return self.start or bool(self.references)


@dataclass(frozen=True)
class Way:
    """One way of running: where weights lie while they are used, and what is done to make it fit.

    `device`: all weights on the device from the beginning. `offload`: in RAM, each part copied over for its stage.
    `stream`: in RAM, copied over block by block (max_vram). `cpu`: everything in RAM.
    """

    placement: Placement
    vae_tiling: bool = False
    encoder_on_cpu: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """What sd-cli is told for it; a streamed run also wants --max-vram."""
        flags = [] if self.placement in ("device", "cpu") else ["--offload-to-cpu"]
        if self.vae_tiling:
            flags.append("--vae-tiling")
        if self.encoder_on_cpu:
            flags.append("--clip-on-cpu")
        return tuple(flags)

    def __str__(self) -> str:
        more = [w for w, on in (("VAE tiled", self.vae_tiling), ("encoder on CPU", self.encoder_on_cpu)) if on]
        return ", ".join([_WORDS[self.placement], *more])


@dataclass(frozen=True)
class Stage:
    """What one stage takes, in bytes; `weights` and `compute` lie on the device or, with `on_host`, in RAM.

    `other_weights_bytes` are weights of other parts that stay on the device, `host_weights_bytes` those in RAM.
    """

    name: StageName
    weights_bytes: int
    compute_bytes: int
    on_host: bool = False
    other_weights_bytes: int = 0
    host_weights_bytes: int = 0

    @property
    def device_bytes(self) -> int:
        """Bytes of buffers on the device."""
        own = 0 if self.on_host else self.weights_bytes + self.compute_bytes
        return own + self.other_weights_bytes

    @property
    def host_bytes(self) -> int:
        """Bytes of buffers in RAM."""
        return self.host_weights_bytes + (self.compute_bytes if self.on_host else 0)


@dataclass(frozen=True)
class Need:
    """The stages of one way, in their order."""

    way: Way
    stages: tuple[Stage, ...]
    smallest_budget_bytes: int = field(default=0)

    @property
    def device_bytes(self) -> int:
        """The peak on the device."""
        return max(stage.device_bytes for stage in self.stages)

    @property
    def host_bytes(self) -> int:
        """The peak in RAM."""
        return max(stage.host_bytes for stage in self.stages)


def every_way(*, has_device: bool) -> tuple[Way, ...]:
    """The ways to run, the fastest first: tiling costs less than copying weights, copying less than the CPU."""
    if not has_device:
        return (Way("cpu"), Way("cpu", vae_tiling=True))
    ways = [Way("device"), Way("device", vae_tiling=True), Way("offload"), Way("offload", vae_tiling=True)]
    ways.append(Way("offload", vae_tiling=True, encoder_on_cpu=True))
    ways += [Way("stream", vae_tiling=True), Way("stream", vae_tiling=True, encoder_on_cpu=True)]
    return (*ways, Way("cpu", vae_tiling=True))


def need(parts: Mapping[Role, Part], job: Job, way: Way, device: Backend | None, host: Backend) -> Need:
    """What a way takes in each stage."""
    asked = _Asked(parts, job, way, host if device is None or way.placement == "cpu" else device, host)
    stages = asked.stages()
    return Need(way, stages, max(s.device_bytes for s in stages) if way.placement == "stream" else 0)


@dataclass(frozen=True)
class _Asked:
    parts: Mapping[Role, Part]
    job: Job
    way: Way
    device: Backend
    host: Backend

    def stages(self) -> tuple[Stage, ...]:
        made = []
        if self.job.takes_pictures:
            made.append(self._stage("references", self._encode_pictures_bytes()))
        if "projector" in self.parts and self.job.references:
            look = max(encoder.look_bytes(_looked_at(*size), self._backend("encoder")) for size in self.job.references)
            made.append(self._stage("look", look))
        made.append(self._stage("encode", self._encode_bytes()))
        made.append(self._stage("step", self._step_bytes()))
        made.append(self._stage("decode", self._decode_bytes()))
        return tuple(made)

    def _stage(self, name: StageName, compute: int) -> Stage:
        """Put a stage's own weights and those that are there besides where this way has them."""
        role: Role = {"look": "encoder", "encode": "encoder", "step": "diffusion"}.get(name, "vae")  # type: ignore[assignment]
        on_host = self._backend(role) is self.host
        waiting = [r for r in _UNTIL[name] if r != role]
        own = self._weights(role)
        others = sum(self._weights(r) for r in waiting)
        if self.way.placement == "device":
            on_device = sum(self._weights(r) for r in waiting if self._backend(r) is not self.host)
            return Stage(name, own, compute, on_host, on_device, (own if on_host else 0) + others - on_device)
        if self.way.placement == "stream" and not on_host:
            return Stage(name, self._streamed(name, role, own), compute, False, 0, own + others)
        return Stage(name, own, compute, on_host, 0, own + others)

    def _streamed(self, name: StageName, role: Role, whole: int) -> int:
        """The largest piece of a part that is on the device at once; the VAE is not cut."""
        part = self.parts[role]
        if role == "vae" or name == "look":
            return whole
        if role == "encoder":
            return max(part.block_bytes(self.device), part.outside_bytes(self.device))
        streams = transformer.streams_bytes(self._step(self._text_tokens(self.job.prompt_tokens)))
        return max(part.block_bytes(self.device), part.outside_bytes(self.device)) + 2 * streams

    def _backend(self, role: Role) -> Backend:
        if role in ("encoder", "projector") and self.way.encoder_on_cpu:
            return self.host
        return self.device

    def _weights(self, role: Role) -> int:
        part = self.parts[role]
        size = part.loaded_bytes(self._backend(role), takes_pictures=self.job.takes_pictures)
        if role == "encoder" and "projector" in self.parts and self.job.takes_pictures:
            size += self.parts["projector"].loaded_bytes(self._backend(role))
        return size + (self.job.lora_bytes if role == "diffusion" else 0)

    # --- compute buffers ---

    def _picture_tokens(self) -> tuple[int, ...]:
        if "projector" not in self.parts:
            return ()
        return tuple(w // _LOOK_CELL * (h // _LOOK_CELL) for w, h in (_looked_at(*r) for r in self.job.references))

    def _whole_tokens(self, prompt: int) -> int:
        """All tokens that the encoder sees."""
        pictures = self._picture_tokens()
        if not pictures:
            return TEMPLATE_TOKENS + prompt
        return _EDIT_CUT_TOKENS + 5 + prompt + sum(pictures) + _WORDS_A_PICTURE * len(pictures)

    def _text_tokens(self, prompt: int) -> int:
        """Those that the diffusion model sees."""
        cut = _EDIT_CUT_TOKENS if self._picture_tokens() else _CUT_TOKENS
        return self._whole_tokens(prompt) - cut

    def _prompts(self) -> tuple[int, ...]:
        negative = self.job.negative_tokens
        return (self.job.prompt_tokens,) if negative is None else (self.job.prompt_tokens, negative)

    def _encode_bytes(self) -> int:
        part = self.parts["encoder"]
        tower = encoder.TextTower(part.blocks, feed_forward=part.feed_forward, vocabulary=part.vocabulary)
        backend, pictures = self._backend("encoder"), self._picture_tokens()
        return max(
            encoder.encode_bytes(tower, self._whole_tokens(prompt), backend, picture_tokens=pictures)
            for prompt in self._prompts()
        )

    def _step(self, text_tokens: int) -> transformer.Step:
        return transformer.Step(
            self.parts["diffusion"].blocks,
            self.job.latent,
            text_tokens,
            tuple(reference_latent(self.job, *size) for size in self.job.references),
            self.job.flash,
            self.job.zero_cond,
        )

    def _step_bytes(self) -> int:
        ask = transformer.block_bytes if self.way.placement == "stream" else transformer.step_bytes
        return max(ask(self._step(self._text_tokens(prompt)), self.device) for prompt in self._prompts())

    def _decode_bytes(self) -> int:
        width, height = self.job.latent
        if self.way.vae_tiling:
            width, height = min(width, _TILE), min(height, _TILE)
        return vae.decode_bytes((width, height), self.device)

    def _encode_pictures_bytes(self) -> int:
        sizes = [tuple(vae.SCALE * n for n in reference_latent(self.job, *size)) for size in self.job.references]
        if self.job.start:
            sizes.append((self.job.width, self.job.height))
        most = int(_TILE * _ENCODE_TILE_FACTOR) * vae.SCALE if self.way.vae_tiling else 1 << 30
        return max(vae.encode_bytes((min(w, most), min(h, most)), self.device) for w, h in sizes)


_UNTIL: Final[dict[StageName, tuple[Role, ...]]] = {
    "references": ("encoder", "diffusion", "vae"),
    "look": ("encoder", "diffusion", "vae"),
    "encode": ("encoder", "diffusion", "vae"),
    "step": ("diffusion", "vae"),
    "decode": ("vae",),
}
"""Whose weights are there in a stage: a part's leave after its last use (free_params_immediately)."""


def reference_latent(job: Job, width: int, height: int) -> tuple[int, int]:
    """The latent of a reference: its picture is brought to the pixels of the result, at most a megapixel."""
    pixels = min(_REFERENCE_MOST, job.width * job.height)
    across = math.sqrt(pixels * width / height)
    down = across * height / width
    step = _REFERENCE_STEP
    return round(across / step) * step // vae.SCALE, round(down / step) * step // vae.SCALE


def _looked_at(width: int, height: int) -> tuple[int, int]:
    """The size at which the vision tower sees a reference (conditioner.hpp, QwenImageEditPlusPipeline)."""
    cell = _LOOK_CELL
    across, down = round(width / cell) * cell, round(height / cell) * cell
    if across * down > _LOOK_MOST:
        beta = math.sqrt(height * width / _LOOK_MOST)
        down = max(cell, math.floor(height / beta / cell) * cell)
        across = max(cell, math.floor(width / beta / cell) * cell)
    elif across * down < _LOOK_LEAST:
        beta = math.sqrt(_LOOK_LEAST / (height * width))
        down, across = math.ceil(height * beta / cell) * cell, math.ceil(width * beta / cell) * cell
    return across, down
