"""Random models that stable-diffusion.cpp runs as Qwen-Image: as small as its code allows.

python -m scripts.make_tiny_image --out FOLDER [--blocks 1] [--projector]

The widths of the diffusion model (24 heads of 128), of the VAE (96 to 384) and of the vision tower are fixed in its
code; the number of blocks, the text encoder's layers and its inner width are read from the files and are small here. The
files are 206 MiB (one block in Q4_0), 294 MiB (embeddings of 151 700 tokens) and 242 MiB; they paint noise.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

Rows = Iterator[tuple[str, tuple[int, ...]]]

WIDTH = 3072
TEXT_WIDTH = 3584
VOCABULARY = 151_700  # the highest token of the template is 151 645
Q4_0_SCALE = 0.01


def diffusion_rows(blocks: int) -> Rows:
    """Names and shapes (innermost first) of the diffusion model."""
    yield "img_in.weight", (64, WIDTH)
    yield "img_in.bias", (WIDTH,)
    yield "txt_in.weight", (TEXT_WIDTH, WIDTH)
    yield "txt_in.bias", (WIDTH,)
    yield "txt_norm.weight", (TEXT_WIDTH,)
    for name, inner in (("linear_1", 256), ("linear_2", WIDTH)):
        yield f"time_text_embed.timestep_embedder.{name}.weight", (inner, WIDTH)
        yield f"time_text_embed.timestep_embedder.{name}.bias", (WIDTH,)
    yield "norm_out.linear.weight", (WIDTH, 2 * WIDTH)
    yield "norm_out.linear.bias", (2 * WIDTH,)
    yield "proj_out.weight", (WIDTH, 64)
    yield "proj_out.bias", (64,)
    for i in range(blocks):
        at = f"transformer_blocks.{i}"
        for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            yield f"{at}.attn.{name}.weight", (WIDTH, WIDTH)
            yield f"{at}.attn.{name}.bias", (WIDTH,)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            yield f"{at}.attn.{name}.weight", (128,)
        for stream in ("img", "txt"):
            yield f"{at}.{stream}_mod.1.weight", (WIDTH, 6 * WIDTH)
            yield f"{at}.{stream}_mod.1.bias", (6 * WIDTH,)
            yield f"{at}.{stream}_mlp.net.0.proj.weight", (WIDTH, 4 * WIDTH)
            yield f"{at}.{stream}_mlp.net.0.proj.bias", (4 * WIDTH,)
            yield f"{at}.{stream}_mlp.net.2.weight", (4 * WIDTH, WIDTH)
            yield f"{at}.{stream}_mlp.net.2.bias", (WIDTH,)


def encoder_rows(layers: int, feed_forward: int) -> Rows:
    """Names and shapes of a Qwen2.5-VL text model as llama.cpp writes it."""
    yield "token_embd.weight", (TEXT_WIDTH, VOCABULARY)
    yield "output_norm.weight", (TEXT_WIDTH,)
    for i in range(layers):
        at = f"blk.{i}"
        yield f"{at}.attn_norm.weight", (TEXT_WIDTH,)
        yield f"{at}.ffn_norm.weight", (TEXT_WIDTH,)
        for name, out in (("attn_q", TEXT_WIDTH), ("attn_k", 512), ("attn_v", 512)):
            yield f"{at}.{name}.weight", (TEXT_WIDTH, out)
            yield f"{at}.{name}.bias", (out,)
        yield f"{at}.attn_output.weight", (TEXT_WIDTH, TEXT_WIDTH)
        yield f"{at}.ffn_gate.weight", (TEXT_WIDTH, feed_forward)
        yield f"{at}.ffn_up.weight", (TEXT_WIDTH, feed_forward)
        yield f"{at}.ffn_down.weight", (feed_forward, TEXT_WIDTH)


def projector_rows() -> Rows:
    """Names and shapes of the vision tower of Qwen2.5-VL-7B as llama.cpp writes it."""
    width, inner = 1280, 3420
    yield "v.patch_embd.weight", (14, 14, 3, width)
    yield "v.patch_embd.weight.1", (14, 14, 3, width)
    yield "v.post_ln.weight", (width,)
    yield "mm.0.weight", (4 * width, 4 * width)
    yield "mm.0.bias", (4 * width,)
    yield "mm.2.weight", (4 * width, TEXT_WIDTH)
    yield "mm.2.bias", (TEXT_WIDTH,)
    for i in range(32):
        at = f"v.blk.{i}"
        yield f"{at}.ln1.weight", (width,)
        yield f"{at}.ln2.weight", (width,)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield f"{at}.{name}.weight", (width, width)
            yield f"{at}.{name}.bias", (width,)
        for name, ins, out in (("ffn_gate", width, inner), ("ffn_up", width, inner), ("ffn_down", inner, width)):
            yield f"{at}.{name}.weight", (ins, out)
            yield f"{at}.{name}.bias", (out,)


def vae_rows() -> Rows:
    """Names and shapes (outermost first, as PyTorch has them) of the VAE of Wan 2.1, which Qwen-Image uses."""
    widths = (96, 192, 384, 384)
    yield from _conv("conv1", 32, 32, 1)
    yield from _conv("conv2", 16, 16, 1)
    yield from _conv("encoder.conv1", 96, 3, 3)
    inner, index = 96, 0
    for level, width in enumerate(widths):
        for _ in range(2):
            yield from _residual(f"encoder.downsamples.{index}", inner, width)
            inner, index = width, index + 1
        if level < 3:
            yield from _plane(f"encoder.downsamples.{index}.resample.1", width, width, 3)
            if level:
                yield f"encoder.downsamples.{index}.time_conv.weight", (width, width, 3, 1, 1)
                yield f"encoder.downsamples.{index}.time_conv.bias", (width,)
            index += 1
    yield from _middle("encoder", 384)
    yield from _conv("encoder.head.2", 32, 384, 3)
    yield "encoder.head.0.gamma", (384, 1, 1, 1)
    yield from _conv("decoder.conv1", 384, 16, 3)
    yield from _middle("decoder", 384)
    inner, index = 384, 0
    for level, width in enumerate(reversed(widths)):
        for _ in range(3):
            yield from _residual(f"decoder.upsamples.{index}", inner, width)
            inner, index = width, index + 1
        if level < 3:
            yield from _plane(f"decoder.upsamples.{index}.resample.1", width // 2, width, 3)
            if level < 2:
                yield f"decoder.upsamples.{index}.time_conv.weight", (2 * width, width, 3, 1, 1)
                yield f"decoder.upsamples.{index}.time_conv.bias", (2 * width,)
            inner, index = width // 2, index + 1
    yield "decoder.head.0.gamma", (96, 1, 1, 1)
    yield from _conv("decoder.head.2", 3, 96, 3)


def _conv(name: str, out: int, inner: int, side: int) -> Rows:
    yield f"{name}.weight", (out, inner, side, side, side)
    yield f"{name}.bias", (out,)


def _plane(name: str, out: int, inner: int, side: int) -> Rows:
    yield f"{name}.weight", (out, inner, side, side)
    yield f"{name}.bias", (out,)


def _residual(name: str, inner: int, out: int) -> Rows:
    yield f"{name}.residual.0.gamma", (inner, 1, 1, 1)
    yield from _conv(f"{name}.residual.2", out, inner, 3)
    yield f"{name}.residual.3.gamma", (out, 1, 1, 1)
    yield from _conv(f"{name}.residual.6", out, out, 3)
    if inner != out:
        yield from _conv(f"{name}.shortcut", out, inner, 1)


def _middle(tower: str, width: int) -> Rows:
    yield from _residual(f"{tower}.middle.0", width, width)
    yield f"{tower}.middle.1.norm.gamma", (width, 1, 1)
    yield from _plane(f"{tower}.middle.1.to_qkv", 3 * width, width, 1)
    yield from _plane(f"{tower}.middle.1.proj", width, width, 1)
    yield from _residual(f"{tower}.middle.2", width, width)


# --- files --------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, architecture: str, rows: Rows, matrices: str, seed: int, **keys: Any) -> Path:
    """A GGUF with matrices in `matrices` (F16 or Q4_0) and vectors in F32, random."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    chance = _Chance(seed)
    for name, shape in rows:
        outer = tuple(reversed(shape))
        if len(shape) == 1:
            vector = np.ones(shape, np.float32) if "norm" in name or "ln" in name else chance.floats(shape) * 0.01
            writer.add_tensor(name, vector.astype(np.float32))
        elif matrices == "Q4_0" and shape[0] % 32 == 0 and len(shape) == 2:
            packed = chance.q4_0(outer)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
        else:
            writer.add_tensor(name, chance.halves(outer))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_safetensors(path: Path, rows: Rows, seed: int) -> Path:
    """A safetensors file of F16, random."""
    chance = _Chance(seed)
    shapes = dict(rows)
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
    write_gguf(folder / "encoder.gguf", "qwen2vl", encoder_rows(1, 256), "Q4_0", seed + 1)
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
