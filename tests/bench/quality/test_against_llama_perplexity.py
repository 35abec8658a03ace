"""The figures are llama-perplexity's, on a real model and on a small one with recurrent layers.

The tool is built from the library's own source and runs on its very libraries: another build's kernels round otherwise,
and on a random model that alone moves a percentile by 10 %.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwenops.bench.quality.text import BUILT_IN
from scripts.compare_llama_perplexity import Tool, tool_figures
from scripts.parts.layout import Layout
from tests.support.cli import qwenops
from tests.support.quantize import really
from tests.support.tiny import TinyModel

pytestmark = [pytest.mark.library, pytest.mark.slow]
WITHIN = 0.01


@pytest.fixture(scope="module")
def tool(parts: Layout) -> Tool:
    path = parts.judge("llama-perplexity")
    if not path.exists():
        pytest.skip(f"no {path.name} in {parts.root} (make parts)")
    return Tool(path)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(BUILT_IN.read_text(encoding="utf-8")[:3000], encoding="utf-8")
    return file


def _ours(reference: Path, variant: Path, text: Path, *more: object) -> dict[str, Any]:
    asked = ("--reference", reference, variant, "--text", text, "--threads", 2, *more, "--json")
    told = qwenops("bench", "quality", *asked)
    assert told.code == 0, told.err
    return {**told.data["results"][0], "ppl_reference": told.data["reference"]["ppl"]}


@pytest.mark.parametrize("batch", [256, 40])
def test_a_real_model_gives_what_the_tool_gives_whether_a_batch_holds_windows_or_parts_of_one(
    tmp_path: Path, text: Path, smollm: Path, llama_quantize: Path, tool: Tool, batch: int
) -> None:
    variant = tmp_path / "SmolLM2-Q4_0.gguf"
    assert really(llama_quantize, smollm, variant, "Q4_0", "--allow-requantize")
    ours = _ours(smollm, variant, text, "--ctx", 64, "--chunks", 5, "--batch", batch)
    theirs = tool_figures(tool, smollm, variant, text, ctx=64, chunks=5, threads=2, folder=tmp_path, batch=batch)
    assert (ours["chunks"], ours["scored"]) == (5, 5 * 31)
    for name in ("ppl", "ppl_error", "ppl_reference", "kld_mean", "kld_median", "kld_p99", "same_top"):
        assert ours[name] == pytest.approx(theirs[name], rel=WITHIN), name


def test_a_model_with_recurrent_layers_and_a_quantized_cache_gives_it_too(
    tmp_path: Path, text: Path, tiny_qwen35: TinyModel, llama_quantize: Path, tool: Tool
) -> None:
    variant = tmp_path / "tiny-Q4_0.gguf"
    assert really(llama_quantize, tiny_qwen35.model, variant, "Q4_0")
    ours = _ours(tiny_qwen35.model, variant, text, "--ctx", 64, "--chunks", 5, "--kv-type", "q8_0")
    theirs = tool_figures(
        tool, tiny_qwen35.model, variant, text, ctx=64, chunks=5, threads=2, folder=tmp_path, kv_type="q8_0"
    )
    for name in ("ppl", "ppl_reference", "kld_mean", "kld_median", "kld_p99"):
        assert ours[name] == pytest.approx(theirs[name], rel=WITHIN), name
