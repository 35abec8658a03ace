"""The command line as a user meets it: help, wrong input, exit codes, streams, JSON."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from qwenops.cli.main import COMMANDS
from tests.support.cli import qwenops
from tests.support.shapes import TEXT, VISION, write_text, write_vision

HEAVY = ("rich", "jinja2", "psutil", "pynvml", "gguf", "ollama", "huggingface_hub", "numpy", "llama_cpp", "sqlite3")


def test_help_lists_every_command_and_needs_no_heavy_import() -> None:
    shown = qwenops("--help")
    assert shown.code == 0
    for name in COMMANDS:
        assert f"  {name} " in shown.out
    code = (
        "import sys; sys.argv = ['qwenops', '--help']\n"
        "from qwenops.cli.main import cli\n"
        "cli(standalone_mode=False)\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_list_is_the_first_line_of_the_commands_own_help(name: str) -> None:
    module, line = COMMANDS[name]
    command = import_module(f"qwenops.cli.{module}").command
    assert command.name == name
    assert (command.help or "").splitlines()[0] == line


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("plann",), 2, "Did you mean 'plan'?"),
        (("need",), 2, "Missing argument 'MODEL'"),
        (("need", "nowhere.gguf"), 2, "nowhere.gguf"),
        (("need", "nowhere.gguf", "--kv", "q7"), 2, "'q7' is not one of"),
        (("check", "nowhere"), 2, "does not exist"),
        (("machine", "--gpu", "RTX 9999"), 2, "RTX 9999"),
        (("list",), 3, "ollama serve"),
        (("show", "nothing"), 3, "nothing"),
        (("verify", "nothing"), 3, "No Ollama"),
    ],
)
def test_a_wrong_call_is_one_clear_line_with_its_exit_code(args: tuple[str, ...], code: int, said: str) -> None:
    answer = qwenops(*args)
    assert answer.code == code, answer.err
    assert said.lower() in answer.err.lower()
    assert "Traceback" not in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"GGUF", "cut off"),
        (b"PK\x03\x04 a zip", "not a GGUF"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "absurd"),
    ],
)
def test_a_file_that_is_no_model_is_named_with_the_reason(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    answer = qwenops("need", file)
    assert answer.code == 2
    assert "broken.gguf" in answer.err
    assert "Traceback" not in answer.err


def test_need_as_json_has_the_promised_envelope(tmp_path: Path) -> None:
    file = write_text(tmp_path / "qwen3-vl-2b-Q4_K_M.gguf", TEXT["qwen3-vl-2b"])
    write_vision(tmp_path / "mmproj-qwen3-vl-2b-F16.gguf", VISION["qwen3-vl-2b"])
    answer = qwenops("need", file, "--ctx", 8192, "--gpu", "RTX 3060 12GB", "--rung", "closed-form", "--json")
    assert answer.code == 0, answer.err
    data = answer.data
    assert data["schema"] == "qwenops.need/1"
    assert set(data) >= {"rung", "settings", "model", "devices", "host", "total_device_bytes", "band_bytes", "layers"}
    device = data["devices"][0]
    parts = ["weights", "kv", "state", "compute", "projector", "encoder", "draft", "overhead"]
    assert device["total_bytes"] == sum(device[f"{p}_bytes"] for p in parts)
    assert data["total_device_bytes"] == device["total_bytes"]
    assert data["band_bytes"]["low"] <= data["total_device_bytes"] <= data["band_bytes"]["high"]
    assert device["projector_bytes"] > 0
    assert device["encoder_bytes"] > 0
    assert data["layers"] == {"on_device": 29, "total": 29}
    assert data["model"]["architecture"] == "qwen3vl"
    assert {part: said for part, said in data["sources"].items() if said != "closed form"} == {"overhead": "default"}


def test_compare_shows_the_rungs_that_answer_and_says_why_the_others_do_not(tmp_path: Path) -> None:
    file = write_text(tmp_path / "qwen3-4b-Q4_K_M.gguf", TEXT["qwen3-4b"])
    answer = qwenops("need", file, "--ctx", 8192, "--gpu", "RTX 3060 12GB", "--compare", "--json")
    assert answer.code == 0, answer.err
    data = answer.data
    assert data["schema"] == "qwenops.compare/1"
    answers = {a["rung"]: a for a in data["answers"]}
    silent = {s["rung"]: s["why"] for s in data["silent"]}
    assert set(answers) | set(silent) == {"measured", "runtime", "dry load", "closed form"}
    assert not set(answers) & set(silent)
    assert "closed form" in answers
    assert set(silent) >= {"measured", "runtime"}
    for said in answers.values():
        assert said["total_device_bytes"] == sum(d["total_bytes"] for d in said["devices"])
        assert said["devices"][0]["kv_bytes"] == 36 * 8192 * 2 * 2 * 1024
    assert all(any(note.startswith(f"{rung} does not answer: ") for note in data["notes"]) for rung in silent)


@pytest.mark.library
def test_compare_has_a_column_for_the_dry_load(tmp_path: Path) -> None:
    file = write_text(tmp_path / "qwen3-4b-Q4_K_M.gguf", TEXT["qwen3-4b"])
    answer = qwenops("need", file, "--gpu", "none", "--compare")
    assert answer.code == 0, answer.err
    assert any(line.split() == ["MiB", "dry", "load", "formula"] for line in answer.out.splitlines())


def test_compare_and_a_rung_exclude_each_other(tmp_path: Path) -> None:
    file = write_text(tmp_path / "qwen3-4b-Q4_K_M.gguf", TEXT["qwen3-4b"])
    answer = qwenops("need", file, "--rung", "dry-load", "--compare")
    assert answer.code == 2
    assert "--compare asks every rung" in answer.err


def test_plan_as_json_has_the_promised_envelope_and_exit_code(tmp_path: Path) -> None:
    for quant in ("Q8_0", "Q4_K_M"):
        write_text(tmp_path / f"Qwen3VL-8B-Instruct-{quant}.gguf", TEXT["qwen3-vl-8b"], quant)
    write_vision(tmp_path / "mmproj-Qwen3VL-8B-Instruct-F16.gguf", VISION["qwen3-vl-8b"])
    fits = qwenops("plan", tmp_path, "--for", "ocr", "--gpu", "RTX 3060 12GB", "--json")
    assert fits.code == 0, fits.err
    data = fits.data
    assert (data["schema"], data["fits"], data["choice"]["quant"]) == ("qwenops.plan/1", "yes", "Q4_K_M")
    wanted = "file quant num_ctx kv_type batch ubatch image_tokens images gpu_layers projector projector_device"
    assert set(data["choice"]) >= set(wanted.split())
    assert [r["quant"] for r in data["rejected"]] == ["Q8_0"]
    assert data["rejected"][0]["why"]
    none = qwenops("plan", tmp_path, "--for", "ocr", "--gpu", "4GiB", "--json")
    assert none.code == 1
    assert none.data["choice"] is None


def test_a_modelfile_on_stdout_is_the_modelfile_to_the_letter(tmp_path: Path) -> None:
    file = write_text(tmp_path / "Qwen3VL-8B-Instruct-Q4_K_M.gguf", TEXT["qwen3-vl-8b"])
    write_vision(tmp_path / "mmproj-Qwen3VL-8B-Instruct-F16.gguf", VISION["qwen3-vl-8b"])
    command = ("render", file, "--for", "ocr", "--gpu", "24GiB")
    shown = qwenops(*command)
    written = tmp_path / "Modelfile"
    assert qwenops(*command, "-o", written).code == 0
    assert shown.out == written.read_text()
    assert qwenops("check", written).code == 0


def test_a_need_that_overflows_one_of_two_cards_does_not_fit(tmp_path: Path) -> None:
    file = write_text(tmp_path / "Qwen3VL-8B-Instruct-Q6_K.gguf", TEXT["qwen3-vl-8b"], "Q6_K")
    write_vision(tmp_path / "mmproj-Qwen3VL-8B-Instruct-F16.gguf", VISION["qwen3-vl-8b"])
    answer = qwenops("need", file, "--gpu", "cuda:6GiB,cuda:6GiB", "--ctx", 8192, "--json")
    data = answer.data
    assert data["fits"] == "no"
    assert data["tightest"] == "CUDA0"
    assert data["total_device_bytes"] < sum(d["free_bytes"] for d in data["devices"])


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("render", "MODEL", "--gpu", "24GiB", "-o", "FOLDER"), 2, "is a folder"),
        (("render", "MODEL", "--gpu", "24GiB", "--mode", "thinking"), 2, "--mode is for one that can do both"),
        (("up", "MODEL", "--name", "a b", "--dry-run"), 2, "'a b'"),
        (("need", "MODEL", "--gpu", "none", "--gpu-layers", "abc"), 2, "'abc'"),
    ],
)
def test_what_cannot_be_done_with_a_good_model_is_said_by_name(
    tmp_path: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    file = write_text(tmp_path / "Qwen2.5-1.5B-Instruct-Q4_K_M.gguf", TEXT["qwen2.5-1.5b"])
    stand_in = {"MODEL": str(file), "FOLDER": str(tmp_path)}
    answer = qwenops(*(stand_in.get(a, a) for a in args))
    assert (answer.code, said in answer.err) == (code, True), answer.err


def test_a_full_disk_under_stdout_is_a_line() -> None:
    done = subprocess.run(
        f"{sys.executable} -m qwenops machine --gpu 8GiB > /dev/full",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_text_goes_to_stdout_without_colour_and_stays_within_100_columns(tmp_path: Path) -> None:
    file = write_text(tmp_path / "qwen3-4b-Q4_K_M.gguf", TEXT["qwen3-4b"])
    answer = qwenops("plan", file, "--gpu", "RTX 3060 12GB")
    assert answer.code == 0, answer.err
    assert "\x1b" not in answer.out
    assert all(len(line) <= 100 and line == line.rstrip() for line in answer.out.splitlines())


def test_an_unforeseen_error_is_a_line_and_a_log_and_a_traceback_only_with_debug(
    tmp_path: Path, qwenops_home: Path
) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "loop.j2").write_text("{% for i in range(10) %}{{ 1 // 0 }}{% endfor %}")
    file = write_text(tmp_path / "qwen3-4b-Q4_K_M.gguf", TEXT["qwen3-4b"])
    plain = qwenops("render", file, "--gpu", "24GiB", "--template", folder / "loop.j2")
    assert plain.code != 0
    assert "Traceback" not in plain.err
    debug = qwenops("--debug", "render", file, "--gpu", "24GiB", "--template", folder / "loop.j2")
    assert "Traceback" in debug.err


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    file = write_text(tmp_path / "qwen3-4b-Q4_K_M.gguf", TEXT["qwen3-4b"])
    pipe = subprocess.run(
        f"{sys.executable} -m qwenops need {file} --gpu 24GiB --json | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert pipe.stdout == "{\n"
    assert "Traceback" not in pipe.stderr
    assert "Error" not in pipe.stderr
