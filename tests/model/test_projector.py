"""Projectors: read, matched by kind and width, chosen among several, refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qwenops.errors import BadInput, NotAGGUF
from qwenops.model.projector import (
    base_name,
    check_projector,
    deepstack_layers,
    find_projector,
    input_width,
    output_width,
    projector_candidates,
    read_projector,
)
from qwenops.model.read import read_model
from tests.model.make import model_file


def text_model(folder: Path, architecture: str, width: int, deepstack: int = 0, name: str = "Qwen-Q4_K_M.gguf") -> Path:
    keys: dict[str, int] = {f"{architecture}__embedding_length": width}
    if deepstack:
        keys[f"{architecture}__n_deepstack_layers"] = deepstack
    return model_file(folder / name, architecture, **keys)  # type: ignore[arg-type]


def projector(folder: Path, kind: str, width: int, deepstack: int = 0, name: str = "mmproj-F16.gguf") -> Path:
    tensors = [("v.patch_embd.weight", (16, 16), 0), ("mm.2.bias", (width,), 0)]
    tensors += [(f"v.deepstack.{5 + 6 * i}.fc1.weight", (8, 8), 0) for i in range(deepstack)]
    return model_file(
        folder / name, "clip", tuple(tensors), clip__projector_type=kind, clip__vision__projection_dim=width
    )


# pairs of a text model and a projector: architecture, its width, its deepstack; kind, width, deepstack
PAIRS = {
    "Qwen2.5-VL-7B": ("qwen2vl", 3584, 0, "qwen2.5vl_merger", 3584, 0, None),
    "Qwen2-VL-7B": ("qwen2vl", 3584, 0, "qwen2vl_merger", 3584, 0, None),
    "Qwen3-VL-8B": ("qwen3vl", 4096, 3, "qwen3vl_merger", 4096, 3, None),
    "Qwen3-VL-30B-A3B": ("qwen3vlmoe", 2048, 3, "qwen3vl_merger", 2048, 3, None),
    "Qwen3.5-9B": ("qwen35", 4096, 0, "qwen3vl_merger", 4096, 0, None),
    "Qwen3.5-35B-A3B": ("qwen35moe", 2048, 0, "qwen3vl_merger", 2048, 0, None),
    "2.5's projector at a Qwen3-VL": (
        "qwen3vl", 3584, 3, "qwen2.5vl_merger", 3584, 0,
        "mmproj-F16.gguf is a qwen2.5vl_merger for qwen2vl or qwen25vl, Qwen-Q4_K_M.gguf is a qwen3vl model",
    ),
    "Qwen3-VL's projector at a 2.5": (
        "qwen2vl", 2048, 0, "qwen3vl_merger", 2048, 3, "is a qwen3vl_merger for .* is a qwen2vl model",
    ),
    "the 4B's projector at the 8B": (
        "qwen3vl", 4096, 3, "qwen3vl_merger", 2560, 3,
        "gives 10240 values a token, Qwen-Q4_K_M.gguf takes 16384",
    ),
    "Qwen3-VL-8B's projector at Qwen3.5-9B": (
        "qwen35", 4096, 0, "qwen3vl_merger", 4096, 3, "gives 16384 values a token, .* takes 4096",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "takes", "model_deep", "kind", "gives", "deep", "why"), PAIRS.values(), ids=PAIRS.keys()
)
def test_a_projector_belongs_to_a_model_or_is_refused_with_both_sides_named(
    tmp_path: Path,
    architecture: str,
    takes: int,
    model_deep: int,
    kind: str,
    gives: int,
    deep: int,
    why: str | None,
) -> None:
    path = text_model(tmp_path, architecture, takes, model_deep)
    mmproj = projector(tmp_path, kind, gives, deep)
    model, read = read_model(path, None), read_projector(mmproj)
    assert (read.kind, read.projection_dim, deepstack_layers(read.header)) == (kind, gives, deep)
    assert output_width(read) == gives * (1 + deep)
    assert input_width(model) == takes * (1 + model_deep)
    if why is None:
        check_projector(model, read)
        assert read_model(path).projector == read
        assert read_model(path, mmproj).projector == read
    else:
        with pytest.raises(BadInput, match=why):
            check_projector(model, read)
        assert read_model(path).projector is None
        with pytest.raises(BadInput, match=why):
            read_model(path, mmproj)


@pytest.mark.parametrize(
    ("beside", "order"),
    [
        ((), []),
        (("mmproj-Q8_0.gguf", "mmproj-F16.gguf", "mmproj-BF16.gguf", "mmproj-F32.gguf"),
         ["mmproj-F16.gguf", "mmproj-BF16.gguf", "mmproj-Q8_0.gguf", "mmproj-F32.gguf"]),
        (("mmproj-F16.gguf", "mmproj-Qwen-Q8_0.gguf"), ["mmproj-Qwen-Q8_0.gguf", "mmproj-F16.gguf"]),
        (("mmproj-Other-F16.gguf", "Qwen.mmproj-Q8_0.gguf"), ["Qwen.mmproj-Q8_0.gguf", "mmproj-Other-F16.gguf"]),
        (("mmproj-Other-F16.gguf", "mmproj-model-f16.gguf"), ["mmproj-model-f16.gguf", "mmproj-Other-F16.gguf"]),
        (("vision-f16.gguf",), ["vision-f16.gguf"]),
    ],
)  # fmt: skip
def test_the_best_projector_of_a_folder_is_chosen(tmp_path: Path, beside: tuple[str, ...], order: list[str]) -> None:
    for name in beside:
        projector(tmp_path, "qwen3vl_merger", 64, 1, name)
    model = read_model(text_model(tmp_path, "qwen3vl", 64, 1), None)
    assert [p.path.name for p in projector_candidates(model)] == order
    found = find_projector(model)
    assert (found.path.name if found else None) == (order[0] if order else None)


def test_a_kind_that_is_not_known_is_taken_only_under_the_models_own_name(tmp_path: Path) -> None:
    # a text-only model beside somebody else's projector that happens to be as wide
    model = read_model(text_model(tmp_path, "qwen3", 2560, name="Qwen3-4B-Q4_K_M.gguf"), None)
    projector(tmp_path, "gemma3", 2560, name="mmproj-gemma-3-4b-F16.gguf")
    assert find_projector(model) is None
    named = projector(tmp_path, "gemma3", 2560, name="mmproj-Qwen3-4B-F16.gguf")
    found = find_projector(model)
    assert found is not None
    assert found.path == named


def test_a_damaged_neighbour_is_passed_over_when_a_whole_one_is_there(tmp_path: Path) -> None:
    path = text_model(tmp_path, "qwen3vl", 64)
    damaged = projector(tmp_path, "qwen3vl_merger", 64, name="mmproj-F16.gguf")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(NotAGGUF, match="cut off"):
        read_model(path)
    projector(tmp_path, "qwen3vl_merger", 64, name="mmproj-Q8_0.gguf")
    found = read_model(path).projector
    assert found is not None
    assert found.path.name == "mmproj-Q8_0.gguf"


def test_links_are_looked_beside_as_they_are_named(tmp_path: Path) -> None:
    # a Hugging Face snapshot is a folder of links into a folder of digests
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for made in (text_model(tmp_path, "qwen35", 64), projector(tmp_path, "qwen3vl_merger", 64)):
        shutil.move(made, blobs / f"sha256-{made.stem}")
        (snapshot / made.name).symlink_to(blobs / f"sha256-{made.stem}")
    model = read_model(snapshot / "Qwen-Q4_K_M.gguf")
    assert model.path == snapshot / "Qwen-Q4_K_M.gguf"
    assert model.projector is not None
    assert model.projector.path == snapshot / "mmproj-F16.gguf"


def test_the_bias_of_the_last_layer_says_how_wide_a_projector_is(tmp_path: Path) -> None:
    # llama.cpp takes the tensor, not the key
    path = model_file(
        tmp_path / "mmproj.gguf",
        "clip",
        (("mm.2.bias", (96,), 0),),
        clip__projector_type="qwen3vl_merger",
        clip__vision__projection_dim=64,
    )
    assert read_projector(path).projection_dim == 96


@pytest.mark.parametrize(
    ("architecture", "keys", "error", "why"),
    [
        ("qwen3vl", {}, BadInput, "is a qwen3vl model, not a projector"),
        ("clip", {}, NotAGGUF, "does not say which kind"),
        ("clip", {"clip__projector_type": 3}, NotAGGUF, "does not say which kind"),
        ("clip", {"clip__projector_type": "mlp"}, NotAGGUF, "does not say how wide"),
        ("clip", {"clip__projector_type": "mlp", "clip__vision__projection_dim": "9"}, NotAGGUF, "how wide"),
    ],
)
def test_what_is_no_projector_is_refused(
    tmp_path: Path, architecture: str, keys: dict[str, int | str], error: type[BadInput], why: str
) -> None:
    path = model_file(tmp_path / "mmproj.gguf", architecture, **keys)  # type: ignore[arg-type]
    with pytest.raises(error, match=why):
        read_projector(path)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("Qwen3-VL-8B-Instruct-Q4_K_M.gguf", "qwen3vl8binstruct"),
        ("mmproj-Qwen3-VL-8B-Instruct-F16.gguf", "qwen3vl8binstruct"),
        ("Qwen3-VL-8B-Instruct.mmproj-fp16.gguf", "qwen3vl8binstruct"),
        ("Qwen3-VL-8B-Instruct-UD-Q4_K_XL-00001-of-00002.gguf", "qwen3vl8binstruct"),
        ("Qwen3-VL-8B-Instruct.i1-IQ4_XS.gguf", "qwen3vl8binstruct"),
        ("mmproj-model-f16.gguf", ""),
        ("mmproj-BF16.gguf", ""),
    ],
)
def test_the_models_name_is_found_in_a_file_name(name: str, base: str) -> None:
    assert base_name(Path(name)) == base
