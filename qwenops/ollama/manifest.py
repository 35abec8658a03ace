"""The documents that make blobs a model: layers, configuration, manifest, as `ollama create` writes them.

Source: server/create.go (createModel, setParameters, setMessages), types/model/config.go, manifest/manifest.go,
fs/ggml/type.go (FileType), format/format.go (HumanNumber), Ollama v0.32.14.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwenops.model.quants import parameter_count
from qwenops.model.types import Header
from qwenops.ollama.gojson import go_json
from qwenops.ollama.types import Spec
from qwenops.runtime.store import (
    ADAPTER,
    DRAFT,
    LICENSE,
    MESSAGES,
    MODEL,
    PARAMS,
    PROJECTOR,
    SYSTEM,
    TEMPLATE,
)

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

WEIGHTS = frozenset({MODEL, PROJECTOR, ADAPTER, DRAFT})
"""The layers that are large and come from the user's files."""

# The names of llama_ftype by number, "" where it has none any more; 0 (all F32) is "unknown" to Ollama.
_FILE_TYPES = (
    *("", "F16", "Q4_0", "Q4_1", "", "", "", "Q8_0", "Q5_0", "Q5_1"),
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS"),
    *("IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M"),
    *("IQ4_XS", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "MXFP4_MOE", "NVFP4"),
    "Q1_0",
)

# The only architectures for which `ollama create` fills in RENDERER and PARSER by itself.
_OWN_RENDERER = {
    "gemma4": "gemma4",
    "laguna": "laguna",
    "nemotron_h": "nemotron-3-nano",
    "nemotron_h_moe": "nemotron-3-nano",
    "nemotron_h_omni": "nemotron-3-nano",
}


@dataclass(frozen=True)
class Row:
    """One row of a manifest to be written. `size` in bytes; `origin` is the file or model it came from."""

    media_type: str
    digest: str
    size: int
    origin: str | None = None

    def as_data(self) -> dict[str, Any]:
        """The row as JSON."""
        row: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**row, "from": self.origin} if self.origin else row


def text_layers(spec: Spec) -> list[tuple[str, bytes]]:
    """The small layers that a Spec asks for, as (media type, contents), in the order `ollama create` gives them."""
    layers: list[tuple[str, bytes]] = []
    if spec.template:
        layers.append((TEMPLATE, spec.template.encode()))
    if spec.system:
        layers.append((SYSTEM, spec.system.encode()))
    layers += [(LICENSE, text.encode()) for text in spec.license if text]
    if spec.parameters:
        layers.append((PARAMS, go_json(dict(sorted(spec.parameters.items())))))
    if spec.messages:
        layers.append((MESSAGES, go_json([{"role": m.role, "content": m.content} for m in spec.messages])))
    return layers


def configuration(spec: Spec, header: Header, layers: Sequence[Row], draft: Header | None = None) -> bytes:
    """The config blob for a model made of files. `header` is the text model's.

    Raises nothing; a name that Ollama does not know becomes "unknown", as there.
    """
    own = _OWN_RENDERER.get(header.architecture, "")
    config: dict[str, Any] = {
        "model_format": "gguf",
        "model_family": header.architecture,
        "model_families": [header.architecture],
        "model_type": human_number(parameter_count(header)),
        "file_type": file_type(header),
    }
    for key, value in (("renderer", spec.renderer or own), ("parser", spec.parser or own), ("requires", spec.requires)):
        if value:
            config[key] = value
    if draft is not None:
        config["draft"] = {"model_format": "gguf", "architecture": draft.architecture}
    # Ollama says amd64 and linux whatever the machine is; rootfs is what the format's specification asks for.
    rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
    return go_json({**config, "architecture": "amd64", "os": "linux", "rootfs": rootfs})


def manifest_bytes(config: Row, layers: Sequence[Row]) -> bytes:
    """The manifest file's contents."""
    return go_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.as_data(),
            "layers": [layer.as_data() for layer in layers],
        }
    )


def same_model(a: bytes, b: bytes) -> bool:
    """Whether two manifests make the same model: same configuration and layers, wherever those came from."""
    return bool(_essence(a) == _essence(b))


def _essence(raw: bytes) -> Any:
    try:
        data = json.loads(raw)
        rows = [data["config"], *data["layers"]]
        return [(row["mediaType"], row["digest"]) for row in rows]
    except (ValueError, KeyError, TypeError):
        return raw


def file_type(header: Header) -> str:
    """general.file_type by Ollama's names; "unknown" for none, for F32 and for numbers it does not know."""
    number = header.metadata.get("general.file_type", 0)
    known = isinstance(number, int) and 0 <= number < len(_FILE_TYPES)
    return (known and _FILE_TYPES[number]) or "unknown"


def human_number(count: int) -> str:
    """A count as Ollama shows it: "1.7B", "8B", "134.52M", "27K"."""
    if count >= 10**9:
        return f"{count // 10**9}B" if count % 10**9 == 0 else f"{count / 10**9:.1f}B"
    if count >= 10**6:
        return f"{count // 10**6}M" if count % 10**6 == 0 else f"{count / 10**6:.2f}M"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)
