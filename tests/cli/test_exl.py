"""EXL2 and EXL3 as a user asks for them: need, plan, render, beside GGUF, wrong input, streams and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from qwenops.cli.common import EXL_REFERENCES
from qwenops.cli.main import cli
from qwenops.errors import BadInput
from qwenops.model.exl import SCHEMES
from qwenops.report.terminal import render
from qwenops.setup.exl import beside_result, exl_need_result, exl_plan_result
from tests.support.cli import qwenops
from tests.support.exl import QWEN3_VL_8B, Dims, config, ghost, tensors, write
from tests.support.shapes import TEXT, VISION, write_text, write_vision

CARD = "RTX 3060 12GB"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EXL3 and a GGUF of one model in true size, and a small EXL2 of another; sparse files."""
    folder = tmp_path_factory.mktemp("shelf")
    ghost(folder / "Eyes-8B-exl3", tensors(QWEN3_VL_8B, "exl3"), config(QWEN3_VL_8B, "exl3", 4.0))
    small = Dims(architecture="Qwen2_5_VLForConditionalGeneration")
    write(folder / "small-exl2", tensors(small, "exl2"), config(small, "exl2", 4.0))
    (folder / "gguf").mkdir()
    for quant in ("Q4_K_M", "Q8_0"):
        write_text(folder / "gguf" / f"Eyes-8B-{quant}.gguf", TEXT["qwen3-vl-8b"], quant)
    write_vision(folder / "gguf" / "mmproj-F16.gguf", VISION["qwen3-vl-8b"], "F16")
    return folder


def test_a_need_says_what_each_figure_rests_on(shelf: Path) -> None:
    answer = qwenops("need", shelf / "Eyes-8B-exl3", "--ctx", 16384, "--cache-bits", 8, "--gpu", CARD)
    assert answer.code == 0, answer.err
    for said in ("headers", "estimate", "guess", "cache 8 bit", "one layer expanded", "fits"):
        assert said in answer.out
    assert "not measured" in answer.err
    result = exl_need_result(shelf / "Eyes-8B-exl3", ctx=16384, gpu=CARD)
    assert result.schema == "qwenops.exl-need/1"
    assert result.data["need"]["cache_bytes"] == 16384 * 144 * 1024
    assert result.data["fits"] == "yes"
    json.dumps(result.envelope())


def test_a_plan_takes_the_widest_cache_that_holds_the_task(shelf: Path) -> None:
    answer = qwenops("plan", shelf / "Eyes-8B-exl3", "--for", "ocr", "--gpu", CARD, "--json")
    assert answer.code == 0, answer.err
    assert [c["cache_bits"] for c in answer.data["choices"]] == ["16", "8", "6", "4"]
    assert answer.data["choice"] == answer.data["choices"][0]


@pytest.mark.parametrize("beside", [False, True])
def test_a_table_fits_80_columns(shelf: Path, beside: bool, capsys: pytest.CaptureFixture[str]) -> None:
    exl = str(shelf / "Eyes-8B-exl3")
    result = (
        beside_result((shelf / "gguf",), [Path(exl)], None, gpu=CARD, task="ocr", offline=True)
        if beside
        else exl_plan_result([Path(exl)], gpu=CARD, task="ocr")
    )
    render(result, width=80)
    lines = capsys.readouterr().out.splitlines()
    (header,) = [n for n, line in enumerate(lines) if "largest" in line]
    assert all(len(line) <= 80 and line.endswith("fits") for line in lines[header + 1 : lines.index("", header)])


@pytest.mark.parametrize(
    ("gpu", "said"),
    [("RTX 2080 Ti", "needs Ampere"), ("none", "no CUDA card"), ("cuda:4GiB", "Does not fit")],
)
def test_a_card_that_cannot_is_exit_code_1_with_the_reason(
    shelf: Path, gpu: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["plan", str(shelf / "Eyes-8B-exl3"), "--gpu", gpu], standalone_mode=False) == 1
    assert said in capsys.readouterr().out


def test_both_engines_stand_in_one_table(shelf: Path) -> None:
    answer = qwenops("plan", shelf / "gguf", "--beside", shelf / "Eyes-8B-exl3", "--gpu", CARD, "--json")
    assert answer.code == 0, answer.err
    data = answer.data
    assert data["schema"] == "qwenops.beside/1"
    engines = [row["engine"] for row in data["rows"]]
    assert engines == sorted(engines, reverse=True)
    assert set(engines) == {"llama.cpp", "ExLlamaV3"}
    gguf = [row for row in data["rows"] if row["engine"] == "llama.cpp"]
    # the variant of the EXL model's size, and the one that the plan takes
    assert {row["variant"] for row in gguf} == {"Q4_K_M", data["gguf_plan"]["choice"]["quant"]}


def test_a_config_is_written_and_reads_back(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "config.yml"
    answer = qwenops("render", shelf / "Eyes-8B-exl3", "--engine", "tabbyapi", "--gpu", CARD, "-o", to)
    assert (answer.code, answer.out) == (0, f"{to}\n")
    assert yaml.safe_load(to.read_text())["model"]["model_name"] == "Eyes-8B-exl3"
    args = ["render", str(shelf / "small-exl2"), "--engine", "tabbyapi", "--gpu", CARD]
    assert cli(args, standalone_mode=False) == 0
    old = capsys.readouterr().out
    assert "79126f9" in old
    assert yaml.safe_load(old)["model"]["backend"] == "exllamav2"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("need", "exl", "--kv", "q8_0"), "--kv means nothing for an EXL model"),
        (("need", "exl", "--cache-bits", "9"), "2 to 8"),
        (("need", "gguf", "--cache-bits", "8"), "--cache-bits means nothing for a GGUF model"),
        (("plan", "exl", "--quant", "Q4_K_M"), "--quant means nothing"),
        (("plan", "exl", "gguf"), "--beside"),
        (("render", "exl"), "--engine tabbyapi"),
        (("render", "gguf", "--engine", "tabbyapi"), "Ollama runs GGUF"),
        (("need", "exl2:exl"), "is EXL3, not EXL2"),
        (("need", "exl3:not a name"), "not the name of a repository"),
    ],
)
def test_what_was_typed_for_the_other_engine_is_refused(shelf: Path, args: tuple[str, ...], said: str) -> None:
    places = {
        "exl": str(shelf / "Eyes-8B-exl3"),
        "gguf": str(shelf / "gguf" / "Eyes-8B-Q8_0.gguf"),
        "exl2:exl": f"exl2:{shelf / 'Eyes-8B-exl3'}",
    }
    with pytest.raises(BadInput) as caught:
        cli([places.get(a, a) for a in args], standalone_mode=False)
    assert said in caught.value.message + " ".join(caught.value.do)


def test_the_command_line_knows_the_schemes() -> None:
    assert EXL_REFERENCES == SCHEMES


@pytest.mark.parametrize("command", ["fits", "up", "quants"])
def test_the_other_commands_say_who_takes_it(shelf: Path, command: str) -> None:
    for given in (str(shelf / "Eyes-8B-exl3"), "exl3:maker/Eyes-8B"):
        with pytest.raises(BadInput, match="is an EXL model, for ExLlama"):
            cli([command, given], standalone_mode=False)
