"""Server settings as files: what a shell, launchd, compose and systemd read back is what was meant."""

from __future__ import annotations

import plistlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.runtime.server_files import FORMS, parse_settings, server_file

VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc")), max_size=40)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_how_it_is_applied_and_taken_back(form: str) -> None:
    made = server_file({"OLLAMA_KV_CACHE_TYPE": "q8_0"}, form)  # type: ignore[arg-type]
    assert "OLLAMA_KV_CACHE_TYPE" in made.text
    assert made.apply
    assert made.undo


@effort(max_examples=60, deadline=None)
@given(VALUES)
def test_a_shell_reads_the_env_file_back(value: str) -> None:
    made = server_file({"LLAMA_ARG_X": value}, "env")
    read = subprocess.run(
        ["sh", "-c", made.text + 'printf %s "$LLAMA_ARG_X"'], capture_output=True, check=True
    ).stdout.decode()
    assert read == value


@effort(max_examples=60, deadline=None)
@given(VALUES)
def test_launchd_gets_the_value_through_plist_and_shell(value: str) -> None:
    made = server_file({"LLAMA_ARG_X": value}, "launchd")
    program = plistlib.loads(made.text.encode())["ProgramArguments"]
    assert program[:2] == ["/bin/sh", "-c"]
    assert shlex.split(program[2]) == ["launchctl", "setenv", "LLAMA_ARG_X", value]


@given(VALUES)
def test_compose_reads_the_value_back(value: str) -> None:
    text = server_file({"LLAMA_ARG_X": value}, "compose").text
    quoted = re.search(r'LLAMA_ARG_X: "(.*)"$', text, re.MULTILINE | re.DOTALL)
    assert quoted is not None
    unescaped = re.sub(r"\\(.)", r"\1", quoted[1])
    assert unescaped.replace("$$", "$") == value


@given(VALUES)
def test_systemd_reads_the_value_back(value: str) -> None:
    text = server_file({"LLAMA_ARG_X": value}, "systemd").text
    quoted = re.search(r'Environment="LLAMA_ARG_X=(.*)"$', text, re.MULTILINE | re.DOTALL)
    assert quoted is not None
    assert re.sub(r"\\(.)", r"\1", quoted[1]).replace("%%", "%") == value


def test_a_drop_in_is_laid_beside_the_unit_that_is_there(tmp_path: Path) -> None:
    made = server_file({"OLLAMA_FLASH_ATTENTION": "1"}, "systemd", unit="my-ollama.service")
    assert made.path == "/etc/systemd/system/my-ollama.service.d/90-qwenops.conf"
    assert made.text == '[Service]\nEnvironment="OLLAMA_FLASH_ATTENTION=1"\n'
    assert made.undo[0] == f"sudo rm {made.path}"


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (("PATH=/x",), "is not a setting"),
        (("OLLAMA_KV_CACHE_TYPE",), "is not a setting"),
        (("ollama_kv_cache_type=q8_0",), "is not a setting"),
        (("OLLAMA_X=a\nb",), "cannot be printed"),
        (("OLLAMA_X=a\x85b",), "cannot be printed"),
        (("OLLAMA_X=a\u2028b",), "cannot be printed"),
        (("OLLAMA_X=a\udcffb",), "cannot be printed"),
        (("OLLAMA_X=a", "OLLAMA_X=b"), "given twice"),
    ],
)
def test_what_is_no_setting_is_refused(pairs: tuple[str, ...], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_settings(pairs)


def test_what_setx_cannot_say_is_refused() -> None:
    with pytest.raises(BadInput, match="setx cannot be told"):
        server_file({"OLLAMA_X": 'a"b'}, "windows")
    with pytest.raises(BadInput, match="of which setx keeps 1024"):
        server_file({"OLLAMA_X": "a" * 1025}, "windows")


def test_a_folder_of_windows_keeps_its_last_backslash() -> None:
    text = server_file({"OLLAMA_MODELS": "D:\\models\\"}, "windows").text
    assert 'setx OLLAMA_MODELS "D:\\models\\\\"\r\n' in text
