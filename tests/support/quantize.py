"""llama-quantize as the oracle: what it says it would make, what it makes, and an importance matrix for it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from qwenops.model.types import Header
from tests.support.gguf_bytes import Row, write_gguf

_ROW = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\S+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\S+)\))?")


def dry_run(tool: Path, model: Path, quant: str, *options: str) -> dict[str, str] | None:
    """Each tensor's type by name, as `llama-quantize --dry-run` decides it; None where it refuses or aborts."""
    done = _run(tool, *options, "--dry-run", str(model), quant)
    if done.returncode:
        return None
    return {row[1]: (row[3] or row[2]).upper() for row in _ROW.finditer(done.stdout + done.stderr)}


def really(tool: Path, model: Path, target: Path, quant: str, *options: str) -> bool:
    """Whether llama-quantize makes the file."""
    return _run(tool, *options, str(model), str(target), quant, "2").returncode == 0


def _run(tool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # where it aborts it would call a debugger for a backtrace
    quiet = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    return subprocess.run([tool, *arguments], capture_output=True, text=True, errors="replace", timeout=300, env=quiet)


def write_imatrix(path: Path, header: Header, chunks: int = 7, dataset: str = "calibration.txt") -> int:
    """An importance matrix of zeros for every matrix of a model; returns its count of entries."""
    rows: list[Row] = []
    entries = [t for t in header.tensors if len(t.shape) > 1]
    for tensor in entries:
        experts = tensor.shape[2] if len(tensor.shape) > 2 else 1
        rows.append((f"{tensor.name}.in_sum2", (tensor.shape[0], experts), "F32"))
        rows.append((f"{tensor.name}.counts", (1, experts), "F32"))
    keys = {
        "general.type": "imatrix",
        "imatrix.datasets": [dataset],
        "imatrix.chunk_count": chunks,
        "imatrix.chunk_size": 512,
    }
    write_gguf(path, keys, rows)
    return len(entries)
