"""Random models that stable-diffusion.cpp runs as Qwen-Image: as small as its code allows.

python -m scripts.make_tiny_image --out FOLDER [--blocks 1] [--projector]

The widths of the diffusion model (24 heads of 128), of the VAE (96 to 384) and of the vision tower are fixed in its
code; the number of blocks, the text encoder's layers and its inner width are read from the files and are small here.
The files are 204 MiB (one block in Q4_0), 309 MiB (embeddings of 151 700 tokens) and 242 MiB; they paint noise.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from qwenops.image.tensors import Made, diffusion_rows, encoder_rows, projector_rows, vae_rows

VOCABULARY = 151_700  # the highest token of the template is 151 645
Q4_0_SCALE = 0.01


# --- files ------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, architecture: str, rows: Iterable[Made], matrices: str, seed: int, **keys: Any) -> Path:
    """A GGUF with matrices in `matrices` (F16 or Q4_0) and vectors in F32, random."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    chance = _Chance(seed)
    for name, shape, kind in rows:
        outer = tuple(reversed(shape))
        if kind == "vector":
            vector = np.ones(shape, np.float32) if "norm" in name or "ln" in name else chance.floats(shape) * 0.01
            writer.add_tensor(name, vector.astype(np.float32))
        elif matrices == "Q4_0" and shape[0] % 32 == 0 and kind != "convolution":
            packed = chance.q4_0(outer)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
        else:
            writer.add_tensor(name, chance.halves(outer))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_safetensors(path: Path, rows: Iterable[Made], seed: int) -> Path:
    """A safetensors file of F16, random."""
    chance = _Chance(seed)
    shapes = {name: tuple(reversed(shape)) for name, shape, _ in rows}
    header: dict[str, Mapping[str, Any]] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 2 * prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            file.write(chance.ones(shape) if name.endswith("gamma") else chance.halves(shape).tobytes())
    return path


class _Chance:
    """Random numbers, a million drawn and then repeated: drawing a hundred million takes longer than running them."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        self._np = np
        random = np.random.default_rng(seed)
        self._floats = (random.standard_normal(1_000_003) * 0.03).astype(np.float32)
        self._halves = self._floats.astype(np.float16)
        blocks = np.empty((40_009, 18), np.uint8)
        blocks[:, :2] = np.frombuffer(np.float16(Q4_0_SCALE).tobytes(), np.uint8)
        blocks[:, 2:] = random.integers(0, 256, (40_009, 16), np.uint8)
        self._blocks = blocks

    def floats(self, shape: tuple[int, ...]) -> Any:
        return self._np.resize(self._floats, shape)

    def halves(self, shape: tuple[int, ...]) -> Any:
        return self._np.resize(self._halves, shape)

    def ones(self, shape: tuple[int, ...]) -> bytes:
        return bytes(self._np.ones(shape, self._np.float16).tobytes())

    def q4_0(self, outer: tuple[int, ...]) -> Any:
        rows, columns = outer
        return self._np.resize(self._blocks, (rows * columns // 32, 18)).reshape(rows, columns // 32 * 18)


def make(folder: Path, *, blocks: int = 1, projector: bool = False, matrices: str = "Q4_0", seed: int = 1) -> None:
    """Write diffusion.gguf, encoder.gguf, vae.safetensors and, if asked, mmproj.gguf."""
    folder.mkdir(parents=True, exist_ok=True)
    write_gguf(folder / "diffusion.gguf", "qwen_image", diffusion_rows(blocks), matrices, seed)
    write_gguf(folder / "encoder.gguf", "qwen2vl", encoder_rows(1, 256, VOCABULARY), "Q4_0", seed + 1)
    write_safetensors(folder / "vae.safetensors", vae_rows(), seed + 2)
    if projector:
        write_gguf(folder / "mmproj.gguf", "clip", projector_rows(), "F16", seed + 3)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--projector", action="store_true")
    options = parser.parse_args()
    make(options.out, blocks=options.blocks, projector=options.projector)
    for path in sorted(options.out.iterdir()):
        print(f"{path.name}  {path.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
