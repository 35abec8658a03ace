"""Likeness by its definition, and quants of one model held against each other at the same seeds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.image.likeness import psnr_db, ssim
from qwenops.image.tensors import diffusion_rows
from scripts.make_tiny_image import write_gguf
from tests.support.cli import qwenops


def picture(seed: int, side: int = 32) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_psnr_of_a_known_error_is_what_the_definition_says() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    b = a.copy()
    b[:, :2] = 10  # half of the numbers are off by 10: a mean square of 50
    assert psnr_db(a, b) == pytest.approx(10 * math.log10(255**2 / 50))
    assert psnr_db(a, a) == math.inf


def test_ssim_of_two_even_pictures_is_their_luminance_term_alone() -> None:
    a, b = np.full((16, 16), 100, np.uint8), np.full((16, 16), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))


def test_ssim_is_the_one_of_scikit_image() -> None:
    """Made with scikit-image 0.26.0: gaussian_weights, sigma 1.5, use_sample_covariance off, data_range 255, luma."""
    ramp = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    other = (ramp.astype(int) * 3 % 251).astype(np.uint8)
    assert ssim(ramp, other) == pytest.approx(0.31582655724370745)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_likeness_is_symmetric_and_largest_for_the_same(first: int, second: int) -> None:
    a, b = picture(first), picture(second)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert psnr_db(a, b) == psnr_db(b, a)
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, b) <= 1 + 1e-9


def test_more_noise_is_farther() -> None:
    base, noise = picture(1, 64).astype(int), np.random.default_rng(2).normal(0, 1, (64, 64, 3))
    seen = [np.clip(base + noise * strength, 0, 255).astype(np.uint8) for strength in (2, 8, 32)]
    near = [ssim(base.astype(np.uint8), one) for one in seen]
    assert near == sorted(near, reverse=True)


def test_pictures_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(BadInput, match="cannot be compared"):
        psnr_db(picture(1), picture(1, 48))
    with pytest.raises(BadInput, match="too small"):
        ssim(picture(1, 8), picture(1, 8))


@pytest.mark.painter
@pytest.mark.slow
def test_a_quant_is_held_against_the_reference_at_the_same_seed(painter: Path, tmp_path: Path) -> None:
    other = write_gguf(painter / "other.gguf", "qwen_image", diffusion_rows(1), "Q4_0", 77)
    words = ("--reference", painter / "diffusion.gguf", "-p", "one", "--size", "32x32", "--steps", 1, "--cfg", 1)
    beside = ("--encoder", painter / "encoder.gguf", "--vae", painter / "vae.safetensors", "--threads", 2)
    try:
        answer = qwenops("image", "bench", "2512", other, *words, *beside, "--keep", tmp_path, "--json")
    finally:
        other.unlink()
    assert answer.code == 0, answer.err
    reference, variant = answer.data["variants"]
    assert reference["is_reference"]
    assert reference["ssim"] == []
    assert -1 < variant["ssim"][0] < 1
    assert variant["psnr_db"][0] > 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["diffusion-1.png", "other-1.png"]
    shown = qwenops("history", "--json").data
    assert "ssim 32x32" in str(shown)


def test_a_bench_without_another_file_says_so(image_files: dict[str, Path]) -> None:
    file = image_files["diffusion"]
    answer = qwenops("image", "bench", "2512", file, "--reference", file, "-p", "one")
    assert answer.code in (2, 3)
    assert "nothing to hold against" in answer.err or "is not installed" in answer.err
