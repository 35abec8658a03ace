"""A server that is too old for a model is named before anything is written."""

from __future__ import annotations

import pytest

from qwenops.errors import ServerDown
from qwenops.runtime.types import Runtime
from qwenops.setup.versions import check_server_knows, version_of
from tests.support.shapes import TEXT, text_model


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.32.14", (0, 32, 14)), ("0.33.0-rc2", (0, 33, 0)), ("0.0.0", ()), ("", ()), (None, ()), ("dev", ())],
)
def test_versions_are_read_as_numbers(text: str | None, numbers: tuple[int, ...]) -> None:
    assert version_of(text) == numbers


@pytest.mark.parametrize("version", ["0.30.0", "0.32.14", "0.0.0", "1.0.0"])
def test_a_new_enough_or_unnumbered_server_is_taken(version: str) -> None:
    check_server_knows(text_model(TEXT["qwen3-vl-2b"]), Runtime("local", "http://127.0.0.1:11434", version))


def test_an_old_server_is_refused_with_the_version_that_is_needed() -> None:
    with pytest.raises(ServerDown, match=r"Ollama 0\.12\.6 is too old for .*qwen3vl.*needs 0\.30\.0"):
        check_server_knows(text_model(TEXT["qwen3-vl-2b"]), Runtime("local", "http://127.0.0.1:11434", "0.12.6"))
