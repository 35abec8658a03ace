"""What llama-bench measured, as rows of our own: a row of its JSON or JSON Lines (`-o json`, `-o jsonl`) of any build.

Fields and test names: tools/llama-bench/llama-bench.cpp (b10435); of builds before `backends` and `n_depth` came
(examples/llama-bench, 2023 to 2025) the flags cuda, metal, vulkan, blas ... say where it ran.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.history import ResultRow

_BACKEND_FLAGS: Final = {
    "cuda": "CUDA",
    "vulkan": "Vulkan",
    "metal": "Metal",
    "sycl": "SYCL",
    "opencl": "OpenCL",
    "kompute": "Kompute",
    "rpc": "RPC",
}
_OURS: Final = {  # llama-bench's word -> ours
    "n_batch": "batch",
    "n_ubatch": "ubatch",
    "n_threads": "threads",
    "n_gpu_layers": "gpu_layers",
    "n_cpu_moe": "n_cpu_moe",
}
_FLASH: Final[dict[Any, str]] = {-1: "auto", 0: "off", 1: "on"}  # False and True are 0 and 1
_MOST_SAMPLES: Final = 1_000_000


def is_llama_bench(row: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a row of llama-bench."""
    return {"build_commit", "model_filename", "n_prompt", "n_gen"} <= row.keys()


def from_llama_bench(row: Mapping[str, Any], machine: Mapping[str, Any] | None = None) -> ResultRow:
    """A row of llama-bench as a result: tokens per second, a sample a repetition.

    `machine` is this machine's entry where it ran here; otherwise what llama-bench says of the processor and the GPU.
    Raises BadInput, naming the field.
    """
    prompt, generate = _count(row, "n_prompt"), _count(row, "n_gen")
    if not prompt and not generate:
        raise BadInput("its n_prompt and n_gen are both 0: it measured nothing")
    file = _text(row, "model_filename").replace("\\", "/").rpartition("/")[2]
    quant = _quant(row, file)
    return ResultRow(
        id=0,
        created=_time(row),
        kind="speed",
        model=_name(file, quant),
        quant=quant,
        test=_test(prompt, generate, _count(row, "n_depth") if "n_depth" in row else 0),
        unit="t/s",
        samples=_samples(row, prompt + generate),
        engine=_engine(row),
        device=_where(row),
        settings=_settings(row),
        machine=machine or {"cpu_info": row.get("cpu_info", ""), "gpu_info": row.get("gpu_info", "")},
    )


def _name(file: str, quant: str) -> str:
    """The file's name without its ending and its quant, which stands beside it."""
    stem = file.removesuffix(".gguf")
    return stem[: -len(quant)].rstrip("-._") if quant and stem.upper().endswith(quant) else stem


def _test(prompt: int, generate: int, depth: int) -> str:
    both = [f"pp{prompt}"] if prompt else []
    both += [f"tg{generate}"] if generate else []
    return "+".join(both) + (f" @ d{depth}" if depth else "")


def _samples(row: Mapping[str, Any], tokens: int) -> tuple[float, ...]:
    """Tokens per second of each repetition; of builds that did not list them the mean alone."""
    if "samples_ts" in row:
        values, name = row["samples_ts"], "samples_ts"
    elif "samples_ns" in row:
        values, name = row["samples_ns"], "samples_ns"
    else:
        values, name = [row.get("avg_ts")], "avg_ts"
    if not isinstance(values, list) or not 0 < len(values) <= _MOST_SAMPLES:
        raise BadInput(f"its {name} is not a list of figures")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise BadInput(f"its {name} has {value!r}, which is no speed")
    return tuple(1e9 * tokens / value if name == "samples_ns" else float(value) for value in values)


def _where(row: Mapping[str, Any]) -> str:
    """The device: CPU, or the GPU by its name where llama-bench says it."""
    backends = str(row.get("backends") or ",".join(n for flag, n in _BACKEND_FLAGS.items() if row.get(flag)))
    used = [name for name in backends.split(",") if name not in ("", "CPU", "BLAS")]
    if not used or row.get("n_gpu_layers") == 0:
        return "CPU"
    return str(row.get("gpu_info") or "+".join(used))


def _engine(row: Mapping[str, Any]) -> str:
    number, commit = row.get("build_number"), row.get("build_commit")
    return f"llama-bench b{number}" if number else f"llama-bench {commit or 'unknown'}"


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """What it ran under, in our words; what we have no word for stays as llama-bench said it."""
    said = {ours: row[theirs] for theirs, ours in _OURS.items() if theirs in row}
    if "flash_attn" in row:
        said["flash_attn"] = _FLASH.get(row["flash_attn"], str(row["flash_attn"]))
    if row.get("type_k") == row.get("type_v") and "type_k" in row:
        said["kv_type"] = row["type_k"]
    elif "type_k" in row:
        said |= {"type_k": row["type_k"], "type_v": row.get("type_v")}
    more = ("build_commit", "model_size", "model_n_params", "split_mode", "tensor_split", "devices", "load_mode")
    return said | {"repetitions": _repetitions(row)} | {name: row[name] for name in more if name in row}


def _repetitions(row: Mapping[str, Any]) -> int | None:
    found = row.get("samples_ts") or row.get("samples_ns")
    return len(found) if isinstance(found, list) else None


def _quant(row: Mapping[str, Any], file: str) -> str:
    """The file name's quant, else that of "llama 7B Q4_K - Medium"."""
    from qwenops.model.quants import label_in_name

    named = label_in_name(file)
    kind = str(row.get("model_type") or "")
    spelled = kind.replace(" - Small", "_S").replace(" - Medium", "_M").replace(" - Large", "_L")
    return named or label_in_name(spelled) or ""


def _time(row: Mapping[str, Any]) -> datetime:
    said = row.get("test_time")
    try:
        when = datetime.fromisoformat(str(said).replace("Z", "+00:00"))
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise BadInput(f"its test_time {said!r} is not a time such as 2026-12-01T09:30:00Z")
    return when


def _count(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise BadInput(f"its {name} is {value!r}, which is no number of tokens")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput(f"its {name} is missing")
    return value
