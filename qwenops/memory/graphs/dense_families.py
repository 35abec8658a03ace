"""Which graph the dense models and mixtures beside Llama, Qwen and Gemma have, by architecture."""

from __future__ import annotations

from typing import Final

from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.dense import Granite, Phi3
from qwenops.memory.graphs.gemma import Gemma1
from qwenops.memory.graphs.olmo import Olmo2, Olmoe
from qwenops.memory.graphs.parallel import Cohere2, Falcon, GptNeoX, Parallel, Phi2, StableLm
from qwenops.memory.graphs.variants import (
    ChatGlm,
    Deci,
    Gpt2,
    HunyuanDense,
    LayerNorm,
    Nemotron,
    Qwen2Moe,
    SeedOss,
    SharesByHeader,
    SmolLm3,
    SquaredRelu,
)

DENSE: Final[dict[str, type[Decoder]]] = {
    "arcee": SquaredRelu,
    "bailingmoe2": SharesByHeader,
    "chatglm": ChatGlm,
    "cohere2": Cohere2,
    "command-r": Parallel,
    "deci": Deci,
    "dots1": SharesByHeader,
    "ernie4_5": Decoder,
    "ernie4_5-moe": Decoder,
    "falcon": Falcon,
    "gemma": Gemma1,
    "gpt2": Gpt2,
    "gptneox": GptNeoX,
    "hunyuan-dense": HunyuanDense,
    "internlm2": Decoder,
    "minicpm": Granite,
    "nemotron": Nemotron,
    "olmo2": Olmo2,
    "olmoe": Olmoe,
    "phi2": Phi2,
    "phimoe": Phi3,
    "qwen2moe": Qwen2Moe,
    "seed_oss": SeedOss,
    "smollm3": SmolLm3,
    "stablelm": StableLm,
    "starcoder2": LayerNorm,
}
