"""Record what the real llama-server allocates for ghosts of real models: truths to test the closed form with.

    python scripts/record_loads.py                          every row of ROWS that is not recorded yet
    python scripts/record_loads.py --again                  all of them
    python scripts/record_loads.py --random 30 --seed 7     rows nobody chose, printed beside the closed form's answer

Needs the server that Ollama ships (scripts/parts) and a Vulkan device; the software one of Mesa is enough. A ghost
loads for real, but no token is computed: the server is stopped once it has reserved its buffers. The result is
tests/memory/recorded_loads.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.encoder import encoder_warmup_bytes
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, VISION, text_model, vision_projector, write_text, write_vision

OUT = Path(__file__).resolve().parents[1] / "tests/memory/recorded_loads.json"
SECONDS = 240
DEFAULT = LoadSettings()

Row = tuple[str, str, dict[str, Any], str | None, int | None]

# shape, quant, settings that differ from the defaults, projector, fit target in MiB ("auto" rows only)
ROWS: list[Row] = [
    ("smollm2-135m", "Q4_K_M", {"num_ctx": 8192}, None, None),
    ("smollm2-135m", "F16", {"num_ctx": 2048, "parallel": 4, "gpu_layers": 12}, None, None),
    ("llama-3.2-1b", "Q4_K_M", {"num_ctx": 16384, "ubatch": 1024, "batch": 1024}, None, None),
    ("llama-3.2-1b", "Q4_0", {"num_ctx": 4096, "parallel": 3, "gpu_layers": 9}, None, None),
    (
        "llama-3.2-3b",
        "Q4_K_M",
        {"num_ctx": 4096, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "gpu_layers": 20},
        None,
        None,
    ),
    ("llama-3.1-8b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 5}, None, None),
    ("tinyllama-1.1b", "Q8_0", {"num_ctx": 2048, "batch": 2048, "ubatch": 2048}, None, None),
    ("qwen2.5-0.5b", "Q8_0", {"num_ctx": 32768, "batch": 2048, "ubatch": 2048}, None, None),
    ("qwen2.5-1.5b", "Q4_K_M", {"num_ctx": 131072, "kv_type_k": "q4_0", "kv_type_v": "q4_0"}, None, None),
    ("qwen2.5-7b", "Q4_K_M", {"num_ctx": 16384, "gpu_layers": 8, "batch": 1024, "ubatch": 1024}, None, None),
    ("qwen3-0.6b", "Q4_K_M", {"num_ctx": 8192, "parallel": 1}, None, None),
    ("qwen3-0.6b", "Q8_0", {"num_ctx": 2048, "parallel": 4}, None, None),
    ("qwen3-1.7b", "Q4_K_M", {"num_ctx": 4096, "flash_attn": "off"}, None, None),
    (
        "qwen3-1.7b",
        "Q4_K_M",
        {"num_ctx": 16384, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "gpu_layers": 14},
        None,
        None,
    ),
    ("qwen3-4b", "IQ4_XS", {"num_ctx": 3000, "gpu_layers": 25}, None, None),
    ("qwen3-8b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 0}, None, None),
    ("qwen3-30b-a3b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 4}, None, None),
    ("qwen3-30b-a3b", "Q4_0", {"num_ctx": 4096, "gpu_layers": 3, "batch": 2048, "ubatch": 2048}, None, None),
    ("qwen2-vl-2b", "Q4_K_M", {"num_ctx": 4096}, "qwen2-vl", None),
    ("qwen2.5-vl-3b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 20}, "qwen2.5-vl-3b", None),
    ("qwen3-vl-2b", "Q4_K_M", {"num_ctx": 4096}, "qwen3-vl-2b", None),
    (
        "qwen3-vl-2b",
        "Q4_K_M",
        {"num_ctx": 16384, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "batch": 1024, "ubatch": 1024},
        None,
        None,
    ),
    ("qwen3-vl-2b", "Q8_0", {"num_ctx": 4096, "parallel": 2, "gpu_layers": 20}, None, None),
    ("qwen3-vl-4b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 12}, "qwen3-vl-4b", None),
    (
        "qwen3-vl-8b",
        "Q4_K_M",
        {"num_ctx": 32768, "gpu_layers": 4, "kv_type_k": "q4_0", "kv_type_v": "q4_0"},
        None,
        None,
    ),
    ("qwen3-vl-30b-a3b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 3}, "qwen3-vl-8b", None),
    ("qwen3.5-0.8b", "Q4_K_M", {"num_ctx": 32768}, "qwen3.5-0.8b", None),
    (
        "qwen3.5-0.8b",
        "Q8_0",
        {"num_ctx": 131072, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "batch": 2048, "ubatch": 2048},
        None,
        None,
    ),
    ("qwen3.5-2b", "Q4_K_M", {"num_ctx": 16384, "batch": 1024, "ubatch": 1024}, None, None),
    ("qwen3.5-2b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 13}, "qwen3.5-2b", None),
    ("qwen3.5-4b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 10, "parallel": 2}, None, None),
    ("qwen3.5-9b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 5}, None, None),
    ("qwen3.6-27b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 2}, None, None),
    ("qwen3.6-35b-a3b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 3}, None, None),
    ("qwen3-1.7b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": "auto"}, None, 1024),
    ("qwen3-4b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": "auto"}, None, 512),
    ("qwen3-vl-2b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": "auto"}, "qwen3-vl-2b", 100),
    ("qwen3.5-2b", "Q4_K_M", {"num_ctx": 16384, "gpu_layers": "auto"}, None, 1024),
    ("llama-3.1-8b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": "auto"}, None, 200),
    ("qwen3-30b-a3b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": "auto"}, None, 300),
    ("llama-3.2-1b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": "auto"}, None, 1024),
    ("gemma-2-2b-small-head", "Q4_K_M", {"num_ctx": 8192}, None, None),
    ("gemma-2-2b-small-head", "Q4_K_M", {"num_ctx": 6000, "flash_attn": "off"}, None, None),
    ("gemma-2-2b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 10, "parallel": 2}, None, None),
    ("gemma-2-9b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 3}, None, None),
    ("gemma-3-270m", "Q8_0", {"num_ctx": 4096, "parallel": 3}, None, None),
    ("gemma-3-1b", "Q4_K_M", {"num_ctx": 32768}, None, None),
    ("gemma-3-1b-small-head", "Q4_K_M", {"num_ctx": 8192, "flash_attn": "off"}, None, None),
    (
        "gemma-3-1b-small-head",
        "Q4_K_M",
        {"num_ctx": 8192, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "gpu_layers": 14},
        None,
        None,
    ),
    ("gemma-3-1b-small-head", "Q4_K_M", {"num_ctx": 32768, "gpu_layers": "auto"}, None, 1400),
    ("gemma-3-4b", "Q4_K_M", {"num_ctx": 16384, "batch": 2048, "ubatch": 2048, "gpu_layers": 20}, None, None),
    ("gpt-oss-small", "MXFP4", {"num_ctx": 8192}, None, None),
    ("gpt-oss-small", "MXFP4", {"num_ctx": 8192, "flash_attn": "off"}, None, None),
    (
        "gpt-oss-small",
        "MXFP4",
        {"num_ctx": 8192, "gpu_layers": 5, "kv_type_k": "q8_0", "kv_type_v": "q8_0"},
        None,
        None,
    ),
    ("gpt-oss-small", "MXFP4", {"num_ctx": 16384, "gpu_layers": "auto"}, None, 800),
    ("gpt-oss-20b", "MXFP4", {"num_ctx": 8192, "gpu_layers": 4}, None, None),
    ("llama-3.2-1b-factors", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 7}, None, None),
    ("command-r7b-small", "Q4_K_M", {"num_ctx": 8192}, None, None),
    ("command-r7b-small", "Q4_K_M", {"num_ctx": 8192, "flash_attn": "off", "gpu_layers": 5}, None, None),
    ("command-r7b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 3}, None, None),
    ("phi-3.5-mini", "Q4_K_M", {"num_ctx": 1000, "gpu_layers": 20}, None, None),
    ("phi-3.5-mini", "Q4_0", {"num_ctx": 1000, "gpu_layers": 12, "flash_attn": "off"}, None, None),
    ("phi-4-mini", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 16}, None, None),
    ("granite-3.3-2b", "Q4_K_M", {"num_ctx": 4096}, None, None),
    ("granite-3.3-2b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 11, "parallel": 2, "flash_attn": "off"}, None, None),
    ("granite-3.1-1b-a400m", "Q4_K_M", {"num_ctx": 4096}, None, None),
    ("granite-3.1-1b-a400m", "Q8_0", {"num_ctx": 4096, "gpu_layers": 11}, None, None),
    ("granite-3.1-1b-a400m", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": "auto"}, None, 1300),
    ("ministral-3-3b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 18}, None, None),
    ("ministral-3-3b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": "auto"}, None, 300),
    ("lfm2-350m", "Q4_K_M", {"num_ctx": 8192}, None, None),
    ("lfm2-350m", "Q8_0", {"num_ctx": 4096, "parallel": 2, "gpu_layers": 9}, None, None),
    ("lfm2-1.2b", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 9, "flash_attn": "off"}, None, None),
    ("lfm2-moe-small", "Q4_K_M", {"num_ctx": 4096}, None, None),
    ("lfm2-moe-small", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 9}, None, None),
    ("qwen3-next-small", "Q4_K_M", {"num_ctx": 4096}, None, None),
    ("qwen3-next-small", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 4}, None, None),
    ("qwen3-next-small", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": 4, "parallel": 2, "flash_attn": "off"}, None, None),
    ("qwen3-next-small", "Q4_K_M", {"num_ctx": 4096, "gpu_layers": "auto"}, None, 1200),
]

_BUFFER = re.compile(
    r"(load_tensors|llama_kv_cache|llama_memory_recurrent|sched_reserve): +(\S+) (.*?)buffer size = +([\d.]+)"
)
_WEIGHTS = re.compile(r"load_tensors: .*model buffer size = +([\d.]+)")
_SHARE = re.compile(r"\[mtmd\] adding ([\d.]+) MiB to fit_params_target for device (\S+)")
_LAYERS = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_KIND = {"load_tensors": "model", "llama_kv_cache": "KV", "llama_memory_recurrent": "RS", "sched_reserve": "compute"}


def server_path() -> Path:
    """The llama-server beside Ollama, as scripts/parts lays it out."""
    parts = Path(os.environ.get("QWENOPS_PARTS", Path.home() / ".cache/qwenops-parts"))
    return parts / "ollama/lib/ollama/llama-server"


def load(
    model: Path,
    projector: Path | None,
    settings: LoadSettings,
    *,
    target_mib: int | None = None,
    layers: int = 0,
    embedding: bool = False,
) -> dict[str, Any]:
    """Start the server as Ollama does, read its buffers, stop it."""
    command = _command(model, projector, settings, layers)
    lines = _log([*command, "--embedding"] if embedding else command, target_mib)
    seen: dict[str, float] = {}
    loaded = False
    found: dict[str, Any] = {"devices": {}, "projector_mib": 0.0, "layers": None}
    for line in lines:
        if m := _BUFFER.search(line):
            maker, name, _, size = m.groups()
            key = f"{name} {_KIND[maker]}"
            if maker == "load_tensors" and float(size) > 0 and not loaded:
                loaded, seen = True, {}  # what came before was the fit's rehearsal
            seen[key] = seen.get(key, 0.0) + float(size) if maker == "llama_kv_cache" else float(size)
        if (m := _SHARE.search(line)) and m.group(2) == "Vulkan0":
            found["projector_mib"] = float(m.group(1))
        if m := _LAYERS.search(line):
            found["layers"] = int(m.group(1))
    found["devices"] = seen if loaded else {}
    found["log_end"] = [] if loaded else lines[-8:]
    return found


def _command(model: Path, projector: Path | None, s: LoadSettings, layers: int) -> list[str]:
    command = [str(server_path()), "--model", str(model), "--offline", "--no-webui"]
    command += ["--log-verbosity", "5", "--no-log-prefix", "--no-log-timestamps"]
    command += ["-c", str(s.num_ctx * s.parallel), "-np", str(s.parallel), "--flash-attn", s.flash_attn]
    command += ["-b", str(s.batch), "-ub", str(s.ubatch)]
    command += ["--cache-type-k", s.kv_type_k, "--cache-type-v", s.kv_type_v]
    command += ["--no-jinja", "--chat-template", "chatml"]
    if s.gpu_layers != "auto":
        command += ["-ngl", str(layers if s.gpu_layers == "all" else s.gpu_layers)]
    if projector is not None:
        command += ["--mmproj", str(projector)]
    else:
        command += ["--no-warmup"]
    return command


def _log(command: list[str], target_mib: int | None) -> list[str]:
    environment = os.environ | {"GGML_VK_VISIBLE_DEVICES": "0", "LD_LIBRARY_PATH": str(server_path().parent)}
    if target_mib is not None:
        environment["LLAMA_ARG_FIT_TARGET"] = str(target_mib)
    with tempfile.TemporaryDirectory() as folder:
        command = [*command, "--host", f"{folder}/server.sock"]
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        clock = threading.Timer(SECONDS, child.kill)
        clock.start()
        lines, loading = [], False
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line.rstrip())
            size = _WEIGHTS.search(line)
            loading = loading or (size is not None and float(size.group(1)) > 0)  # the rehearsal says 0.00
            if loading and "sched_reserve: reserve took" in line:
                break
        clock.cancel()
        child.kill()
        child.stdout.close()
        child.wait()
    return lines


def device() -> Device:
    """The software GPU, as the server lists it."""
    return Device("Vulkan0", "vulkan", "llvmpipe (LLVM 15.0.6, 256 bits)", 2048 * MIB, 2048 * MIB, source="runtime")


def row_key(shape: str, quant: str, changed: dict[str, Any], projector: str | None, target: int | None) -> str:
    """One row's identity."""
    return json.dumps([shape, quant, changed, projector, target], sort_keys=True)


def measure(
    shape: str, quant: str, changed: dict[str, Any], projector: str | None, target: int | None, folder: Path
) -> dict[str, Any]:
    """Write the ghosts, load them, say what was seen."""
    dims, settings = TEXT[shape], replace(DEFAULT, **changed)
    model = write_text(folder / f"{shape}-{quant}.gguf", dims, quant)
    vision = write_vision(folder / f"mmproj-{projector}.gguf", VISION[projector]) if projector else None
    embedding = "pooling_type" in dict(dims.more_keys)  # as Ollama decides it
    seen = load(model, vision, settings, target_mib=target, layers=dims.layers + 1, embedding=embedding)
    row = {"shape": shape, "quant": quant, "settings": changed, "projector": projector, "target_mib": target}
    return row | seen


def predicted(row: dict[str, Any]) -> tuple[float, float]:
    """The closed form's device total and the server's, in MiB, with the encoder at its load size."""
    settings = replace(DEFAULT, **row["settings"])
    projector = vision_projector(VISION[row["projector"]]) if row["projector"] else None
    model = text_model(TEXT[row["shape"]], row["quant"], projector)
    reserve = {"Vulkan0": (row["target_mib"] or 0) * MIB}
    need = closed_form(model, settings, (device(),), reserve_bytes=reserve).devices[0]
    total = need.total_bytes - need.encoder_bytes
    if projector is not None:
        total += encoder_warmup_bytes(projector, flash_attn=settings.flash_attn != "off", device=device())
    truth = sum(size for name, size in row["devices"].items() if name.startswith("Vulkan0 ")) + row["projector_mib"]
    return total / MIB, truth


def random_row(dice: random.Random) -> Row:
    """A shape and settings that nobody picked, not larger than the software device says it is."""
    while True:
        row = _any_row(dice)
        model, settings = text_model(TEXT[row[0]], row[1]), replace(DEFAULT, **row[2])
        need = closed_form(model, settings, (device(),))
        fits = need.total_device_bytes < need.devices[0].free_bytes and need.host.kv_bytes < GIB
        if fits and not any("aborts" in note for note in need.notes):
            return row


def _any_row(dice: random.Random) -> Row:
    shape = dice.choice([n for n in TEXT if n != "mistral-7b"])
    layers = TEXT[shape].layers + 1
    kv = dice.choice(["f16", "q8_0", "q4_0"])
    batch = dice.choice([512, 1024, 2048])
    settings = {
        "num_ctx": dice.choice([2048, 3000, 4096, 8192, 16384, 32768, 65536, 131072]),
        "parallel": dice.choice([1, 1, 1, 2, 4]),
        "batch": batch,
        "ubatch": batch,
        "kv_type_k": kv,
        "kv_type_v": kv,
        "gpu_layers": dice.choice([layers, layers, dice.randint(0, layers)]),
    }
    return shape, dice.choice(["Q4_K_M", "Q8_0", "Q4_0"]), settings, None, None


def as_text(loads: list[dict[str, Any]]) -> str:
    """JSON with a line a load, so that a changed load is a changed line."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in loads)
    head = f' "server": "b10434",\n "device": {json.dumps(asdict(device()))},\n'
    return "{\n" + head + ' "loads": [\n' + rows + "\n ]\n}\n"


def main() -> int:
    """Record, or compare rows drawn by chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="record rows that are recorded already")
    parser.add_argument(
        "--random", type=int, default=0, metavar="N", help="compare N rows drawn by chance, record none"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    kept = [] if asked.again or not OUT.exists() else json.loads(OUT.read_text())["loads"]
    dice = random.Random(asked.seed)
    rows = [random_row(dice) for _ in range(asked.random)] if asked.random else ROWS
    known = {row_key(r["shape"], r["quant"], r["settings"], r["projector"], r["target_mib"]) for r in kept}
    with tempfile.TemporaryDirectory() as folder:
        for wanted in rows:
            if not asked.random and row_key(*wanted) in known:
                continue
            row = measure(*wanted, Path(folder))
            if not row["devices"]:
                print("no load:", wanted, *row["log_end"], sep="\n  ")
                continue
            mine, truth = predicted(row)
            print(f"{mine - truth:+8.2f} MiB of {truth:9.2f}", row["layers"], *wanted, flush=True)
            if not asked.random:
                row.pop("log_end")
                kept.append(row)
                OUT.write_text(as_text(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
