"""Measure the header reader against gguf's own on a header the size of Qwen's, and write docs/header-speed.md.

    python scripts/bench_header.py            # writes docs/header-speed.md
    python scripts/bench_header.py --check    # exits 1 when our limits are passed

Both readers run in fresh processes, in turn, on the same file, so that the ratio holds on any machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TOKENS, MERGES = 151_936, 151_387
LIMIT_MS, LIMIT_MIB = 60, 60

_READ = """
import json, sys, time
t0 = time.process_time()
{load}
t1 = time.process_time()
tensors = {read}
t2 = time.process_time()
with open("/proc/self/status") as f:
    peak = next((int(line.split()[1]) for line in f if line.startswith("VmHWM")), 0) / 1024
print(json.dumps([(t1 - t0) * 1e3, (t2 - t1) * 1e3, peak, tensors]))
"""
READERS = {
    "qwenops": _READ.format(
        load="from qwenops.model.gguf_header import read_header",
        read="len(read_header(sys.argv[1]).tensors)",
    ),
    "gguf": _READ.format(load="from gguf import GGUFReader", read="len(GGUFReader(sys.argv[1]).tensors)"),
}


def write_header(path: Path) -> None:
    """A file with a vocabulary of Qwen's size and tensors of a 36-layer model, and no weights to speak of."""
    import gguf
    import numpy as np

    rng = random.Random(2)
    alphabet = "abcdefghijklmnopqrstuvwxyz"

    def word(number: int) -> str:
        # lengths as in a byte-level BPE: most of 4 to 9 bytes, a long tail
        length = min(120, max(1, int(rng.lognormvariate(1.85, 0.55))))
        return (f"{number:x}" + alphabet * 5)[: max(length, len(f"{number:x}"))]

    w = gguf.GGUFWriter(path, "qwen3vl")
    w.add_name("A header of Qwen's size")
    w.add_tokenizer_model("gpt2")
    w.add_token_list([word(n) for n in range(TOKENS)])
    w.add_token_types([1] * TOKENS)
    w.add_token_merges([f"{word(rng.randrange(4096))} {rng.choice(alphabet)}" for _ in range(MERGES)])
    w.add_chat_template("x" * 8000)
    for layer in range(36):
        for part in range(11):
            w.add_tensor(f"blk.{layer}.part_{part}.weight", np.zeros(32, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def once(reader: str, path: Path) -> dict[str, float]:
    """One fresh process: milliseconds to import and to read, its peak memory in MiB."""
    out = subprocess.run(
        [sys.executable, "-c", READERS[reader], str(path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    ).stdout
    load, read, peak, tensors = json.loads(out)
    return {"load": load, "read": read, "peak": peak, "tensors": tensors}


def main() -> int:
    """Measure, write the table or check the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="compare with the limits, write nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        write_header(path)
        file_mib = path.stat().st_size / 1024**2
        runs: dict[str, list[dict[str, float]]] = {r: [] for r in READERS}
        for _ in range(args.repetitions):
            for reader in READERS:
                runs[reader].append(once(reader, path))
    found = {r: {k: min(run[k] for run in runs[r]) for k in runs[r][0]} for r in READERS}
    ours, theirs = found["qwenops"], found["gguf"]
    if ours["tensors"] != theirs["tensors"]:
        print("the readers disagree on the number of tensors", file=sys.stderr)
        return 1
    table = page(found, file_mib, args.repetitions)
    if args.check:
        print(table)
        return 0 if ours["read"] < LIMIT_MS and ours["peak"] < LIMIT_MIB else 1
    (REPOSITORY / "docs" / "header-speed.md").write_text(table)
    print(table)
    return 0


def page(found: dict[str, dict[str, float]], file_mib: float, repetitions: int) -> str:
    """The page: one table and how it was made."""
    from importlib.metadata import version

    ours, theirs = found["qwenops"], found["gguf"]
    names = {"qwenops": "qwenops", "gguf": f"gguf {version('gguf')}"}
    rows = [f"| {names[r]} | {f['load']:.0f} | {f['read']:.0f} | {f['peak']:.0f} |" for r, f in found.items()]
    return f"""# Reading a header

Made by `python scripts/bench_header.py`. A GGUF with {TOKENS} tokens, {MERGES} merges, their token types and
{int(ours["tensors"])} tensors ({file_mib:.1f} MiB), read by fresh processes in turn; the best of {repetitions} runs.
Python {platform.python_version()}, {platform.system()} {platform.machine()}; the file is in the page cache.
Times are processor time, so that other work on the machine does not count.

| reader | import (ms) | read (ms) | peak memory of the process (MiB) |
| --- | ---: | ---: | ---: |
{chr(10).join(rows)}

Reading takes {theirs["read"] / ours["read"]:.0f} times less time than with gguf's reader, and the process
{theirs["peak"] / ours["peak"]:.0f} times less memory: gguf builds every string of the vocabulary as an array,
`qwenops/model/gguf_header.py` walks over them.
"""


if __name__ == "__main__":
    sys.exit(main())
