"""Record what the real llama-server allocates for models of the other families: dense ones, mixtures, embedders.

    python scripts/record_families.py dense               every row that is not recorded yet
    python scripts/record_families.py embedders --again   all of them

As scripts/record_loads.py, whose loads these are. Each model is loaded whole and in part, with and without flash
attention, with a cache of 16, 8 and 4 bits, for one and for three at once. The results are
tests/memory/recorded_dense.json and recorded_embedders.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.record_loads import Row, as_text, measure, predicted, row_key
from tests.support.families_embedders import EMBEDDERS
from tests.support.shapes import TEXT

FOLDER = Path(__file__).resolve().parents[1] / "tests/memory"

# by how much of them the software device is given: all layers, or only a few of a large one
DENSE: dict[str, tuple[str, ...]] = {
    "whole": (
        "mixtral-small",
        "qwen2moe-small",
        "olmo-2-1b",
        "olmo-3-small",
        "olmoe-small",
        "command-r-small",
        "command-r-plus-small",
        "internlm2-1.8b",
        "stablelm-2-1.6b",
        "stablelm-2-12b-small",
        "falcon-40b-small",
        "seed-oss-small",
        "ernie-4.5-0.3b",
        "ernie-moe-small",
        "dots-small",
        "ling-small",
        "phi-moe-small",
        "gpt-neox-small",
        "pythia-1.4b",
        "gpt2",
        "minitron-small",
        "glm-edge-1.5b",
        "afm-small",
        "deci-small",
        "granite-4-vision-small",
        "smollm3-small",
        "gemma-small",
        "phi-2-small",
        "starcoder2-small",
        "minicpm-small",
    ),
    "part": (
        "mixtral-8x7b",
        "qwen1.5-moe-a2.7b",
        "olmo-3-7b",
        "smollm3-3b",
        "gemma-2b",
        "phi-2",
        "starcoder2-3b",
        "minicpm-2b",
        "falcon-7b",
        "hunyuan-1.8b",
        "ernie-4.5-21b-a3b",
        "ling-mini-2.0",
        "glm-4-9b-chat",
    ),
}


def dense_rows() -> Iterator[Row]:
    """Four loads of what fits whole, two of what does not."""
    for name in DENSE["whole"]:
        layers = TEXT[name].layers
        yield name, "Q4_K_M", {"num_ctx": 4096}, None, None
        yield name, "Q4_K_M", {"num_ctx": 2048, "parallel": 3, "batch": 1024, "ubatch": 1024, **_kv("q8_0")}, None, None
        yield name, "Q4_K_M", {"num_ctx": 2048, "flash_attn": "off", "gpu_layers": layers - 1}, None, None
        partly = {"num_ctx": 3000, "flash_attn": "on", "gpu_layers": layers // 3, **_kv("q4_0")}
        yield name, "Q8_0", partly, None, None
    # blocks with positions and without, of one type: nothing but their place tells them apart
    yield "smollm3-small", "Q8_0", {"num_ctx": 4096}, None, None
    for name in DENSE["part"]:
        few = 2 if TEXT[name].experts else 6
        eight = _kv("f16" if TEXT[name].head % 32 else "q8_0")
        yield name, "Q4_K_M", {"num_ctx": 4096, "gpu_layers": few, **eight}, None, None
        more = few + (1 if TEXT[name].experts else 2)
        yield name, "Q4_K_M", {"num_ctx": 1500, "parallel": 3, "flash_attn": "off", "gpu_layers": more}, None, None


def embedder_rows() -> Iterator[Row]:
    """Batches as long as Ollama makes them, on all layers and on half of them; a context that is no round number."""
    for name, dims in EMBEDDERS.items():
        longest = min(dims.context, 2048)
        whole = _batches(longest)
        yield name, "F16", whole, None, None
        yield name, "Q8_0", {**whole, "flash_attn": "off"}, None, None
        yield name, "F16", {**whole, "flash_attn": "on", "gpu_layers": dims.layers // 2, **_kv("q8_0")}, None, None
        yield name, "Q4_K_M", {**_batches(500), "gpu_layers": dims.layers}, None, None
        if dims.context > longest:
            yield name, "F16", {**whole, "num_ctx": min(dims.context, 8192)}, None, None


def _batches(tokens: int) -> dict[str, Any]:
    return {"num_ctx": tokens, "batch": tokens, "ubatch": tokens}


def _kv(kv_type: str) -> dict[str, Any]:
    return {"kv_type_k": kv_type, "kv_type_v": kv_type}


ROWS = {"dense": dense_rows, "embedders": embedder_rows}


def record(family: str, *, again: bool) -> None:
    """Load what is not recorded, and say beside each load what the closed form makes of it."""
    out = FOLDER / f"recorded_{family}.json"
    kept = [] if again or not out.exists() else json.loads(out.read_text())["loads"]
    known = {row_key(r["shape"], r["quant"], r["settings"], r["projector"], r["target_mib"]) for r in kept}
    with tempfile.TemporaryDirectory() as folder:
        for wanted in ROWS[family]():
            if row_key(*wanted) in known:
                continue
            row = measure(*wanted, Path(folder))
            if not row["devices"]:
                print("no load:", wanted, *row["log_end"], sep="\n  ", flush=True)
                continue
            mine, truth = predicted(row)
            print(f"{mine - truth:+8.2f} MiB of {truth:9.2f}", row["layers"], *wanted, flush=True)
            row.pop("log_end")
            kept.append(row)
            out.write_text(as_text(kept))


def main() -> int:
    """Record one family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(ROWS))
    parser.add_argument("--again", action="store_true", help="record rows that are recorded already")
    asked = parser.parse_args()
    record(asked.family, again=asked.again)
    return 0


if __name__ == "__main__":
    sys.exit(main())
