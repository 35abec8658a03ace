"""What systemd and the server's log say of its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.runtime.envconfig import SETTINGS
from qwenops.runtime.server_log import log_file, parse_go_map, parse_log, read_log_file
from qwenops.runtime.settings import Source, merge, settings_in_force
from qwenops.runtime.unit import parse_environment_file, parse_unit
from tests.runtime.machines import gpu

UNIT = """LoadState=loaded
Environment=PATH=/usr/bin:/bin OLLAMA_HOST=0.0.0.0 "OLLAMA_ORIGINS=a b" OLLAMA_KV_CACHE_TYPE=q8_0
EnvironmentFiles=/etc/ollama.env (ignore_errors=yes)
EnvironmentFiles=/etc/other file.env (ignore_errors=no)
User=ollama
ExecStart={ path=/usr/local/bin/ollama ; argv[]=/usr/local/bin/ollama serve ; ignore_errors=no ; pid=0 }
MainPID=4711
FragmentPath=/etc/systemd/system/ollama.service
"""


def test_a_unit_is_read() -> None:
    unit = parse_unit("ollama.service", UNIT)
    assert unit is not None
    assert (unit.user, unit.program, unit.pid) == ("ollama", Path("/usr/local/bin/ollama"), 4711)
    assert unit.environment["OLLAMA_ORIGINS"] == "a b"
    assert unit.environment["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert unit.environment_files == (Path("/etc/ollama.env"), Path("/etc/other file.env"))


@pytest.mark.parametrize("text", ["", "LoadState=not-found\nMainPID=0\n", "System has not been booted with systemd"])
def test_a_unit_that_is_not_there_is_none(text: str) -> None:
    assert parse_unit("ollama.service", text) is None


def test_a_stopped_unit_has_no_process() -> None:
    unit = parse_unit("ollama.service", "LoadState=loaded\nMainPID=0\nUser=\n")
    assert unit is not None
    assert (unit.pid, unit.user, unit.program) == (None, None, None)


def test_an_environment_file_is_read() -> None:
    text = "# c\n; c\nA=1\n B = \"two words\"\nC='x'\nnothing\nD=a\\\nb\n"
    assert parse_environment_file(text) == {"A": "1", "B": "two words", "C": "x", "D": "a b"}


LOG = (Path(__file__).parent / "logs" / "start.log").read_text()


def test_the_last_start_in_a_log_is_read() -> None:
    older = LOG.replace("OLLAMA_KV_CACHE_TYPE:q8_0", "OLLAMA_KV_CACHE_TYPE:q4_0")
    facts = parse_log(f"{older}noise\n{LOG}", "log")
    assert facts is not None
    assert facts.environment["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert facts.environment["OLLAMA_MODELS"] == "/srv/models with spaces"
    assert facts.environment["LLAMA_ARG_FIT_TARGET"] == "256"
    assert "OLLAMA_FLASH_ATTENTION" not in facts.environment
    assert "OLLAMA_NUM_PARALLEL" not in facts.environment
    assert facts.default_num_ctx == 4096
    assert facts.integrated == {"Vulkan0": False}


def test_a_map_with_spaces_and_colons_in_its_values_is_read() -> None:
    text = "map[OLLAMA_MODELS:/a b:c OLLAMA_ORIGINS:[http://x https://y:* app://*] OLLAMA_VULKAN:true no_proxy:]"
    assert parse_go_map(text) == {
        "OLLAMA_MODELS": "/a b:c",
        "OLLAMA_ORIGINS": "[http://x https://y:* app://*]",
        "OLLAMA_VULKAN": "true",
        "no_proxy": "",
    }


@pytest.mark.parametrize("text", ["", "no such line", 'msg="server config"', 'msg="server config" env="map["'])
def test_a_log_that_says_little_gives_little(text: str, tmp_path: Path) -> None:
    facts = parse_log(text, "log")
    assert facts is None or facts.environment == {}
    path = tmp_path / "server.log"
    path.write_text(text)
    again = read_log_file(path)
    assert again is None or again.environment == {}


def test_the_start_is_found_in_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("x" * 100 + "\n" + LOG + "request\n" * 400_000)
    facts = read_log_file(path)
    assert facts is not None
    assert facts.environment["OLLAMA_KV_CACHE_TYPE"] == "q8_0"


def test_the_apps_log_lies_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / ".ollama/logs").mkdir(parents=True)
    (tmp_path / ".ollama/logs/server.log").write_text("x")
    (tmp_path / "Ollama").mkdir()
    (tmp_path / "Ollama/server.log").write_text("x")
    assert log_file(tmp_path, {}, os="darwin") == tmp_path / ".ollama/logs/server.log"
    assert log_file(tmp_path, {"LOCALAPPDATA": str(tmp_path)}, os="windows") == tmp_path / "Ollama/server.log"
    assert log_file(None, {}, os="linux") is None


def test_the_best_source_ends_the_search() -> None:
    process = Source({"OLLAMA_KV_CACHE_TYPE": "q8_0"}, "process 1")
    unit = Source({"OLLAMA_KV_CACHE_TYPE": "q4_0", "OLLAMA_NUM_PARALLEL": "4"}, "ollama.service")
    log = Source({"OLLAMA_FLASH_ATTENTION": "true"}, "log", complete=False)
    assert merge([process, unit]) == ({"OLLAMA_KV_CACHE_TYPE": "q8_0"}, {"OLLAMA_KV_CACHE_TYPE": "process 1"}, True)
    values, told_by, whole = merge([log, unit])
    assert (values["OLLAMA_NUM_PARALLEL"], told_by["OLLAMA_FLASH_ATTENTION"], whole) == ("4", "log", True)
    assert merge([log])[2] is False
    assert merge([]) == ({}, {}, False)


def test_every_setting_says_where_it_was_read() -> None:
    environment = {"OLLAMA_KV_CACHE_TYPE": "q8_0", "LLAMA_ARG_TOP_K": "3"}
    found = settings_in_force(environment, dict.fromkeys(environment, "process 9"), known=True, devices=[gpu(24)])
    by_name = {s.name: (s.value, s.source) for s in found}
    assert set(by_name) >= {s.name for s in SETTINGS}
    assert by_name["OLLAMA_KV_CACHE_TYPE"] == ("q8_0", "process 9")
    assert by_name["LLAMA_ARG_TOP_K"] == ("3", "process 9")
    assert by_name["OLLAMA_CONTEXT_LENGTH"] == ("32768", "default by VRAM")
    assert by_name["OLLAMA_FLASH_ATTENTION"] == ("auto", "default")
    unknown = settings_in_force({}, {}, known=False, devices_known=False)
    assert {s.source for s in unknown} == {"default, not proven"}
    logged = settings_in_force({}, {}, known=True, logged_num_ctx=262144)
    assert next(s for s in logged if s.name == "OLLAMA_CONTEXT_LENGTH").value == "262144"
