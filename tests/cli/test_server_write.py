"""qwenops server write as a user calls it; no server is needed where the form is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import qwenops


@pytest.mark.parametrize(("cap", "warned"), [("512", True), ("1024", False), ("many", False)])
def test_a_cap_under_which_models_do_not_load_is_warned_of(cap: str, warned: bool) -> None:
    answer = qwenops("server", "write", f"LLAMA_ARG_IMAGE_MAX_TOKENS={cap}", "--as", "env")
    assert answer.code == 0
    assert ("do not load" in answer.err) == warned


def test_a_file_keeps_the_line_ends_of_its_form(tmp_path: Path) -> None:
    for form, end in (("windows", b"\r\n"), ("env", b"\n")):
        qwenops("server", "write", "OLLAMA_KV_CACHE_TYPE=q8_0", "--as", form, "-o", tmp_path / form)
        lines = (tmp_path / form).read_bytes().split(b"\n")
        assert {line.endswith(b"\r") for line in lines[:-1]} == {end == b"\r\n"}
