"""What an EXL2 or EXL3 model needs on one CUDA device, as TabbyAPI loads it.

Weights, cache, state and the expanded layer are exact: they are tensors that the sources make. The rest is not, and is
never called measured: compute and encoder follow the sources' tensors of one layer at a time, while PyTorch's allocator
decides what is held at once, and what CUDA, PyTorch and its kernels take beside them was not seen by us. The band says
so: its lower edge takes half of what is estimated, its upper edge all of it at once and half as much again, a MiB for
each large tensor (the allocator's steps of 2 MiB) and 1 GiB for what is unknown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from qwenops.memory.exl_cache import CacheBits, cache_bytes, expanded_bytes
from qwenops.memory.exl_shape import ExlShape, shape_of
from qwenops.memory.exl_weights import ExlWeights, bits_of, is_vision, quantized_layers, weights_of
from qwenops.memory.types import Band
from qwenops.model.exl import ExlModel
from qwenops.model.exl_support import support
from qwenops.units import MIB, pad

CHUNK_TOKENS = 2048
"""TabbyAPI's chunk_size where nobody sets it."""

RESERVE_BYTES = 96 * MIB
"""TabbyAPI keeps so much free on the first device (autosplit_reserve, config_sample.yml)."""

OVERHEAD_BYTES = 600 * MIB
"""A stated default for the CUDA context, PyTorch and its kernels: llama.cpp's context takes 456 MiB (memory/overhead),
exllamav3 makes a workspace of 16 MiB, cuBLAS takes 8 to 32 MiB a stream; the rest is a guess."""
_OVERHEAD_LOW_BYTES, _OVERHEAD_HIGH_BYTES = 300 * MIB, 1024 * MIB

_DQ_VALUES = 512 * 1024**2
_SLICE_OUTPUTS = 32768
_OUTPUT_ROWS = 16
_LOAD_PATCHES = 11008
_LARGE_BYTES = MIB


@dataclass(frozen=True)
class ExlSettings:
    """What of the settings changes the need. `sees` is whether the vision tower is loaded; one sequence at a time."""

    num_ctx: int
    bits: CacheBits
    chunk: int = CHUNK_TOKENS
    image_tokens: int = 4096
    sees: bool = True


@dataclass(frozen=True)
class ExlNeed:
    """The need on the device, by component, and on the host (the token embedding)."""

    settings: ExlSettings
    weights_bytes: int
    vision_bytes: int
    cache_bytes: int
    state_bytes: int
    expanded_bytes: int
    compute_bytes: int
    encoder_bytes: int
    overhead_bytes: int
    host_bytes: int
    band: Band

    @property
    def exact_bytes(self) -> int:
        """What follows from the headers and the settings to the byte."""
        return self.weights_bytes + self.vision_bytes + self.cache_bytes + self.state_bytes + self.expanded_bytes

    @property
    def total_bytes(self) -> int:
        """The middle of the estimate: compute and encoder do not run at the same time."""
        return self.exact_bytes + max(self.compute_bytes, self.encoder_bytes) + self.overhead_bytes

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        flat = {k: v for k, v in asdict(self).items() if k.endswith("_bytes")}
        settings = asdict(self.settings) | {"bits": str(self.settings.bits)}
        return {
            **flat,
            "exact_bytes": self.exact_bytes,
            "total_bytes": self.total_bytes,
            "band_bytes": asdict(self.band),
            "settings": settings,
        }


@dataclass(frozen=True)
class Estimator:
    """One model, read once, that is asked for many settings."""

    model: ExlModel
    shape: ExlShape
    weights: ExlWeights

    @property
    def sees(self) -> bool:
        """Whether its engine loads the vision tower that the files hold."""
        return bool(self.weights.vision_bytes) and support(self.model.architecture, self.model.format) != "text"

    def need(self, settings: ExlSettings) -> ExlNeed:
        """What the model needs under some settings."""
        model, shape, weights = self.model, self.shape, self.weights
        sees = settings.sees and self.sees
        engine = model.format
        exact = {
            "weights_bytes": weights.device_bytes,
            "vision_bytes": weights.vision_bytes if sees else 0,
            "cache_bytes": cache_bytes(engine, shape.cache, settings.num_ctx, settings.bits),
            "state_bytes": shape.recurrent.total_bytes if shape.recurrent else 0,
            "expanded_bytes": expanded_bytes(shape.cache, settings.num_ctx, settings.bits),
        }
        compute = self._exl2_compute(settings) if engine == "exl2" else self._exl3_compute(settings)
        encoder = self._encoder(settings.image_tokens) if sees else 0
        known = sum(exact.values())
        band = Band(
            low=known + max(compute, encoder) // 2 + _OVERHEAD_LOW_BYTES,
            high=known + (compute + encoder) * 3 // 2 + self._steps_bytes(sees) + _OVERHEAD_HIGH_BYTES,
        )
        return ExlNeed(
            settings=settings,
            **exact,
            compute_bytes=compute,
            encoder_bytes=encoder,
            overhead_bytes=OVERHEAD_BYTES,
            host_bytes=weights.host_bytes,
            band=band,
        )

    def _steps_bytes(self, sees: bool) -> int:
        """What the allocator's steps may waste: half a step for each tensor above a MiB."""
        return sum(MIB for t in self.model.tensors if t.size_bytes > _LARGE_BYTES and (sees or not is_vision(t)))

    def _exl2_compute(self, settings: ExlSettings) -> int:
        """The scratch that is allocated once (exllamav2 0.3.2, scratch_space_fixed of attn, mlp, moe_mlp and linear),
        the rotary tables for the whole context (device.py), and a chunk's states beside them."""
        s, chunk = self.shape, settings.chunk

        def expanded(*sides: tuple[int, int]) -> int:
            return max(2 * min(a * b, _DQ_VALUES) for a, b in sides)

        wide = s.heads * s.head_dim
        narrow = s.cache.token_values
        attention = 2 * chunk * max(wide, s.hidden) + expanded((s.hidden, wide), (s.hidden, narrow), (wide, s.hidden))
        feed_forward = 2 * chunk * (s.hidden + 2 * max(s.hidden, s.feed_forward))
        if s.experts > 1:
            feed_forward = 2 * chunk * (2 * s.hidden + 2 * s.feed_forward + s.experts)
        feed_forward += expanded((s.hidden, s.feed_forward))
        head = expanded((s.hidden, pad(s.vocabulary, 32)))
        scratch = max(attention, feed_forward, head)
        rotary = 2 * 2 * settings.num_ctx * s.head_dim
        states = 2 * chunk * (2 * s.hidden + 2 * wide + 2 * narrow) + 4 * _OUTPUT_ROWS * s.vocabulary
        return scratch + rotary + states

    def _exl3_compute(self, settings: ExlSettings) -> int:
        """A chunk's states in the widest part of a layer, and the largest weight expanded to fp16 (exllamav3 1.4.1:
        modules/quant/exl3.py, reconstruct_hgemm, above 144 rows; architecture/qwen3.py for the types)."""
        s, chunk = self.shape, settings.chunk
        wide, narrow = s.heads * s.head_dim, s.cache.token_values
        stream = 2 * 4 * chunk * s.hidden + 2 * chunk * s.hidden
        attention = 2 * chunk * (3 * wide + 2 * narrow)
        feed_forward = 2 * chunk * 3 * s.feed_forward * s.experts_used
        if s.recurrent:
            attention = max(attention, 4 * chunk * s.recurrent.width)
        layers = quantized_layers(self.model)
        expanded = max(
            (2 * a * min(b, _SLICE_OUTPUTS) for name, (a, b) in layers.items() if not name.startswith("lm_head")),
            default=0,
        )
        return stream + max(attention, feed_forward) + expanded + 4 * 32 * s.vocabulary

    def _encoder(self, image_tokens: int) -> int:
        """One picture's patches through one block of the tower. exllamav3 loads it by encoding 11008 patches
        (architecture/qwen3_vl.py, default_load_shape_dtype), so a smaller picture saves nothing."""
        vision = self.shape.vision
        if vision is None:
            return 0
        patches = image_tokens * vision.patches_per_token
        if self.model.format == "exl3":
            patches = max(patches, _LOAD_PATCHES)
        states = 2 * 4 * vision.hidden + 2 * 5 * vision.hidden + 2 * 2 * vision.feed_forward
        return patches * states


def estimator(model: ExlModel) -> Estimator:
    """Read what the needs of a model follow from. Raises BadInput where its files contradict its config.json."""
    return Estimator(model, shape_of(model), weights_of(model))


def entry(model: ExlModel, estimate: Estimator) -> dict[str, Any]:
    """The model's own entry in the JSON."""
    bits = bits_of(model)
    return {
        "name": model.name,
        "source": model.source,
        "format": model.format,
        "architecture": model.architecture,
        "layers": estimate.shape.layers,
        "cache_layers": estimate.shape.cache.layers,
        "bits": model.bits,
        "head_bits": model.head_bits,
        "stored_bits": None if bits.layers is None else round(bits.layers, 3),
        "stored_head_bits": None if bits.head is None else round(bits.head, 3),
        "file_bytes": model.file_bytes,
        "unused_bytes": estimate.weights.unused_bytes,
        "trained_context": model.trained_context,
        "sees": estimate.sees,
        "support": support(model.architecture, model.format),
    }
