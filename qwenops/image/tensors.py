"""The tensors that stable-diffusion.cpp makes for Qwen-Image, by the names of the files they are filled from.

Source: src/qwen_image.hpp, llm.hpp and wan.hpp. Shapes are innermost first. Widths are fixed in that code; how many
blocks and layers there are is read from the files, as are the encoder's vocabulary and inner width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

Kind = Literal["matrix", "embedding", "vector", "convolution"]

WIDTH: Final = 3072
TEXT_WIDTH: Final = 3584
EYE_WIDTH: Final = 1280
EYE_LAYERS: Final = 32
_EYE_INNER: Final = 3420
_VAE_WIDTHS: Final = (96, 192, 384, 384)


class Made(NamedTuple):
    """One tensor. `kind` decides its type: a matrix keeps the file's, a vector is F32, a convolution F16."""

    name: str
    shape: tuple[int, ...]
    kind: Kind


Rows = Iterator[Made]


def diffusion_rows(blocks: int) -> Rows:
    """The diffusion model."""
    yield from _linear("img_in", 64, WIDTH)
    yield from _linear("txt_in", TEXT_WIDTH, WIDTH)
    yield Made("txt_norm.weight", (TEXT_WIDTH,), "vector")
    yield from _linear("time_text_embed.timestep_embedder.linear_1", 256, WIDTH)
    yield from _linear("time_text_embed.timestep_embedder.linear_2", WIDTH, WIDTH)
    yield from _linear("norm_out.linear", WIDTH, 2 * WIDTH)
    yield from _linear("proj_out", WIDTH, 64)
    for i in range(blocks):
        at = f"transformer_blocks.{i}"
        for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            yield from _linear(f"{at}.attn.{name}", WIDTH, WIDTH)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            yield Made(f"{at}.attn.{name}.weight", (128,), "vector")
        for stream in ("img", "txt"):
            yield from _linear(f"{at}.{stream}_mod.1", WIDTH, 6 * WIDTH)
            yield from _linear(f"{at}.{stream}_mlp.net.0.proj", WIDTH, 4 * WIDTH)
            yield from _linear(f"{at}.{stream}_mlp.net.2", 4 * WIDTH, WIDTH)


def encoder_rows(layers: int, feed_forward: int, vocabulary: int) -> Rows:
    """The text encoder, by llama.cpp's names; the head over the vocabulary is not loaded."""
    yield Made("token_embd.weight", (TEXT_WIDTH, vocabulary), "embedding")
    yield Made("output_norm.weight", (TEXT_WIDTH,), "vector")
    for i in range(layers):
        at = f"blk.{i}"
        yield Made(f"{at}.attn_norm.weight", (TEXT_WIDTH,), "vector")
        yield Made(f"{at}.ffn_norm.weight", (TEXT_WIDTH,), "vector")
        for name, out in (("attn_q", TEXT_WIDTH), ("attn_k", 512), ("attn_v", 512)):
            yield from _linear(f"{at}.{name}", TEXT_WIDTH, out)
        yield Made(f"{at}.attn_output.weight", (TEXT_WIDTH, TEXT_WIDTH), "matrix")
        yield Made(f"{at}.ffn_gate.weight", (TEXT_WIDTH, feed_forward), "matrix")
        yield Made(f"{at}.ffn_up.weight", (TEXT_WIDTH, feed_forward), "matrix")
        yield Made(f"{at}.ffn_down.weight", (feed_forward, TEXT_WIDTH), "matrix")


def projector_rows() -> Rows:
    """The vision tower of Qwen2.5-VL-7B, by llama.cpp's names."""
    yield Made("v.patch_embd.weight", (14, 14, 3, EYE_WIDTH), "convolution")
    yield Made("v.patch_embd.weight.1", (14, 14, 3, EYE_WIDTH), "convolution")
    yield Made("v.post_ln.weight", (EYE_WIDTH,), "vector")
    yield from _linear("mm.0", 4 * EYE_WIDTH, 4 * EYE_WIDTH)
    yield from _linear("mm.2", 4 * EYE_WIDTH, TEXT_WIDTH)
    for i in range(EYE_LAYERS):
        at = f"v.blk.{i}"
        yield Made(f"{at}.ln1.weight", (EYE_WIDTH,), "vector")
        yield Made(f"{at}.ln2.weight", (EYE_WIDTH,), "vector")
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from _linear(f"{at}.{name}", EYE_WIDTH, EYE_WIDTH)
        yield from _linear(f"{at}.ffn_gate", EYE_WIDTH, _EYE_INNER)
        yield from _linear(f"{at}.ffn_up", EYE_WIDTH, _EYE_INNER)
        yield from _linear(f"{at}.ffn_down", _EYE_INNER, EYE_WIDTH)


def vae_rows(*, encoder: bool = True) -> Rows:
    """The VAE of Wan 2.1, by its own names; its encoder only where pictures go in."""
    if encoder:
        yield from _cube("conv1", 32, 32, 1)
        yield from _encoder()
    yield from _cube("conv2", 16, 16, 1)
    yield from _cube("decoder.conv1", 384, 16, 3)
    yield from _middle("decoder", 384)
    inner, index = 384, 0
    for level, width in enumerate(reversed(_VAE_WIDTHS)):
        for _ in range(3):
            yield from _residual(f"decoder.upsamples.{index}", inner, width)
            inner, index = width, index + 1
        if level < 3:
            yield from _plane(f"decoder.upsamples.{index}.resample.1", width // 2, width, 3)
            if level < 2:
                yield from _over_time(f"decoder.upsamples.{index}.time_conv", 2 * width, width)
            inner, index = width // 2, index + 1
    yield Made("decoder.head.0.gamma", (1, 1, 1, 96), "vector")
    yield from _cube("decoder.head.2", 3, 96, 3)


def _encoder() -> Rows:
    yield from _cube("encoder.conv1", 96, 3, 3)
    inner, index = 96, 0
    for level, width in enumerate(_VAE_WIDTHS):
        for _ in range(2):
            yield from _residual(f"encoder.downsamples.{index}", inner, width)
            inner, index = width, index + 1
        if level < 3:
            yield from _plane(f"encoder.downsamples.{index}.resample.1", width, width, 3)
            if level:
                yield from _over_time(f"encoder.downsamples.{index}.time_conv", width, width)
            index += 1
    yield from _middle("encoder", 384)
    yield Made("encoder.head.0.gamma", (1, 1, 1, 384), "vector")
    yield from _cube("encoder.head.2", 32, 384, 3)


def _linear(name: str, inner: int, out: int) -> Rows:
    yield Made(f"{name}.weight", (inner, out), "matrix")
    yield Made(f"{name}.bias", (out,), "vector")


def _cube(name: str, out: int, inner: int, side: int) -> Rows:
    yield Made(f"{name}.weight", (side, side, side, inner, out), "convolution")
    yield Made(f"{name}.bias", (out,), "vector")


def _plane(name: str, out: int, inner: int, side: int) -> Rows:
    yield Made(f"{name}.weight", (side, side, inner, out), "convolution")
    yield Made(f"{name}.bias", (out,), "vector")


def _over_time(name: str, out: int, inner: int) -> Rows:
    yield Made(f"{name}.weight", (1, 1, 3, inner, out), "convolution")
    yield Made(f"{name}.bias", (out,), "vector")


def _residual(name: str, inner: int, out: int) -> Rows:
    yield Made(f"{name}.residual.0.gamma", (1, 1, 1, inner), "vector")
    yield from _cube(f"{name}.residual.2", out, inner, 3)
    yield Made(f"{name}.residual.3.gamma", (1, 1, 1, out), "vector")
    yield from _cube(f"{name}.residual.6", out, out, 3)
    if inner != out:
        yield from _cube(f"{name}.shortcut", out, inner, 1)


def _middle(tower: str, width: int) -> Rows:
    yield from _residual(f"{tower}.middle.0", width, width)
    yield Made(f"{tower}.middle.1.norm.gamma", (1, 1, width), "vector")
    yield from _plane(f"{tower}.middle.1.to_qkv", 3 * width, width, 1)
    yield from _plane(f"{tower}.middle.1.proj", width, width, 1)
    yield from _residual(f"{tower}.middle.2", width, width)
