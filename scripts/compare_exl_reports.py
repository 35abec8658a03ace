"""Hold the need of EXL models against public reports of real loads, and write the table of docs/exllama.md.

    python -m scripts.compare_exl_reports            # writes the table into docs/exllama.md
    python -m scripts.compare_exl_reports --check    # exits 1 where a report lies outside the band

No ExLlama runs here: the models are headers of the stated shape and bits, and the reports are those of their authors,
of older versions than the ones that were read, on cards whose other use is not known. It is a check of the size of
what is estimated, not a measurement.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from qwenops.memory.exl import ExlNeed, ExlSettings, estimator
from qwenops.memory.exl_cache import CacheBits
from qwenops.model.exl import read_exl
from qwenops.units import MIB
from tests.support.exl import Dims, config, ghost, tensors

DOCS = Path(__file__).resolve().parents[1] / "docs" / "exllama.md"
BEGIN, END = "<!-- reports -->\n", "<!-- end of reports -->"

QWEN25_32B = Dims(
    architecture="Qwen2ForCausalLM",
    layers=64,
    hidden=5120,
    heads=40,
    kv_heads=8,
    feed_forward=27648,
    vocabulary=152064,
    vision_blocks=0,
)
LLAMA3_8B = Dims(
    architecture="LlamaForCausalLM",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    feed_forward=14336,
    vocabulary=128256,
    vision_blocks=0,
)


@dataclass(frozen=True)
class Report:
    """One load as somebody reported it, in MiB by the driver's count."""

    model: str
    dims: Dims
    engine: str
    bits: int
    num_ctx: int
    cache: CacheBits
    reported_mib: int
    source: str


REPORTS = (
    Report("Qwen2.5-32B", QWEN25_32B, "exl3", 4, 8192, CacheBits(16, 16), 18665, "oobabooga/textgen#6903"),
    Report("Qwen2.5-32B", QWEN25_32B, "exl3", 4, 8192, CacheBits(4, 4), 16827, "oobabooga/textgen#6903"),
    Report("Qwen2.5-32B", QWEN25_32B, "exl3", 4, 8192, CacheBits(4, 8), 17097, "oobabooga/textgen#6903"),
    Report("Llama-3-8B", LLAMA3_8B, "exl2", 5, 65536, CacheBits(4, 4), 8788, "turboderp-org/exllamav2#575"),
)


def need_of(report: Report) -> ExlNeed:
    """What we say of the model that was reported, without pictures."""
    with tempfile.TemporaryDirectory() as folder:
        table = tensors(report.dims, report.engine, report.bits)
        made = ghost(Path(folder) / "model", table, config(report.dims, report.engine, report.bits))
        settings = ExlSettings(report.num_ctx, report.cache, sees=False)
        return estimator(read_exl(made)).need(settings)


def within(report: Report, need: ExlNeed) -> bool:
    """Whether the report lies within the band."""
    return need.band.low <= report.reported_mib * MIB <= need.band.high


def table() -> str:
    """The table of all reports."""
    rows = ["| model | context | cache | exact | in all | band | reported | source |", "|---|" + "---:|" * 6 + "---|"]
    for report in REPORTS:
        need = need_of(report)
        exact, total, low, high = (
            f"{n // MIB}" for n in (need.exact_bytes, need.total_bytes, need.band.low, need.band.high)
        )
        name = f"{report.model} {report.engine.upper()} {report.bits}.0 bpw"
        rows.append(
            f"| {name} | {report.num_ctx} | {report.cache} | {exact} | {total} "
            f"| {low} to {high} | {report.reported_mib} | {report.source} |"
        )
    return "\n".join(rows) + "\n"


def main() -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        outside = [r for r in REPORTS if not within(r, need_of(r))]
        for report in outside:
            print(f"outside the band: {report}")
        return 1 if outside else 0
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
