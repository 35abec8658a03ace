"""What Ollama's rules ask of a model and of a request: plain values, so that the rules stay pure.

Source: fs/ggml/ggml.go (KV), server/images.go (Capabilities, GetModel), llm/llama_server.go (NewLlamaServerRunner,
mmprojMemoryRequirement), server/routes.go (usesOllamaRenderedChat), api/types.go (Options); Ollama v0.32.14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwenops.runtime.envconfig import boolean

# Tokens that a draft model proposes ahead where nobody says (api/types.go, DefaultOptions).
DRAFTED_BY_A_MODEL = 4
# Architectures whose vision tensors, inside the model file, Ollama's own llama-server can read: for them it passes
# the model file itself as the projector (llm/llama_server.go, compatClipArches).
INLINE_VISION = frozenset(
    {
        "gemma3",
        "gemma4",
        "qwen35",
        "qwen35moe",
        "qwen25vl",
        "qwen3vl",
        "qwen3vlmoe",
        "mistral3",
        "deepseekocr",
        "glmocr",
        "llama4",
        "nemotron_h_omni",
    }
)


@dataclass(frozen=True)
class ModelFacts:
    """One model as the scheduler sees it.

    `path` is the model's blob or file as the server would name it, `file_bytes` its size on disk. `family` and
    `families` are the config's (`model_family`): what we write there decides rules below. `projector_bytes` is the
    plain sum of the projector's tensors. `pooling` marks an embedding model, `renders_chat` that Ollama renders
    the prompt itself.
    """

    path: str
    architecture: str
    file_bytes: int
    block_count: int
    train_ctx: int = 0
    head_count_max: int = 1
    head_count_kv_min: int = 1
    embedding_length: int = 0
    projector_path: str | None = None
    projector_bytes: int = 0
    family: str = ""
    families: tuple[str, ...] = ()
    vision: bool = False
    pooling: bool = False
    renders_chat: bool = False
    adapters: tuple[str, ...] = ()
    draft_path: str | None = None
    draft_type: str = ""

    @property
    def layers(self) -> int:
        """Layers that can be offloaded: the blocks and the output layer."""
        return self.block_count + 1


@dataclass(frozen=True)
class RunOptions:
    """The options of a request or a Modelfile that change a load; None or -1 where they were not given."""

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int = 0
    num_keep: int = 4
    draft_num_predict: int | None = None
    shift: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> RunOptions:
        """The options among a model's PARAMETERs or a request's `options`; the others are kept in `extra`."""
        known = {name: params[name] for name in cls.__dataclass_fields__ if name != "extra" and name in params}
        return cls(**known, extra={k: v for k, v in params.items() if k not in known})


def model_facts(
    path: str,
    metadata: Mapping[str, Any],
    *,
    file_bytes: int,
    projector_path: str | None = None,
    projector_bytes: int = 0,
    inline_vision_bytes: int = 0,
    has_mtp_tensors: bool = False,
    config: Mapping[str, Any] | None = None,
    has_template: bool = False,
    environment: Mapping[str, str] | None = None,
    adapters: Sequence[str] = (),
    draft_path: str | None = None,
    draft_architecture: str = "",
) -> ModelFacts:
    """The facts of a model from its GGUF metadata and, where it is registered, its config.

    `projector_bytes` is the plain sum of tensor bytes of the projector file, `inline_vision_bytes` that of the
    tensors below `v.`, `mm.` and `a.` inside the model file. Without a config the family is the architecture, which
    is what Ollama writes when it makes a model from a GGUF.
    """
    architecture = str(metadata.get("general.architecture", "unknown"))
    config = config or {}

    def hparam(key: str, default: Any = None) -> Any:
        return metadata.get(f"{architecture}.{key}", default)

    if projector_path is None and inline_vision_bytes and architecture in INLINE_VISION:
        projector_path, projector_bytes = path, inline_vision_bytes
    draft_type = ""
    if draft_path:
        draft_type = "draft-dflash" if draft_architecture == "dflash" else "draft-mtp"
    elif int(hparam("nextn_predict_layers", 0) or 0) > 0 or (
        architecture in ("qwen35", "qwen35moe") and has_mtp_tensors
    ):
        draft_type = "draft-mtp"
    return ModelFacts(
        path=path,
        architecture=architecture,
        file_bytes=file_bytes,
        block_count=int(hparam("block_count", 0) or 0),
        train_ctx=int(hparam("context_length", 0) or 0),
        head_count_max=_extreme(hparam("attention.head_count", 1), max),
        head_count_kv_min=_extreme(hparam("attention.head_count_kv", 1), min),
        embedding_length=int(hparam("embedding_length", 0) or 0),
        projector_path=projector_path,
        projector_bytes=projector_bytes,
        family=str(config.get("model_family") or architecture),
        families=tuple(config.get("model_families") or (architecture,)),
        vision=projector_path is not None or hparam("vision.block_count") is not None,
        pooling=hparam("pooling_type") is not None,
        renders_chat=renders_chat(config, has_template=has_template, environment=environment or {}),
        adapters=tuple(adapters),
        draft_path=draft_path,
        draft_type=draft_type,
    )


def renders_chat(config: Mapping[str, Any], *, has_template: bool, environment: Mapping[str, str]) -> bool:
    """Whether Ollama renders chats itself, so that llama-server is started without the GGUF's own template.

    A RENDERER or PARSER does it always, a TEMPLATE unless OLLAMA_GO_TEMPLATE is off. (The server may still prefer
    the GGUF's template where that one can do more than the TEMPLATE; this changes no memory.)
    """
    if config.get("renderer") or config.get("parser"):
        return True
    return has_template and boolean(environment, "OLLAMA_GO_TEMPLATE", default=True)


def _extreme(value: Any, pick: Any) -> int:
    if isinstance(value, list | tuple):
        return int(pick(value)) if value else 1
    return int(value) if isinstance(value, int | float) else 1
