"""The grid: which models are loaded, under which settings, and how near to the limit of the runtime's fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from qwenops.memory.types import KVType, LoadSettings
from qwenops.units import MIB
from tests.support.shapes import (
    TEXT,
    VISION,
    Dims,
    VisionDims,
    text_metadata,
    text_model,
    text_tensors,
    vision_metadata,
    vision_tensors,
)

# The image budget at which the encoder's buffers are those of the warm-up, which is all that a load makes.
NO_GROWTH = 1024
# A cut model keeps about this much, so that its cache and compute buffers fit beside it on a device of 2 GiB.
KEPT_BYTES = 600 * MIB
# Hybrids and sliding windows repeat after a few layers, and a cut keeps whole periods: 6 where the header lists them.
PERIOD, LISTED_PERIOD = 4, 6
BLOCK_OF_CACHES = 32

# The published shape of a family with as many experts as the software device can hold.
_FEWER = {"qwen3.6-35b-a3b-small": ("qwen3.6-35b-a3b", 48), "qwen3-vl-30b-a3b-small": ("qwen3-vl-30b-a3b", 32)}
_MOE = replace(TEXT["qwen3-30b-a3b"], layers=8, embedding=1024, heads=16, experts=64, experts_used=4, vocabulary=32000)
SHAPES: dict[str, Dims] = {
    **TEXT,
    "small-moe": _MOE,
    **{name: replace(TEXT[whole], experts=experts) for name, (whole, experts) in _FEWER.items()},
}


@dataclass(frozen=True)
class Case:
    """One load.

    `cut` keeps the first layers of the text model, `vision_cut` the first blocks of its projector (0: all). `layers`
    is "all", "half", a number or "auto", what the runtime's own fit keeps. `margin` is how far above the need, in
    percent of it, the fit's limit is set; `edge` moves the context instead, to the last one that still fits ("below")
    or a step further ("above"). `devices` is how often the software GPU is listed. `through` is who starts the load.
    `unified` is whether the sequences share one cache.
    """

    shape: str
    quant: str = "Q4_K_M"
    cut: int = 0
    num_ctx: int = 4096
    parallel: int = 1
    batch: int = 512
    kv: KVType = "f16"
    flash_attn: Literal["auto", "off"] = "auto"
    layers: int | Literal["all", "half", "auto"] = "all"
    vision: str | None = None
    vision_cut: int = 0
    margin: float | None = None
    edge: Literal["", "below", "above"] = ""
    devices: int = 1
    through: Literal["server", "ollama"] = "server"
    unified: bool = False

    @property
    def dims(self) -> Dims:
        """The text model's shape, cut."""
        return cut_to(SHAPES[self.shape], self.cut) if self.cut else SHAPES[self.shape]

    @property
    def eyes(self) -> VisionDims | None:
        """The projector's shape, cut."""
        if self.vision is None:
            return None
        whole = VISION[self.vision]
        kept = self.vision_cut or whole.blocks
        return replace(whole, blocks=kept, deepstack=tuple(i * kept // whole.blocks for i in whole.deepstack))

    @property
    def ghosts(self) -> tuple[str, str | None]:
        """What the files of this case hold, as digests: a name for them, and how a kept row knows that it is stale."""
        text = f"{text_metadata(self.dims, self.quant)} {text_tensors(self.dims, self.quant)}"
        if self.eyes is None:
            return _digest(text), None
        return _digest(text), _digest(f"{vision_metadata(self.eyes)} {vision_tensors(self.eyes)}")

    @property
    def name(self) -> str:
        """The model as the page names it."""
        cut = f", {self.cut} of {SHAPES[self.shape].layers} layers" if self.cut else ""
        return f"{self.shape} {self.quant}{cut}{self._projector()}"

    def _projector(self) -> str:
        if self.vision is None:
            return ""
        part = f"{self.vision_cut} of {VISION[self.vision].blocks} blocks of " if self.vision_cut else ""
        return f", with {part}the projector of {self.vision}"

    @property
    def environment(self) -> dict[str, str]:
        """What the server's environment says of this load, as a person would set it."""
        said = {"OLLAMA_KV_CACHE_TYPE": self.kv, "OLLAMA_NUM_PARALLEL": str(self.parallel)}
        if self.flash_attn == "off":
            said["OLLAMA_FLASH_ATTENTION"] = "0"
        if self.unified:
            said["LLAMA_ARG_KV_UNIFIED"] = "1"
        if self.devices > 1:
            said |= {"GGML_VK_VISIBLE_DEVICES": ",".join("0" * self.devices), "OLLAMA_SCHED_SPREAD": "1"}
        return said

    def settings(self) -> LoadSettings:
        """The same for the ladder; where an edge is asked for the context is only where the search begins."""
        layers = self.dims.layers
        return LoadSettings(
            num_ctx=self.num_ctx,
            parallel=self.parallel,
            batch=self.batch,
            ubatch=self.batch,
            kv_type_k=self.kv,
            kv_type_v=self.kv,
            flash_attn=self.flash_attn,
            gpu_layers=(layers + 1) // 2 if self.layers == "half" else self.layers,
            image_tokens=NO_GROWTH,
            kv_unified=self.unified,
        )

    def __str__(self) -> str:
        more = [f"{self.kv}, layers {self.layers}", *(["no flash attention"] if self.flash_attn == "off" else [])]
        more += [f"batch {self.batch}"] if self.batch != 512 else []
        more += [f"{self.parallel} at once"] if self.parallel > 1 else []
        more += ["in one cache"] if self.unified else []
        more += [f"limit at {self.margin:+} %"] if self.margin is not None else []
        more += [f"just {self.edge} the limit"] if self.edge else []
        more += [f"{self.devices} devices"] if self.devices > 1 else []
        more += ["through Ollama"] if self.through == "ollama" else []
        return f"{self.name}, context {self.num_ctx}, {', '.join(more)}"


def cut_to(dims: Dims, layers: int) -> Dims:
    """The first layers of a shape, with the keys that have a value for each layer cut too."""

    def cut(value: Any) -> Any:
        return value[:layers] if isinstance(value, (list, tuple)) and len(value) == dims.layers else value

    return replace(dims, layers=layers, more_keys=tuple((key, cut(value)) for key, value in dims.more_keys))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def fitting_cut(shape: str) -> int:
    """How many layers to keep so that the rest of a device of 2 GiB is for cache and compute; 0 for all of them."""
    dims = SHAPES[shape]
    if text_model(dims).file_bytes <= KEPT_BYTES:
        return 0
    listed = any(key == "attention.sliding_window_pattern" for key, _ in dims.more_keys)
    period = LISTED_PERIOD if listed else PERIOD
    kept = dims.layers - 1
    while kept > period and text_model(cut_to(dims, kept)).file_bytes > KEPT_BYTES:
        kept -= 1
    return max(kept - kept % period, min(period, dims.layers))


Changes = tuple[dict[str, Any], ...]

# --- the settings that every model is loaded under

_EVERY: Changes = (
    {},
    {"num_ctx": 8192, "kv": "q8_0"},
    {"num_ctx": 16384, "kv": "q4_0", "batch": 1024},
    {"num_ctx": 3000, "flash_attn": "off", "quant": "Q8_0"},
    {"num_ctx": 4096, "parallel": 3, "batch": 256},
    {"layers": "half"},
    {"num_ctx": 8192, "layers": "half", "kv": "q8_0", "batch": 1024, "quant": "Q4_0"},
    {"num_ctx": 2048, "layers": "half", "flash_attn": "off"},
    {"num_ctx": 6000, "layers": 1, "kv": "q4_0", "parallel": 2},
    {"layers": 0},
)
# the limit of the fit, in percent above the need; it is a whole number of MiB, so the nearest are less than one away
_CLOSE: Changes = (
    {"margin": -2.5},
    {"margin": 2.5, "num_ctx": 8192, "kv": "q8_0"},
    {"margin": -0.001, "num_ctx": 6000, "kv": "q4_0"},
    {"margin": 0.001, "num_ctx": 6000, "kv": "q4_0"},
    {"margin": -1.0, "num_ctx": 2048, "flash_attn": "off"},
    {"margin": 0.5, "parallel": 2, "batch": 1024},
)
_SOME: Changes = (
    {"num_ctx": 2048, "quant": "Q8_0"},
    {"num_ctx": 12288, "kv": "q8_0", "batch": 2048},
    {"layers": "half", "num_ctx": 2500, "parallel": 2},
    {"margin": -0.4, "num_ctx": 5000},
    {"margin": 0.2, "num_ctx": 10000, "kv": "q8_0"},
)

# an architecture that few people run
_FEW: Changes = (
    {},
    {"num_ctx": 8192, "kv": "q8_0", "batch": 1024},
    {"num_ctx": 3000, "flash_attn": "off", "layers": "half"},
    {"num_ctx": 6000, "layers": 1, "kv": "q4_0", "parallel": 2},
    {"margin": -0.001, "num_ctx": 2048},
)

# the architectures that most people run, with the shape that stands for each; for another it is the smallest there is
_MOST_RUN = {
    "llama": "llama-3.2-1b",
    "qwen2": "qwen2.5-0.5b",
    "qwen2vl": "qwen2-vl-2b",
    "qwen3": "qwen3-0.6b",
    "qwen3vl": "qwen3-vl-2b",
    "qwen3moe": "small-moe",
    "qwen3vlmoe": "qwen3-vl-30b-a3b-small",
    "qwen35moe": "qwen3.6-35b-a3b-small",
    "qwen3next": "qwen3-next-small",
    "qwen35": "qwen3.5-0.8b",
    "gemma2": "gemma-2-2b-small-head",
    "gemma3": "gemma-3-1b-small-head",
    "gemma4": "gemma-4-26b-small",
    "gpt-oss": "gpt-oss-small",
    "phi3": "phi-4-mini",
    "mistral3": "ministral-3-3b",
    "granite": "granite-3.3-2b",
    "granitemoe": "granite-3.1-1b-a400m",
    "cohere2": "command-r7b-small",
    "lfm2": "lfm2-350m",
    "lfm2moe": "lfm2-moe-small",
}
_BESIDES = (
    "smollm2-135m",
    "tinyllama-1.1b",
    "llama-3.1-8b",
    "qwen2.5-7b",
    "qwen3-4b",
    "qwen3-30b-a3b",
    "qwen3.5-2b",
    "qwen3.5-9b",
    "qwen3.6-27b",
    "gemma-2-9b",
    "gemma-3-270m",
    "gemma-3-4b",
    "phi-3.5-mini",
    "lfm2-1.2b",
)

# text model, layers kept, projector, blocks kept
_SEEING = (
    ("qwen3-vl-2b", 4, "qwen3-vl-2b", 0),
    ("qwen3-vl-8b", 4, "qwen3-vl-8b", 0),
    ("qwen2-vl-2b", 4, "qwen2-vl", 8),
    ("qwen2.5-vl-3b", 4, "qwen2.5-vl-3b", 9),
    ("qwen3.5-0.8b", 8, "qwen3.5-0.8b", 0),
    ("qwen3.5-4b", 4, "qwen3.5-4b", 0),
    ("qwen3-vl-30b-a3b-small", 4, "qwen3-vl-2b", 12),
)
_EVERY_SEEING: Changes = (
    {"num_ctx": 2048},
    {"num_ctx": 8192, "kv": "q8_0", "batch": 1024},
    {"num_ctx": 4096, "kv": "q4_0", "layers": "half"},
    {"num_ctx": 6000, "margin": -0.3},
)
# more verdicts, of the one that loads fastest
_CLOSE_SEEING: Changes = (
    {"num_ctx": 6000, "margin": 0.3},
    {"num_ctx": 4096, "kv": "q8_0", "margin": -2.0},
    {"num_ctx": 4096, "parallel": 2, "margin": 2.0},
)

# several sequences in one cache
_SHARING: Changes = (
    {"parallel": 4, "num_ctx": 2048},
    {"parallel": 3, "num_ctx": 2500, "kv": "q8_0", "batch": 1024, "layers": "half"},
    {"parallel": 2, "flash_attn": "off"},
)
_SHARING_SHAPES = (
    *("qwen3-0.6b", "qwen3.5-0.8b", "qwen2.5-0.5b", "small-moe", "gemma-3-1b-small-head", "gpt-oss-small", "lfm2-350m"),
    *("gemma-4-26b-small", "granite-3.1-1b-a400m"),
)
_SHARING_ARCHITECTURES = frozenset({"mamba2", "jamba", "falcon-h1", "granitehybrid", "deepseek2", "rwkv7"})

_TWO_DEVICES = (
    Case("qwen3-0.6b", devices=2),
    Case("qwen3-0.6b", devices=2, num_ctx=8192, kv="q8_0", layers="half"),
    Case("llama-3.2-1b", devices=2, num_ctx=16384, kv="q4_0", batch=1024),
    Case("qwen3.5-0.8b", devices=2, num_ctx=8192),
    Case("gemma-3-1b-small-head", devices=2, num_ctx=8192, parallel=2),
    Case("small-moe", devices=2, num_ctx=4096),
    Case("qwen3-0.6b", devices=2, num_ctx=4096, flash_attn="off"),
    *(
        Case(shape, devices=2, num_ctx=6000, layers="auto", margin=margin)
        for shape in ("qwen3-0.6b", "qwen3.5-0.8b", "small-moe")
        for margin in (-0.001, 0.001)
    ),
)

_THROUGH_OLLAMA = (
    Case("qwen3-0.6b"),
    Case("qwen3-0.6b", num_ctx=12288, batch=1024),
    Case("qwen2.5-0.5b", num_ctx=32768, batch=2048),
    Case("smollm2-135m", quant="F16", num_ctx=8192),
    Case("llama-3.2-1b", num_ctx=6000, batch=128),
    Case("qwen3.5-0.8b", num_ctx=16384),
    Case("small-moe"),
    Case("small-moe", layers=5),
    Case("small-moe", layers="auto", num_ctx=32768),
    Case("qwen3-1.7b", layers=10),
    Case("qwen3.5-2b", layers=13),
    Case("gemma-3-1b-small-head", num_ctx=8192),
    Case("gpt-oss-small", num_ctx=8192),
    Case("granite-3.1-1b-a400m", num_ctx=8192),
    Case("lfm2-350m", num_ctx=8192),
    *(
        Case(shape, layers="auto", edge=edge)
        for shape in ("qwen3-0.6b", "qwen3.5-0.8b", "llama-3.2-1b", "qwen2.5-1.5b", "granite-3.1-1b-a400m")
        for edge in ("below", "above")
    ),
    Case("qwen3-vl-2b", vision="qwen3-vl-2b", num_ctx=2048, cut=4),
    Case("qwen3-vl-2b", vision="qwen3-vl-2b", layers=3, cut=4),
    # more than Ollama puts on a device of 2 GiB, and just less
    Case("qwen2.5-vl-3b", vision="qwen2.5-vl-3b", cut=4),
    Case("qwen2.5-vl-3b", vision="qwen2.5-vl-3b", cut=4, vision_cut=25),
    Case("qwen2.5-vl-3b", vision="qwen2.5-vl-3b", cut=4, vision_cut=26),
    Case("qwen2-vl-2b", vision="qwen2-vl", num_ctx=2048, cut=4, vision_cut=25),
    Case("qwen2-vl-2b", vision="qwen2-vl", num_ctx=2048, cut=4, vision_cut=26),
    Case("qwen2.5-vl-3b", vision="qwen2.5-vl-3b", cut=4, vision_cut=9),
    Case("qwen2-vl-2b", vision="qwen2-vl", num_ctx=2048, cut=4, vision_cut=8),
    Case("qwen3.5-0.8b", vision="qwen3.5-0.8b", cut=4),
    Case("qwen3.5-0.8b", vision="qwen3.5-0.8b", layers="auto", edge="below", cut=8),
    Case("qwen3.5-0.8b", vision="qwen3.5-0.8b", layers="auto", edge="above", cut=8),
    # other settings of the server
    Case("qwen3-0.6b", num_ctx=16384, kv="q8_0"),
    Case("qwen3-1.7b", num_ctx=8192, layers=20, kv="q8_0"),
    Case("qwen3.5-0.8b", num_ctx=32768, kv="q4_0"),
    Case("qwen2.5-1.5b", num_ctx=16384, layers="auto", kv="q4_0"),
    Case("qwen3-0.6b", flash_attn="off"),
    Case("qwen3.5-0.8b", num_ctx=8192, layers=12, flash_attn="off"),
    Case("llama-3.2-1b", num_ctx=2500, parallel=3),
)


def grid() -> tuple[Case, ...]:
    """Every load, each once."""
    cases = [
        *_THROUGH_OLLAMA_NAMED,
        *(case for shape in _MOST_RUN.values() for case in _under(shape, (*_EVERY, *_CLOSE))),
        *(case for shape in _of_other_architectures() for case in _under(shape, _FEW)),
        *(case for shape in _BESIDES for case in _under(shape, _SOME)),
        *(case for shape in _sharing() for case in _under(shape, _SHARING)),
        *_seeing(),
        *_TWO_DEVICES,
    ]
    return tuple(dict.fromkeys(cases))


def _of_other_architectures() -> list[str]:
    """The smallest shape that the tests have of each architecture that is not among the most run."""
    smallest: dict[str, str] = {}
    for shape, dims in SHAPES.items():
        held = smallest.get(dims.architecture)
        if dims.architecture not in _MOST_RUN and (held is None or _size(shape) < _size(held)):
            smallest[dims.architecture] = shape
    return list(smallest.values())


def _sharing() -> list[str]:
    """The shapes that are loaded with several sequences in one cache."""
    others = [shape for shape in _of_other_architectures() if SHAPES[shape].architecture in _SHARING_ARCHITECTURES]
    return [*_SHARING_SHAPES, *others]


@cache
def _size(shape: str) -> int:
    return text_model(SHAPES[shape]).file_bytes


def _under(shape: str, settings: Iterable[dict[str, Any]]) -> Iterator[Case]:
    for changes in settings:
        usual = "MXFP4" if SHAPES[shape].architecture == "gpt-oss" else "Q4_K_M"
        known: dict[str, Any] = {"quant": usual, "layers": "auto" if "margin" in changes else "all", **changes}
        if usual == "MXFP4":
            known["quant"] = usual
        if SHAPES[shape].head % BLOCK_OF_CACHES:
            known["kv"] = "f16"  # the runtime refuses the others
        if settings is _SHARING:
            known["unified"] = True
        yield Case(shape, cut=fitting_cut(shape), **known)


def _seeing() -> Iterator[Case]:
    for number, (shape, cut, vision, blocks) in enumerate(_SEEING):
        for changes in (*_EVERY_SEEING, *(() if number else _CLOSE_SEEING)):
            known: dict[str, Any] = {"layers": "auto" if "margin" in changes else "all", **changes}
            if SHAPES[shape].head > 128:
                known["kv"] = (
                    "f16"  # a projector comes after the warm-up, which takes minutes with such heads quantized
                )
            yield Case(shape, cut=cut, vision=vision, vision_cut=blocks, **known)


_THROUGH_OLLAMA_NAMED = tuple(
    replace(case, through="ollama", quant="MXFP4" if case.shape == "gpt-oss-small" else case.quant)
    for case in _THROUGH_OLLAMA
)
