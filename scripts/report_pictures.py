"""The pictures of the report in docs/: a real history made here with the small models, drawn by a real Chromium.

    python -m scripts.report_pictures [--again]

Makes quants of SmolLM2, sets them up in an Ollama of its own on the software GPU, measures quality and speed, and asks
`qwenops report` for its page, with a published model beside them on a card that is not here. Everything lies below
.cache/report; `--again` draws the page that is there. About half an hour on two quiet cores.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from scripts.browser import Chromium
from scripts.parts.layout import Layout, default_root
from scripts.parts.server import start_ollama

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT / ".cache" / "report"
STEM = "SmolLM2-135M-Instruct"
QUANTS = ("Q8_0", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M")
SET_UP = ("Q8_0", "Q4_K_M", "Q3_K_M")
CARD = "RTX 3060 12GB"
PUBLISHED = "qwen3-vl:8b"
MOST_BYTES = 200_000
# file, width, height, scheme, the part at the top
PICTURES = (
    ("report-desktop-light", 1280, 800, "light", "explorer"),
    ("report-desktop-dark", 1280, 800, "dark", "memory"),
    ("report-phone-light", 360, 740, "light", "explore"),
    ("report-phone-dark", 360, 740, "dark", "quality"),
)


def main() -> int:
    """Measure, ask for the page, draw; returns 0 when every picture is there and small enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="draw the page that is there")
    page = FOLDER / "report.html"
    if not parser.parse_args().again:
        measure(Layout(default_root()))
        _qwenops(_environment(), "report", PUBLISHED, *_models(), "--for", "ocr", "--gpu", CARD, "-o", str(page))
    return draw(page)


def measure(layout: Layout) -> None:
    """Fill the history: loads, quality, speed."""
    models = FOLDER / "models"
    models.mkdir(parents=True, exist_ok=True)
    env = _environment()
    whole = models / f"{STEM}.F16.gguf"
    if not whole.exists():
        _qwenops(env, "quants", "make", str(layout.smollm), "F16", "--allow-requantize", "-o", str(models))
    missing = [quant for quant in QUANTS if not (models / f"{STEM}.{quant}.gguf").exists()]
    if missing:
        _qwenops(env, "quants", "make", str(whole), *missing, "-o", str(models))
    server = start_ollama(layout.ollama, FOLDER / "ollama")
    try:
        for quant in SET_UP:
            file = str(models / f"{STEM}.{quant}.gguf")
            _qwenops({**server.env, **env}, "up", file, "--name", f"report-{quant.lower()}", "--for", "chat", "--yes")
    finally:
        server.stop()
    others = [str(models / f"{STEM}.{quant}.gguf") for quant in QUANTS]
    _qwenops(env, "bench", "quality", "--reference", str(whole), *others, "--ctx", "256", "--chunks", "10")
    few = [str(models / f"{STEM}.{quant}.gguf") for quant in ("Q8_0", "Q4_K_M", "IQ4_XS")]
    sizes = ("--prompt", "64", "--generate", "16", "--depth", "0", "--depth", "256", "--depth", "768")
    _qwenops(env, "bench", "speed", *few, *sizes, "--repetitions", "7")


def draw(page: Path) -> int:
    """The pictures, as small as PNG makes them; says their sizes."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder, Chromium(Path(folder)) as browser:
        for name, width, height, scheme, top in PICTURES:
            tab = browser.open(page, width=width, height=height, scheme=scheme, reduced=True)
            tab.run(f"document.getElementById({top!r}).scrollIntoView(); scrollBy(0, -12)")
            target = CHECKOUT / "docs" / f"{name}.png"
            Image.open(io.BytesIO(tab.picture())).convert("RGB").save(target, optimize=True)
            size = target.stat().st_size
            failed += size > MOST_BYTES
            print(f"{target.relative_to(CHECKOUT)}  {width}x{height} {scheme}  {size / 1000:.0f} kB")
    return int(failed > 0)


def _models() -> list[str]:
    return [str(FOLDER / "models" / f"{STEM}.{quant}.gguf") for quant in ("F16", *QUANTS)]


def _environment() -> dict[str, str]:
    return {**os.environ, "QWENOPS_HOME": str(FOLDER / "home"), "PYTHONPATH": str(CHECKOUT)}


def _qwenops(env: Mapping[str, str], *words: str) -> None:
    print(f"\nqwenops {' '.join(words)}", flush=True)
    program = [sys.executable, "-m", "qwenops", *words]
    done = subprocess.run(program, cwd=CHECKOUT, env=dict(env), stdin=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
