"""Pictures really made by stable-diffusion.cpp, on the smallest model of the architecture that its code takes."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qwenops import history, worker
from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.image.catalogue import find
from qwenops.image.lora import read_lora
from qwenops.image.run import check_prompt, estimated_tokens, literal, out_paths, read_png, write_png
from qwenops.image.tensors import Made
from scripts.make_tiny_image import write_safetensors
from tests.ollama.support import small_disk
from tests.support.cli import qwenops

KIB = 1024
WIDTH = 3072


def asked(folder: Path, out: Path, *more: object, model: str = "2512") -> list[object]:
    """A small picture in one step without guidance."""
    small = ("--size", "32x32", "--steps", 1, "--cfg", 1, "--threads", 2)
    files = ("--diffusion", folder / "diffusion.gguf", "-p", "one two three", "--out", out)
    return ["image", "run", model, *files, *small, *more]


@pytest.fixture(scope="module")
def pair(painter: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    """Two pictures of one run, seeds 5 and 6, with guidance; and the folder of that run's history."""
    folder = tmp_path_factory.mktemp("pair")
    words = asked(painter, folder / "fox.png", "--seed", 5, "--batch", 2, "--cfg", 4, "--negative", " ")
    answer = qwenops(*words, "--json", env={"QWENOPS_HOME": str(folder / "home")})
    assert answer.code == 0, answer.err
    return answer.data, folder, folder / "home"


def made(folder: Path, out: Path, *more: object, model: str = "2512") -> Any:
    """The answer of a run that went well."""
    answer = qwenops(*asked(folder, out, *more, model=model), "--json")
    assert answer.code == 0, answer.err
    return answer.data


def pixels(path: Path) -> bytes:
    """A picture's pixels."""
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()


def beside(rows: list[dict[str, Any]]) -> None:
    """Every stage was allocated as planned, within 5 % (the library prints a hundredth of a MiB)."""
    for row in rows:
        assert row["weights_bytes"] == pytest.approx(row["planned_weights_bytes"], rel=0.05)
        assert row["compute_bytes"] == pytest.approx(row["planned_compute_bytes"], rel=0.05)


@pytest.mark.painter
@pytest.mark.slow
def test_a_batch_is_painted_as_planned_and_kept_with_its_settings(
    pair: tuple[Any, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder, home = pair
    beside(data["measured"]["memory"])
    assert [row["stage"] for row in data["measured"]["memory"]] == ["encode", "step", "decode"]
    assert len(data["measured"]["step_seconds"]) == 2
    files = [folder / "fox-5.png", folder / "fox-6.png"]
    assert data["files"] == [str(path) for path in files]
    assert pixels(files[0]) != pixels(files[1])
    inside = read_png(files[1])
    assert (inside["seed"], inside["steps"], inside["true_cfg_scale"]) == (6, 1, 4.0)
    assert inside["prompt"] == "one two three"
    assert all(len(part["sha256"]) == 64 for part in inside["parts"].values())
    monkeypatch.setenv("QWENOPS_HOME", str(home))
    with history.open() as kept:
        (row,) = kept.results(kind="image")
    assert (row.test, row.unit, len(row.samples)) == ("step 32x32", "s", 2)
    assert row.evidence["memory"]["planned"]["step"] > 0
    assert sorted(path.name for path in folder.iterdir()) == ["fox-5.png", "fox-6.png", "home"]


@pytest.mark.painter
@pytest.mark.slow
def test_a_seed_gives_the_same_picture_and_a_lora_another(
    painter: Path, pair: tuple[Any, Path, Path], tmp_path: Path
) -> None:
    lora = tmp_path / "style.safetensors"
    name = "transformer_blocks.0.attn.to_q"
    shapes = ((f"{name}.lora_A.weight", (WIDTH, 4)), (f"{name}.lora_B.weight", (4, WIDTH)))
    write_safetensors(lora, [Made(row, shape, "matrix") for row, shape in shapes], seed=9)
    same = ("--seed", 6, "--cfg", 4, "--negative", " ")
    made(painter, tmp_path / "a.png", *same)
    with_lora = made(painter, tmp_path / "c.png", *same, "--lora", f"{lora}:2.5")
    assert pixels(tmp_path / "a.png") == pixels(pair[1] / "fox-6.png") != pixels(tmp_path / "c.png")
    assert with_lora["settings"]["loras"][0]["weight"] == 2.5
    assert len(read_png(tmp_path / "c.png")["loras"][0]["sha256"]) == 64


@pytest.mark.painter
@pytest.mark.slow
def test_an_edit_and_a_beginning_take_pictures(painter: Path, tmp_path: Path) -> None:
    from PIL import Image

    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), (200, 40, 40)).save(photo)
    both = ("--reference", photo, "--start", photo, "--strength", 1, "--vae-tiling")
    edit = made(painter, tmp_path / "edit.png", "--seed", 1, *both, model="qwen-image-edit")
    assert [row["stage"] for row in edit["measured"]["memory"]] == ["references", "encode", "step", "decode"]
    beside(edit["measured"]["memory"])
    inside = read_png(tmp_path / "edit.png")
    assert (inside["references"], inside["start"], inside["strength"]) == (["photo.png"], "photo.png", 1.0)


@pytest.mark.painter
@pytest.mark.slow
def test_ctrl_c_leaves_no_picture_and_no_process(painter: Path, tmp_path: Path) -> None:
    command = [str(word) for word in asked(painter, tmp_path / "never.png", "--steps", 500, "--seed", 3)]
    run = subprocess.Popen([sys.executable, "-m", "qwenops", *command], stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for line in run.stderr:
        if "painting" in line:
            break
    time.sleep(0.5)
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(run.pid)], capture_output=True, text=True)
    children = found.stdout.split()
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=30) == 130
    assert "stopped" in run.stderr.read()
    assert [path.name for path in tmp_path.iterdir()] == ["qwenops-home"]
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


# --- before anything is loaded -------------------------------------------------------------------


def dry(image_files: dict[str, Path], tmp_path: Path, *more: object, model: str = "2512") -> Any:
    """A dry run on headers alone."""
    words = asked(image_files["diffusion"].parent, tmp_path / "x.png", *more, "--dry-run", "--json", model=model)
    answer = qwenops(*words)
    assert answer.code == 0, answer.err
    return answer.data


def test_a_dry_run_prints_the_equal_command_and_makes_nothing(image_files: dict[str, Path], tmp_path: Path) -> None:
    data = dry(image_files, tmp_path, "--seed", 9, "--negative", "a (bad) thing", "--vae-tiling", "--way", "cpu")
    words = shlex.split(data["sd_cli"])
    assert words[0] == "sd-cli"
    given = dict(itertools.pairwise(words))
    for flag, value in {
        "--diffusion-model": str(image_files["diffusion"]),
        "--llm": str(image_files["encoder"]),
        "--vae": str(image_files["vae"]),
        "-p": "one two three",
        "-n": "a \\(bad) thing",
        "-W": "32",
        "-H": "32",
        "--steps": "1",
        "--cfg-scale": "1",
        "--flow-shift": "3",
        "-s": "9",
        "-o": str(tmp_path / "x.png"),
    }.items():
        assert given[flag] == value
    assert {"--vae-tiling", "--diffusion-fa"} <= set(words)
    assert not data["done"]
    assert not list(tmp_path.glob("*.png"))


def test_an_edit_of_2511_is_told_to_treat_references_as_finished(image_files: dict[str, Path], tmp_path: Path) -> None:
    from PIL import Image

    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (640, 480)).save(photo)
    data = dry(image_files, tmp_path, "--reference", photo, model="edit-2511")
    words = shlex.split(data["sd_cli"])
    assert "--qwen-image-zero-cond-t" in words
    assert words[words.index("--llm_vision") + 1] == str(image_files["projector"])
    assert words[words.index("-r") + 1] == str(photo)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--reference", "nowhere.png"), "takes no reference"),
        (("--start", "nowhere.png"), "nowhere.png"),
        (("--size", "33x32"), "multiples of 16"),
        (("--guidance-scale", "3"), "no effect"),
        (("--lora", "nowhere.safetensors"), "no LoRA nowhere.safetensors"),
        (("--vae", "nowhere.safetensors"), "no file nowhere.safetensors"),
        (("--prompt-file", "nowhere.txt"), "once"),
        (("--out", "picture.jpg"), "not a PNG"),
        (("--out", "no/such/folder/x.png"), "no folder"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_loaded(
    image_files: dict[str, Path], tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    answer = qwenops(*asked(image_files["diffusion"].parent, tmp_path / "x.png", *more, "--dry-run"))
    assert answer.code == 2, answer.err
    assert said in answer.err


def test_a_part_in_the_place_of_another_is_refused(image_files: dict[str, Path], tmp_path: Path) -> None:
    words = asked(image_files["diffusion"].parent, tmp_path / "x.png", "--vae", image_files["encoder"])
    answer = qwenops(*words)
    assert answer.code == 2
    assert "encoder.gguf is not a VAE: it is a text encoder" in answer.err


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (("single_transformer_blocks.0.attn.to_q.lora_A.weight",), "LoRA for FLUX"),
        (("lora_unet_down_blocks_0_attentions_0_to_q.lora_down.weight",), "LoRA for Stable Diffusion"),
        (("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",), "a Qwen language model"),
        (("something.else",), "none of its tensors is known"),
    ],
)
def test_a_lora_for_another_base_is_refused(tmp_path: Path, tensors: tuple[str, ...], said: str) -> None:
    file = write_safetensors(tmp_path / "other.safetensors", [Made(n, (8, 8), "matrix") for n in tensors], seed=1)
    with pytest.raises(BadInput, match=said):
        read_lora(str(file), find("2512"))


def test_a_lightning_lora_of_an_edit_model_is_not_for_pictures(tmp_path: Path) -> None:
    rows = [Made("transformer_blocks.0.img_mlp.net.2.lora_A.weight", (8, 8), "matrix")]
    file = write_safetensors(tmp_path / "Qwen-Image-Edit-Lightning-4steps-V1.0-bf16.safetensors", rows, seed=1)
    with pytest.raises(BadInput, match="made for Qwen-Image-Edit, not for Qwen-Image-2512"):
        read_lora(str(file), find("2512"))
    assert read_lora(f"{file}:0.5", find("qwen-image-edit")).weight == 0.5


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("", "empty"), ("  \n", "empty"), ("a\x07b", "control character"), ("a" * 1_000_000, "1000000")],
)
def test_a_prompt_that_cannot_be_meant_is_refused(prompt: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        check_prompt(prompt)


def test_parentheses_reach_the_model_and_brackets_are_told_of() -> None:
    assert literal("a (b) c") == "a \\(b) c"
    assert check_prompt("a [b] c") != () == check_prompt("a (b) c")


@pytest.mark.parametrize(("text", "tokens"), [("one two three", 3), (" ", 1), ("a b c d e f g h", 8), ("通义千问", 3)])
def test_tokens_are_estimated_without_a_tokenizer(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "x-4.png").write_bytes(b"")
    with pytest.raises(BadInput, match="is there already"):
        out_paths(tmp_path / "x.png", 3, 2)
    assert len(out_paths(tmp_path / "x.png", 3, 2, force=True)) == 2


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path) -> None:
    noise = os.urandom(256 * 256 * 3)
    with small_disk(tmp_path / "disk", 64 * KIB) as disk:
        with pytest.raises(QwenopsError, match="No space left on device; nothing of it is left there"):
            write_png(disk / "x.png", (256, 256, 3, noise), {}, "")
        assert list(disk.iterdir()) == []
    write_png(tmp_path / "x.png", (256, 256, 3, noise), {"a": "ü"}, "summary")
    assert pixels(tmp_path / "x.png") == noise
    assert read_png(tmp_path / "x.png") == {"a": "ü"}


def test_a_picture_of_somebody_else_holds_no_settings(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(BadInput, match="not made by qwenops"):
        read_png(tmp_path / "other.png")


def test_a_missing_library_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "stable_diffusion_cpp.py").write_text("raise ImportError('no such library here')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with pytest.raises(PartMissing, match="is not installed") as missing:
        worker.run("qwenops.image.library:build_of", {}, limit_s=60, env={"PYTHONPATH": path})
    assert missing.value.do[0].startswith("pip install 'qwenops[image]'")


def test_json_is_whole(image_files: dict[str, Path], tmp_path: Path) -> None:
    data = dry(image_files, tmp_path)
    assert json.loads(json.dumps(data))["schema"] == "qwenops.image-run/1"
    assert {stage["stage"] for stage in data["planned"]} == {"encode", "step", "decode"}
