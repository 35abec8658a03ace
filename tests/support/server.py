"""The pinned Ollama, started for the test run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scripts.parts import server
from scripts.parts.server import OllamaServer, ServerDidNotStart
from scripts.parts.software_gpu import NO_GPU
from tests.support.parts import layout

__all__ = ["OllamaServer", "ServerDidNotStart", "start_ollama"]


def start_ollama(
    folder: Path, *, settings: Mapping[str, str] | None = None, store: Path | None = None, gpu: bool = True
) -> OllamaServer:
    """Start the pinned Ollama below `folder`; `gpu=False` hides the software GPU. The caller stops it.

    `settings` are extra environment variables of the server (OLLAMA_KV_CACHE_TYPE, LLAMA_ARG_...).
    """
    return server.start_ollama(layout().ollama, folder, settings=settings, store=store, gpu=None if gpu else NO_GPU)
