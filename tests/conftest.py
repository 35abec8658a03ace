"""Real parts as fixtures, and an own folder for qwenops' files in every test.

A test marked server, vulkan, library, painter, go or browser is skipped by name where that part is missing; with
CI=true it fails instead, so that nothing is silently left out.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.parts.layout import Layout
from tests.support import tiny
from tests.support.parts import in_ci, layout, missing
from tests.support.server import OllamaServer, start_ollama
from tests.support.tiny import TinyModel

# A run that was put into the background ignores Ctrl-C, and its children would; the tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

PART_MARKERS = ("server", "vulkan", "library", "painter", "go", "browser")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip by name, or fail in CI, what needs a part that is not here."""
    for marker in PART_MARKERS:
        if item.get_closest_marker(marker) and (why := missing(marker)):
            _without(why)


def _without(why: str) -> None:
    if in_ci():
        pytest.fail(f"a part is missing, and CI=true allows none to be: {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(autouse=True)
def qwenops_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that qwenops writes goes below this test's own folder."""
    home = tmp_path / "qwenops-home"
    monkeypatch.setenv("QWENOPS_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def parts() -> Layout:
    """Where the real parts lie. Ask for the marker that a test needs, then take paths from here."""
    return layout()


@pytest.fixture(scope="session")
def smollm(parts: Layout) -> Path:
    """A real 135M chat model (llama architecture, Q4_1)."""
    if not parts.smollm.exists():
        _without(f"no {parts.smollm.name} in {parts.root} (make parts)")
    return parts.smollm


@pytest.fixture(scope="session")
def llama_quantize(parts: Layout) -> Path:
    """llama.cpp's own quantizer."""
    tool = parts.reference("llama-quantize")
    if not tool.exists():
        _without(f"no {tool.name} in {parts.root} (make parts)")
    return tool


def _tiny(family: str) -> TinyModel:
    try:
        return tiny.get(family)
    except FileNotFoundError as missing_file:
        _without(str(missing_file))
        raise


@pytest.fixture(scope="session")
def tiny_qwen3vl() -> TinyModel:
    """A small random Qwen3-VL with its projector (one deepstack layer)."""
    return _tiny("qwen3vl")


@pytest.fixture(scope="session")
def tiny_qwen25vl() -> TinyModel:
    """A small random Qwen2.5-VL with its projector (window attention)."""
    return _tiny("qwen25vl")


@pytest.fixture(scope="session")
def tiny_qwen35() -> TinyModel:
    """A small random Qwen3.5 (recurrent and attention layers) with its projector."""
    return _tiny("qwen35")


@pytest.fixture(scope="session")
def ollama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    """One real Ollama for the whole run, software GPU on. Mark the test `server`."""
    if why := missing("server"):
        _without(why)
    server = start_ollama(tmp_path_factory.mktemp("ollama"))
    yield server
    server.stop()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., OllamaServer]]:
    """Starts further servers with settings of their own; all of them end with the test.

    start_server(settings={"OLLAMA_KV_CACHE_TYPE": "q8_0"}, gpu=False) -> OllamaServer
    """
    if why := missing("server"):
        _without(why)
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> OllamaServer:
            folder = tmp_path / f"server-{len(list(tmp_path.glob('server-*')))}"
            server = start_ollama(folder, **options)
            stack.callback(server.stop)
            return server

        yield start
