"""A model in several files: Ollama runs one, so the store cannot do it, and the API can."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.runtime.client import Client
from scripts.parts.layout import Layout
from tests.ollama.support import runtime_of, snapshot

pytestmark = pytest.mark.server


@pytest.fixture
def shards(parts: Layout, smollm: Path, tmp_path: Path) -> tuple[Path, ...]:
    """SmolLM2 cut into files of at most 100 tensors by llama.cpp's own tool."""
    tool = parts.root / "reference" / "bin" / "llama-gguf-split"
    if not tool.exists():
        pytest.skip(f"no llama-gguf-split in {parts.root}")
    subprocess.run(
        [tool, "--split", "--split-max-tensors", "100", smollm, tmp_path / "smol"], check=True, capture_output=True
    )
    found = tuple(sorted(tmp_path.glob("smol-*-of-*.gguf")))
    assert len(found) > 1
    return found


def test_shards_are_refused_by_link_and_merged_by_the_api(start_server: Any, shards: tuple[Path, ...]) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    before = snapshot(server.store)

    with pytest.raises(BadInput, match=f"is one of {len(shards)} shards") as refused:
        register(Spec(shards=(shards[1],)), "split", runtime)
    assert "--via api" in refused.value.do[0]
    assert snapshot(server.store) == before

    done = register(Spec(shards=(shards[0],), parameters={"num_ctx": 256}), "split", runtime, via="api")

    assert done.how == "uploaded"
    assert Client(server.url).generate("split", "Hi", options={"num_predict": 2}).tokens > 0


def test_a_missing_shard_is_named_before_anything_is_sent(start_server: Any, shards: tuple[Path, ...]) -> None:
    server = start_server(gpu=False)
    shards[1].unlink()

    with pytest.raises(BadInput, match=shards[1].name):
        register(Spec(shards=(shards[0],)), "split", runtime_of(server), via="api")
    assert list((server.store / "blobs").iterdir()) == []
