"""Register a 3 GiB model by link and by `ollama create` in one run, and write docs/registration-speed.md.

    python scripts/bench_register.py            # about 10 GiB of disk for a few minutes; writes the page
    python scripts/bench_register.py --check    # exits 1 when a tenth of the time, or no disk, does not hold

Both are whole processes against one real Ollama, on one file that was just written and lies in the page cache. The
file has the shape of Qwen3-4B in Q6_K and random bytes for weights: no holes and nothing to compress, so that no file
system makes either way look cheaper than it is. The digest is not known beforehand to either.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.server import OllamaServer

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
PAGE = REPOSITORY / "docs" / "registration-speed.md"
MODEL, QUANT = "qwen3-4b", "Q6_K"
SHARE_OF_TIME = 0.10
DISK_BYTES = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Measured:
    """One way of registering: wall and processor seconds (the server's too), bytes that the store gained."""

    what: str
    seconds: float
    processor_seconds: float
    store_bytes: int
    peak_bytes: int


def write_model(path: Path) -> None:
    """A model file of true shape whose every byte is on the disk."""
    from tests.support.shapes import TEXT, write_text

    write_text(path, TEXT[MODEL], QUANT, vocabulary="full")
    size = path.stat().st_size
    header = _header_bytes(path)
    # Six random bits a byte: llama-quantize refuses weights whose scales are infinite or not a number.
    block = bytearray(byte & 63 for byte in os.urandom(1 << 20))
    with path.open("r+b") as file:
        file.seek(header)
        for number in range((size - header) // len(block) + 1):
            block[:4] = bytes(number >> shift & 63 for shift in (0, 6, 12, 18))
            file.write(block[: min(len(block), size - file.tell())])
        os.fsync(file.fileno())


def _header_bytes(path: Path) -> int:
    from qwenops.model.gguf_header import read_header

    return read_header(path).data_offset


def used(folder: Path) -> int:
    """Bytes on the disk below a folder that no file outside it shares: a hard link adds none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if path.is_file() and status.st_nlink == 1:
            total += status.st_blocks * 512
    return total


def processor_seconds(server: int) -> float:
    """Processor time of the server with its children, and of ours."""
    import psutil

    theirs, ours = psutil.Process(server).cpu_times(), os.times()
    return sum((theirs.user, theirs.system, theirs.children_user, theirs.children_system)) + sum(
        (ours.children_user, ours.children_system)
    )


def timed(what: str, command: list[str], env: dict[str, str], server: OllamaServer) -> Measured:
    """Run a command and watch the store while it runs."""
    os.sync()
    store, spent = server.store, processor_seconds(server.pid)
    before = peak = used(store)
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.STDOUT)
        while child.poll() is None:
            peak = max(peak, used(store))
            time.sleep(0.02)
        seconds = time.monotonic() - started
        if child.returncode != 0:
            said.seek(0)
            raise SystemExit(f"{what} failed: {said.read()[-500:].decode('utf-8', 'replace')}")
    after = used(store)
    spent = processor_seconds(server.pid) - spent
    return Measured(what, seconds, spent, after - before, max(peak, after) - before)


def measure(folder: Path) -> tuple[list[Measured], int]:
    """The link, the link again with its digest known, then create."""
    from tests.support.parts import layout
    from tests.support.server import start_ollama

    model = folder / "model.gguf"
    write_model(model)
    modelfile = folder / "Modelfile"
    modelfile.write_text(f"FROM {model}\nPARAMETER num_ctx 4096\n")
    server = start_ollama(folder / "server", gpu=False)
    env = {**os.environ, **server.env, "QWENOPS_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)}
    ours = [sys.executable, "-m", "qwenops", "register", "-f", str(modelfile)]
    theirs = [str(layout().ollama), "create", "by-create", "-f", str(modelfile)]
    remove: Callable[[str], object] = lambda name: subprocess.run(  # noqa: E731
        [str(layout().ollama), "rm", name], env=env, check=True, capture_output=True
    )
    try:
        rows = [timed("qwenops register", [*ours, "by-link"], env, server)]
        remove("by-link")
        rows.append(timed("qwenops register, digest known", [*ours, "by-link"], env, server))
        remove("by-link")
        rows.append(timed("ollama create", theirs, env, server))
        return rows, model.stat().st_size
    finally:
        server.stop()


def page(rows: list[Measured], size: int) -> str:
    """The page of docs/."""
    create = next(r.seconds for r in rows if r.what == "ollama create")
    table = "\n".join(
        f"| {r.what} | {r.seconds:.1f} | {r.seconds / create:.1%} | {r.processor_seconds:.1f} "
        f"| {r.store_bytes / GIB:.2f} | {r.peak_bytes / GIB:.2f} |"
        for r in rows
    )
    return f"""# What registering a model costs

One file of {size / GIB:.2f} GiB (the shape of Qwen3-4B in Q6_K, random weights, every byte on the disk), registered in
one real Ollama 0.32.14 in one run. Whole processes, wall time. The file had just been written, so both read it
from memory; its digest was known to neither, except in the second row.

| | seconds | share of create | processor seconds | disk that stays (GiB) | most disk on the way (GiB) |
| --- | ---: | ---: | ---: | ---: | ---: |
{table}

`ollama create` reads the file for its digest, uploads it to the server, which hashes it while it writes it, and has
llama-quantize rewrite it into a second blob; the first is pruned when the server next starts. A link needs the
digest, and a few hundred bytes for the parameters, the configuration and the manifest.

Made by `python scripts/bench_register.py` on {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python
{platform.python_version()}.
"""


def main() -> int:
    """Measure, write the page or check the limits."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--check", action="store_true", help="exit 1 when the limits do not hold; write nothing")
    options.add_argument("--folder", type=Path, help="where to work (a file system with 10 GiB free)")
    chosen = options.parse_args()
    if shutil.disk_usage(chosen.folder or tempfile.gettempdir()).free < 12 * GIB:
        raise SystemExit("this takes 12 GiB of disk; name a roomier place with --folder")
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="qwenops-bench-") as folder:
        rows, size = measure(Path(folder))
    text = page(rows, size)
    print(text)
    link, create = rows[0], rows[-1]
    if chosen.check:
        right = link.seconds < SHARE_OF_TIME * create.seconds and link.peak_bytes < DISK_BYTES
        return 0 if right else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
