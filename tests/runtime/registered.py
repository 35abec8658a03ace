"""Put models into a test server's store by link: a reader's tests need no other way."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwenops.model.gguf_header import read_header
from qwenops.runtime import store as s
from qwenops.runtime.facts import ModelFacts, model_facts


def register(
    store: Path,
    name: str,
    model: Path,
    *,
    projector: Path | None = None,
    config: Mapping[str, Any] | None = None,
    template: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ModelFacts:
    """Register a model under `name` and return its facts, with the paths that the server will name."""
    header = read_header(model)
    blob, layer = _link(store, model, s.MODEL)
    layers = [layer]
    projector_blob = None
    if projector:
        projector_blob, layer = _link(store, projector, s.PROJECTOR)
        layers.append(layer)
    if template:
        layers.append(_write(store, template.encode(), s.TEMPLATE))
    told = {"model_format": "gguf", "model_family": header.architecture, "model_families": [header.architecture]}
    told |= dict(config or {})
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _write(store, json.dumps(told).encode(), s.CONFIG),
        "layers": layers,
    }
    path = store / "manifests/registry.ollama.ai/library" / name / "latest"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return model_facts(
        str(blob),
        header.metadata,
        file_bytes=header.file_bytes,
        projector_path=str(projector_blob) if projector_blob else None,
        projector_bytes=read_header(projector).tensor_bytes if projector else 0,
        config=told,
        has_template=template is not None,
        environment=environment,
    )


def _link(store: Path, file: Path, media_type: str) -> tuple[Path, dict[str, Any]]:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        try:
            os.link(file, blob)
        except OSError:
            blob.write_bytes(file.read_bytes())
    return blob, {"mediaType": media_type, "digest": f"sha256:{digest}", "size": blob.stat().st_size}


def _write(store: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    path = store / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
