"""A registered model's load is the one its manifest, its parameters and the server's environment ask for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.machine.types import Device
from qwenops.memory.types import LoadSettings
from qwenops.runtime.types import Runtime, Store
from qwenops.setup.registered import load_settings, registered_model
from qwenops.units import GIB
from tests.support.shapes import TEXT, write_text

CARD = Device("CUDA0", "cuda", "a card", 24 * GIB, 24 * GIB, source="runtime")
DOCKER, OLLAMA = "application/vnd.docker", "application/vnd.ollama.image"
SMALL = replace(TEXT["qwen3.5-0.8b"], layers=4, vocabulary=1000)


def _blob(store: Path, kind: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    (store / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _settings(
    folder: Path, *, params: dict[str, Any], draft: bool = False, environment: dict[str, str] | None = None
) -> LoadSettings:
    """What a server with this environment would load the model `m` with."""
    store = folder / "store"
    main = write_text(folder / "m.gguf", replace(SMALL, draft_layers=0 if draft else 1)).read_bytes()
    layers = [_blob(store, f"{OLLAMA}.model", main)]
    if draft:
        head = write_text(folder / "head.gguf", replace(SMALL, draft_layers=1)).read_bytes()
        layers.append(_blob(store, f"{OLLAMA}.draft", head))
    layers.append(_blob(store, f"{OLLAMA}.params", json.dumps(params).encode()))
    config = _blob(store, f"{DOCKER}.container.image.v1+json", b'{"model_format": "gguf", "model_family": "qwen35"}')
    manifest = {"schemaVersion": 2, "mediaType": f"{DOCKER}.distribution.manifest.v2+json", "config": config}
    path = store / "manifests/registry.ollama.ai/library/m/latest"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**manifest, "layers": layers}))
    runtime = Runtime(
        place="local",
        url="http://127.0.0.1:11434",
        store=Store(path=store, source="test", writable=True, confirmed=True),
        devices=(CARD,),
        environment=environment or {},
    )
    one = registered_model("m", runtime)
    assert one is not None
    return load_settings(one, runtime)


@pytest.mark.parametrize(
    ("params", "draft", "tokens"),
    [({}, False, 0), ({"draft_num_predict": 3}, False, 3), ({}, True, 4), ({"draft_num_predict": 0}, True, 0)],
    ids=["a head alone is idle", "a head that is asked", "a draft model drafts four", "unless it must not"],
)
def test_what_drafts_and_how_far_ahead(params: dict[str, Any], draft: bool, tokens: int, tmp_path: Path) -> None:
    settings = _settings(tmp_path, params=params, draft=draft)
    assert settings.draft_tokens == tokens
    assert bool(settings.draft_model) is draft


def test_experts_and_shares_are_as_the_servers_environment_says(tmp_path: Path) -> None:
    environment = {"LLAMA_ARG_N_CPU_MOE": "3", "LLAMA_ARG_TENSOR_SPLIT": "3,1"}
    settings = _settings(tmp_path, params={}, environment=environment)
    assert (settings.n_cpu_moe, settings.tensor_split, settings.main_gpu) == (3, (3.0, 1.0), None)


def test_a_main_gpu_is_the_models_own_parameter(tmp_path: Path) -> None:
    assert _settings(tmp_path, params={"main_gpu": 0}).main_gpu == 0
