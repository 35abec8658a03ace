"""What a picture takes: beside what stable-diffusion.cpp allocated, and what is chosen for a card."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.image.catalogue import find
from qwenops.image.memory import Job, Way, every_way, need
from qwenops.image.parts import Part, Role, read_part, remote_part
from qwenops.image.plan import Room, make_plan
from qwenops.image.published import drawn, published_part, published_quants
from qwenops.image.tensors import diffusion_rows
from qwenops.machine.spec import parse_spec
from qwenops.memory.backends import Backend, encoder_host_backend
from qwenops.units import GIB, MIB
from tests.image.conftest import typed
from tests.support.cli import qwenops
from tests.support.gguf_bytes import write_gguf
from tests.support.web import serving

CPU = encoder_host_backend()
CUDA = Backend("CUDA0", "cuda", 128)

# What stable-diffusion-cpp-python 0.4.7 printed on a CPU for scripts/make_tiny_image.py's models, in MB of 2^20 bytes.
# "one two three" is 3 tokens, the letters are 8, the negative prompt is one space.
LETTERS, WORDS = 8, 3
SEEN: list[tuple[str, Job, Way, dict[str, float]]] = [
    ("text", Job(256, 192, WORDS), Way("cpu"), {"encode": 1.89, "step": 22.92, "decode": 352.04}),
    (
        "no flash attention, no guidance",
        Job(256, 192, WORDS, None, flash=False),
        Way("cpu"),
        {"encode": 1.89, "step": 23.02, "decode": 352.04},
    ),
    ("tiled", Job(64, 32, LETTERS), Way("cpu", vae_tiling=True), {"encode": 2.12, "step": 7.16, "decode": 14.84}),
    (
        "an edit",
        Job(64, 64, WORDS, references=((64, 64),)),
        Way("cpu"),
        {"references": 30.36, "encode": 1.89, "step": 8.04, "decode": 29.54},
    ),
    (
        "an edit of 2511",
        Job(64, 64, WORDS, references=((64, 64),), zero_cond=True),
        Way("cpu"),
        {"references": 30.36, "encode": 1.89, "step": 8.97, "decode": 29.54},
    ),
]


@pytest.fixture(scope="module")
def tiny(image_files: dict[str, Path]) -> dict[Role, Part]:
    """The parts of the small model."""
    roles: tuple[Role, ...] = ("encoder", "diffusion", "vae")
    return {role: read_part(role, image_files[role]) for role in roles}


@pytest.mark.parametrize(("name", "job", "way", "seen"), SEEN, ids=[row[0] for row in SEEN])
def test_compute_buffers_are_those_that_the_library_allocated(
    tiny: dict[Role, Part], name: str, job: Job, way: Way, seen: dict[str, float]
) -> None:
    asked = need(tiny, job, way, None, CPU)
    assert {stage.name: round(stage.compute_bytes / MIB, 2) for stage in asked.stages} == seen


def test_weights_are_those_that_the_library_allocated(tiny: dict[Role, Part]) -> None:
    seen = {"encoder": 308.94, "diffusion": 204.41, "vae": 242.10}
    assert {role: round(part.loaded_bytes(CPU) / MIB, 2) for role, part in tiny.items()} == seen
    assert round(tiny["vae"].loaded_bytes(CPU, takes_pictures=False) / MIB, 2) == 139.84


def test_a_negative_prompt_that_is_longer_decides(tiny: dict[Role, Part]) -> None:
    short = need(tiny, Job(256, 192, 3, 1), Way("cpu"), None, CPU)
    long = need(tiny, Job(256, 192, 3, 90), Way("cpu"), None, CPU)
    alike = need(tiny, Job(256, 192, 90, 3), Way("cpu"), None, CPU)
    assert short.stages[0].compute_bytes < long.stages[0].compute_bytes == alike.stages[0].compute_bytes


@pytest.mark.parametrize(("quant", "file_type"), [("Q8_0", 7), ("Q6_K", 18)])
def test_published_sizes_of_2512_follow_from_the_shapes_to_the_byte(tmp_path: Path, quant: str, file_type: int) -> None:
    published = {part.quant: part.file_bytes for part in published_quants(find("2512"))}
    keys = {"general.architecture": "qwen_image", "general.quantization_version": 2, "general.file_type": file_type}
    file = write_gguf(tmp_path / "whole.gguf", keys, typed(diffusion_rows(60), quant, "F16"))
    part = read_part("diffusion", file)
    assert part.file_bytes == published[quant] == drawn(quant).file_bytes
    assert part.blocks == 60
    assert part.quant == quant


def test_a_quant_by_its_published_size_holds_what_its_header_says() -> None:
    by_size = next(part for part in published_quants(find("2512")) if part.quant == "Q8_0")
    by_shape = drawn("Q8_0")
    assert by_size.loaded_bytes(CPU) == by_shape.loaded_bytes(CPU)
    assert by_size.block_bytes(CPU) == pytest.approx(by_shape.block_bytes(CPU), rel=1e-4)


def test_embeddings_that_cannot_be_looked_up_are_counted_in_f32() -> None:
    encoder = published_part("encoder")
    assert encoder.file_bytes == 4_683_072_512
    # 152064 x 3584 numbers of four bytes instead of Q4_K, without the head over the vocabulary
    assert encoder.outside_bytes(CPU) == 152_064 * 3584 * 4 + 3584 * 4
    assert encoder.loaded_bytes(CPU) > encoder.file_bytes + 1_000 * MIB


# --- laws -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> dict[Role, Part]:
    """The real model, by what was published."""
    return {"diffusion": drawn("Q8_0"), "encoder": published_part("encoder"), "vae": published_part("vae")}


@settings(max_examples=5, deadline=None)
@given(st.integers(16, 104), st.integers(16, 104), st.integers(1, 1000))
def test_less_on_the_device_is_never_more(whole: dict[Role, Part], w: int, h: int, tokens: int) -> None:
    job = Job(16 * w, 16 * h, tokens)
    asked = {str(way): need(whole, job, way, CUDA, CPU) for way in every_way(has_device=True)}
    plain, tiled = asked["all on the GPU"], asked["all on the GPU, VAE tiled"]
    offloaded, streamed = asked["offloaded, VAE tiled"], asked["streamed by blocks, VAE tiled"]
    assert streamed.device_bytes <= offloaded.device_bytes <= tiled.device_bytes <= plain.device_bytes
    assert plain.host_bytes == 0 < offloaded.host_bytes == streamed.host_bytes
    on_cpu = asked["offloaded, VAE tiled, encoder on CPU"]
    assert on_cpu.device_bytes <= offloaded.device_bytes
    assert asked["on the CPU, VAE tiled"].device_bytes == 0


@settings(max_examples=6, deadline=None)
@given(st.integers(16, 100), st.integers(1, 500))
def test_a_larger_picture_takes_no_less(whole: dict[Role, Part], side: int, tokens: int) -> None:
    small = need(whole, Job(16 * side, 16 * side, tokens), Way("offload"), CUDA, CPU)
    large = need(whole, Job(16 * side + 64, 16 * side, tokens), Way("offload"), CUDA, CPU)
    assert small.stages[-1].compute_bytes < large.stages[-1].compute_bytes
    assert small.device_bytes <= large.device_bytes


# --- the command ------------------------------------------------------------------------------------------------------


def plan(*args: object) -> Any:
    """The plan as data."""
    answer = qwenops("image", "plan", *args, "--json")
    assert answer.out, answer.err
    return answer.code, json.loads(answer.out)


@pytest.mark.parametrize(
    ("gpu", "placement"), [("RTX 3060 12GB", "stream"), ("8GiB", "stream"), ("cuda:80GiB", "device"), ("none", "cpu")]
)
def test_the_way_is_the_fastest_that_the_card_holds(gpu: str, placement: str) -> None:
    code, data = plan("2512", "--gpu", gpu, "--size", "16:9", "--quant", "Q4_K_M")
    fits = [way for way in data["ways"] if way["fits"]]
    if code == 1:  # this machine's RAM is too small for it
        assert data["best"] is None
        assert not fits
        return
    assert data["best"]["placement"] == placement
    assert data["best"] == fits[0]
    assert data["best"]["device_bytes"] <= data["room"]["device_bytes"]


def test_a_large_card_takes_the_largest_quant_whole() -> None:
    _, data = plan("2512", "--gpu", "cuda:80GiB")
    assert data["best"]["quant"] == "Q8_0"
    assert [one["quant"] for one in data["quants"]] == ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"]
    assert [one["file_bytes"] for one in data["quants"]] == [21761817120, 16824990240, 15000074784, 13244758560]


def test_a_plan_for_files_is_read_from_their_headers(image_files: dict[str, Path]) -> None:
    given = [word for role in ("diffusion", "encoder", "vae") for word in (f"--{role}", image_files[role])]
    code, data = plan("2512", "--gpu", "none", "--size", "256x192", *given)
    assert code == 0
    assert {part["known_by"] for part in data["parts"]} == {"header"}
    assert data["best"]["way"] == "on the CPU"


def test_an_edit_takes_a_projector_and_a_reference() -> None:
    _, data = plan("edit-2511", "--gpu", "cuda:80GiB", "--size", "1:1", "--reference", "640x480")
    assert [part["role"] for part in data["parts"]] == ["encoder", "projector", "vae"]
    assert [stage["stage"] for stage in data["best"]["stages"]] == ["references", "look", "encode", "step", "decode"]


def test_what_fits_nowhere_is_no_plan(whole: dict[Role, Part]) -> None:
    card = parse_spec("8GiB")[0]
    others: dict[Role, Part] = {"encoder": whole["encoder"], "vae": whole["vae"]}
    quants, job = published_quants(find("2512")), Job(1664, 928, 512)
    nothing = make_plan(quants, others, job, Room(card, 100 * MIB, 100 * MIB))
    assert nothing.best is None
    assert not any(option.fits for option in nothing.options)
    streamed = make_plan(quants, others, job, Room(card, 7 * GIB, 100 * GIB))
    assert streamed.best is not None
    assert (streamed.best.quant, streamed.best.need.way.placement) == ("Q8_0", "stream")
    roomy = make_plan(quants, others, job, Room(card, 30 * GIB, 100 * GIB))
    assert roomy.best is not None
    assert (roomy.best.quant, str(roomy.best.need.way)) == ("Q8_0", "all on the GPU")


def test_a_streamed_plan_names_its_budget() -> None:
    _, data = plan("2512", "--gpu", "8GiB", "--quant", "Q4_K_M")
    flags = next(way["flags"] for way in data["ways"] if way["placement"] == "stream")
    assert float(flags[flags.index("--max-vram") + 1]) == pytest.approx(data["room"]["device_bytes"] / GIB, abs=0.1)


def test_a_part_on_the_hub_is_known_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"general.architecture": "qwen_image"}
    file = write_gguf(tmp_path / "qwen-image-2512-Q8_0.gguf", keys, typed(diffusion_rows(60), "Q8_0", "F16"))
    with serving() as hub, serving("127.0.0.2") as cdn:
        hub.repository("a/qwen-image", {file.name: file}, cdn)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        part = remote_part("diffusion", "hf:a/qwen-image:Q8_0")
        sent = hub.sent_bytes + cdn.sent_bytes
    assert part.file_bytes == file.stat().st_size
    assert part.loaded_bytes(CPU) == drawn("Q8_0").loaded_bytes(CPU)
    assert part.path is None
    assert sent < 8 * MIB


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("2.1",), "does not know it yet"),
        (("flux-dev",), "plans the Qwen-Image models"),
        (("2512", "--quant", "Q9"), "no size of Qwen-Image-2512 in Q9"),
        (("edit-2509",), "reads its header"),
        (("2512", "--reference", "640x480"), "takes no reference"),
        (("2512", "--size", "1000x1000"), "multiples of 16"),
        (("2512", "--diffusion", "nowhere.gguf"), "no file nowhere.gguf"),
        (("2512", "--diffusion", "ollama:x"), "does not name a file on the hub"),
    ],
)
def test_wrong_input_is_one_clear_line(args: tuple[str, ...], said: str) -> None:
    answer = qwenops("image", "plan", *args, "--gpu", "none")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_a_part_in_the_place_of_another_is_named(image_files: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match=r"not a VAE: it is a diffusion model; as that it is given with --diffusion"):
        read_part("vae", image_files["diffusion"])
    with pytest.raises(BadInput, match="not a diffusion model: it is a vision projector"):
        read_part("diffusion", image_files["projector"])


def test_an_encoder_of_another_size_is_refused(tmp_path: Path) -> None:
    rows = [("token_embd.weight", (2048, 151_936), "Q4_0"), ("output_norm.weight", (2048,), "F32")]
    file = write_gguf(tmp_path / "small.gguf", {"general.architecture": "qwen2vl"}, rows)
    with pytest.raises(BadInput, match=r"width 3584: Qwen2\.5-VL-7B"):
        read_part("encoder", file)


def test_a_file_that_lacks_tensors_is_not_whole(tmp_path: Path) -> None:
    rows = [row for row in typed(diffusion_rows(2), "Q4_0") if row[0] != "transformer_blocks.1.attn.to_v.weight"]
    file = write_gguf(tmp_path / "torn.gguf", {"general.architecture": "qwen_image"}, rows)
    with pytest.raises(BadInput, match=r"not whole: 1 .*transformer_blocks.1.attn.to_v.weight"):
        read_part("diffusion", file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b'{"a":{}}',
    ],
)
def test_a_broken_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "vae.safetensors"
    file.write_bytes(content)
    with pytest.raises(BadInput):
        read_part("vae", file)
