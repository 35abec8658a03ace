"""Without a server: its state is said, and what to type fits that state."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwenops.errors import BadInput, ServerDown
from qwenops.ollama.models import list_models, show_model
from qwenops.ollama.register import register
from qwenops.ollama.remove import remove_model
from qwenops.runtime.client import Client
from qwenops.runtime.host import endpoint
from qwenops.runtime.silence import silence_of
from qwenops.runtime.types import Runtime
from tests.ollama.support import minimal_gguf, spec_for, store_alone
from tests.runtime.test_client import free_port, silent_socket

Step = Callable[[Runtime, Path], object]
STEPS: dict[str, Step] = {
    "list": lambda runtime, file: list_models(runtime),
    "show": lambda runtime, file: show_model(runtime, "x"),
    "remove": lambda runtime, file: remove_model(runtime, "x"),
    "register": lambda runtime, file: register(spec_for(file), "x", runtime),
    "register by the api": lambda runtime, file: register(spec_for(file), "x", runtime, via="api"),
}


def unanswered(host: str) -> Runtime:
    """What is known of a server that was asked once."""
    where = endpoint(host)
    with pytest.raises(ServerDown) as told:
        Client(where).version(timeout_s=0.3)
    return Runtime(place="none", url=where.url, silence=silence_of(where, told.value, here=True))


@pytest.fixture(scope="module")
def hung() -> Iterator[Runtime]:
    with silent_socket() as host:
        yield unanswered(host)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_hung_server_is_to_be_restarted_not_started(hung: Runtime, tmp_path: Path, step: Step) -> None:
    with pytest.raises(ServerDown, match=r"did not answer within 0\.3 s") as told:
        step(hung, minimal_gguf(tmp_path / "model.gguf"))
    assert told.value.exit_code == 3
    assert "restart" in told.value.do[0]
    assert not any(line.startswith("ollama serve") for line in told.value.do)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_where_nothing_listens_it_is_to_be_started(tmp_path: Path, step: Step) -> None:
    with pytest.raises(ServerDown, match="No Ollama server listens") as told:
        step(unanswered(f"127.0.0.1:{free_port()}"), minimal_gguf(tmp_path / "model.gguf"))
    assert told.value.do[0] == "ollama serve"


@pytest.mark.parametrize("step", ["show", "remove"])
def test_a_store_that_can_be_read_says_what_it_lacks_and_no_other_does(tmp_path: Path, step: str) -> None:
    with pytest.raises(ServerDown, match="whether it has a model x:latest is not known"):
        STEPS[step](store_alone(tmp_path / "not there"), tmp_path)
    os.mkdir(tmp_path / "store")
    with pytest.raises(BadInput, match="There is no model x:latest in "):
        STEPS[step](store_alone(tmp_path / "store"), tmp_path)
