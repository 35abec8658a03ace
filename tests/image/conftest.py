"""Files of small image models as headers with holes: what a plan reads of them is all true."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.image.tensors import Made, Rows, diffusion_rows, encoder_rows, projector_rows, vae_rows
from tests.support.gguf_bytes import Row, write_gguf


def typed(rows: Rows, matrices: str, outside: str = "") -> list[Row]:
    """Tensors in the types that the converters give them."""
    return [(row.name, row.shape, _type(row, matrices, outside)) for row in rows]


def _type(row: Made, matrices: str, outside: str) -> str:
    if row.kind == "vector":
        return "F32"
    if row.kind == "convolution":
        return "F16"
    return outside if outside and not row.name.startswith(("transformer_blocks.", "blk.")) else matrices


@pytest.fixture(scope="session")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A diffusion model of one block, its encoder of one layer, the projector, and a VAE as a GGUF would have it."""
    folder = tmp_path_factory.mktemp("image")
    said = {"general.architecture": "qwen_image"}
    flat = [
        (name, shape if len(shape) < 5 else (*shape[:3], shape[3] * shape[4]), kind)
        for name, shape, kind in typed(vae_rows(), "F16")
    ]
    return {
        "diffusion": write_gguf(folder / "diffusion.gguf", said, typed(diffusion_rows(1), "Q4_0")),
        "encoder": write_gguf(
            folder / "encoder.gguf", {"general.architecture": "qwen2vl"}, typed(encoder_rows(1, 256, 151_700), "Q4_0")
        ),
        "projector": write_gguf(
            folder / "mmproj.gguf", {"general.architecture": "clip"}, typed(projector_rows(), "F16")
        ),
        "vae": write_gguf(folder / "vae.gguf", {"general.architecture": "wan"}, flat),
    }


@pytest.fixture(scope="session")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole random model that stable-diffusion.cpp runs: 755 MiB, made once."""
    from scripts.make_tiny_image import make

    folder = tmp_path_factory.mktemp("painter")
    make(folder)
    return folder
