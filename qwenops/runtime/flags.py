"""The command line and the environment that Ollama gives its llama-server, in its own order.

Source: llm/llama_server.go (startLlamaServer and the append...Args functions, extraEnvsForStart,
SetupLlamaServerCommandEnv, llamaServerLibraryPaths), ml/device.go (GetDevicesEnv); Ollama v0.32.14.
"""

from __future__ import annotations

import os as _os
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwenops.machine.types import Device
from qwenops.runtime.facts import DRAFTED_BY_A_MODEL, ModelFacts, RunOptions
from qwenops.runtime.fit_target import FIT_TARGET, projector_fit_target_mib
from qwenops.runtime.rules import ServerLoad, SystemMemory, resolve_load
from qwenops.runtime.types import Backend

# Without at least this many tokens for an image, grounding and counting fail (qwenVLServerArgs).
IMAGE_MIN_TOKENS = 1024
IMAGE_MIN_TOKENS_ARCHITECTURES = ("qwen2vl", "qwen25vl", "qwen3vl", "qwen3vlmoe")
_NOT_GPU_BACKENDS = ("libggml-base", "ggml-base", "libggml-cpu", "ggml-cpu")


def server_flags(
    model: ModelFacts,
    options: RunOptions,
    environment: Mapping[str, str],
    devices: Sequence[Device],
    *,
    system: SystemMemory | None = None,
    listen: Sequence[str] = (),
    os: str = "linux",
) -> list[str]:
    """The flags with which Ollama would start llama-server for this load, from `--model` on.

    `listen` stands where Ollama writes `--port N --host 127.0.0.1`.
    """
    load = resolve_load(model, options, environment, devices, system=system, os=os)
    return flags_of(load, model, options, listen=listen, os=os)


def image_limits(architecture: str, environment: Mapping[str, str]) -> tuple[int | None, int | None]:
    """The least and the most tokens of a picture that llama-server is told; None where it is told nothing.

    Ollama's own minimum is a flag, which comes before the environment.
    """
    least = IMAGE_MIN_TOKENS if architecture in IMAGE_MIN_TOKENS_ARCHITECTURES else None
    return least or _tokens(environment, "MIN"), image_cap(environment)


def image_cap(environment: Mapping[str, str]) -> int | None:
    """The most tokens of a picture by the server's environment, or None."""
    return _tokens(environment, "MAX")


def _tokens(environment: Mapping[str, str], end: str) -> int | None:
    text = environment.get(f"LLAMA_ARG_IMAGE_{end}_TOKENS", "").strip()
    return int(text) or None if text.isdecimal() else None


def flags_of(
    load: ServerLoad, model: ModelFacts, options: RunOptions, *, listen: Sequence[str] = (), os: str = "linux"
) -> list[str]:
    """The flags of a load whose settings are known."""
    flags = ["--model", model.path, *listen, "--no-webui", "--offline"]
    flags += ["-c", str(load.total_ctx), "-np", str(load.parallel)]
    flags += ["--log-verbosity", "4", "--no-log-prefix", "--no-log-timestamps"]
    if model.renders_chat:
        flags += ["--no-jinja", "--chat-template", "chatml"]
    if model.projector_path is not None:
        flags += ["--mmproj", model.projector_path]
        if load.projector_on_cpu:
            flags += ["--no-mmproj-offload"]
    flags += _draft(model, options)
    if model.architecture in IMAGE_MIN_TOKENS_ARCHITECTURES:
        flags += ["--image-min-tokens", str(IMAGE_MIN_TOKENS)]
    for adapter in model.adapters:
        flags += ["--lora", adapter]
    flags += _load_mode(load, os)
    if load.kv_type:
        flags += ["--cache-type-k", load.kv_type, "--cache-type-v", load.kv_type]
    flags += ["--flash-attn", load.flash_attn]
    if model.pooling:
        flags += ["--embedding"]
    if load.batch is not None:
        flags += ["-b", str(load.batch), "-ub", str(load.batch)]
    if options.num_gpu >= 0:
        flags += ["-ngl", str(options.num_gpu)]
    if options.num_thread > 0:
        flags += ["-t", str(options.num_thread)]
    if load.main_gpu is not None:
        flags += ["--split-mode", "none", "--main-gpu", str(load.main_gpu)]
    if load.context_shift:
        flags += ["--context-shift"]
        if options.num_keep > 0:
            flags += ["--keep", str(options.num_keep)]
    return flags


def _draft(model: ModelFacts, options: RunOptions) -> list[str]:
    count = options.draft_num_predict
    if count is None:
        count = DRAFTED_BY_A_MODEL if model.draft_path else 0
    if not model.draft_type or count <= 0:
        return []
    flags = ["--spec-type", model.draft_type, "--spec-draft-n-max", str(count)]
    if model.draft_type == "draft-mtp":
        flags += ["--spec-draft-backend-sampling"]
    if model.draft_path:
        flags += ["--spec-draft-model", model.draft_path]
    return flags


def _load_mode(load: ServerLoad, os: str) -> list[str]:
    if os == "linux" and any(d.integrated and d.kind in ("cuda", "rocm") for d in load.devices):
        return ["--load-mode", "dio"]
    return ["--load-mode", "none"] if load.use_mmap is False else []


def server_environment(
    load: ServerLoad,
    model: ModelFacts,
    environment: Mapping[str, str],
    *,
    llama_server: Path,
    backends: Sequence[Backend] = (),
    os: str = "linux",
) -> dict[str, str]:
    """The variables that the child of this load has: the server's own, and those that Ollama changes.

    `environment` is the server's; `backends` tells the library folder and the id of each device of the load.
    """
    used = [b for b in backends if b.device in {d.name for d in load.devices}]
    changes = device_environment(used, environment, os=os)
    on_gpu = model.projector_path is not None and load.projector_on_cpu is None and model.projector_bytes > 0
    if on_gpu and FIT_TARGET not in environment:
        changes[FIT_TARGET] = str(projector_fit_target_mib(model.projector_bytes))
    folders = [folder for backend in used for folder in backend.folders]
    return child_environment(environment, llama_server, folders, changes, os=os)


def child_environment(
    environment: Mapping[str, str],
    llama_server: Path,
    folders: Sequence[Path],
    changes: Mapping[str, str],
    *,
    os: str = "linux",
) -> dict[str, str]:
    """The environment of any llama-server that Ollama starts, for a model or to list devices.

    llama-server's own folder comes first among the library paths, then the GPU libraries' folders, then what was
    there; the first GPU backend found in those folders is named in GGML_BACKEND_PATH.
    """
    changed = dict(changes)
    paths = [str(llama_server.parent)]
    for folder in folders:
        if folder == llama_server.parent:
            continue
        backend = None if changed.get("GGML_BACKEND_PATH") else gpu_backend_in(folder)
        if backend is not None:
            changed["GGML_BACKEND_PATH"] = str(backend)
        if str(folder) not in paths:
            paths.append(str(folder))
    name = {"windows": "PATH", "darwin": "DYLD_LIBRARY_PATH"}.get(os, "LD_LIBRARY_PATH")
    separator = ";" if os == "windows" else ":"
    for inherited in environment.get(name, "").split(separator):
        if inherited and inherited not in paths:
            paths.append(inherited)
    return {**environment, **changed, name: separator.join(paths)}


def gpu_backend_in(folder: Path) -> Path | None:
    """The first library of a GPU backend in a folder, by name; the base and the CPU libraries are none."""
    patterns = ("libggml-*.so*", "libggml-*.dylib", "libggml-*.dll", "ggml-*.dll")
    found = sorted({str(path) for pattern in patterns for path in folder.glob(pattern)})
    return next((Path(p) for p in found if not _os.path.basename(p).lower().startswith(_NOT_GPU_BACKENDS)), None)


def device_environment(
    backends: Sequence[Backend], environment: Mapping[str, str], *, os: str = "linux"
) -> dict[str, str]:
    """The variables that show the child its devices and no others.

    CUDA and Vulkan devices are named when the load has one device or CUDA devices only, ROCm devices always.
    """
    filtered = len(backends) == 1 or (bool(backends) and all(b.library == "CUDA" for b in backends))
    shown: dict[str, list[str]] = {}
    for backend in backends:
        if backend.library == "ROCm":
            variable = "ROCR_VISIBLE_DEVICES" if os == "linux" else _amd_variable(environment, "HIP_VISIBLE_DEVICES")
            ordinal = _amd_ordinal(environment) if os == "linux" else ""
            if ordinal:
                shown.setdefault(ordinal, []).append(str(len(shown.get(variable, []))))
        elif filtered and backend.library in ("CUDA", "Vulkan"):
            variable = "CUDA_VISIBLE_DEVICES" if backend.library == "CUDA" else "GGML_VK_VISIBLE_DEVICES"
        else:
            continue
        shown.setdefault(variable, []).append(backend.filter_id or backend.id)
    return {name: ",".join(ids) for name, ids in shown.items()}


def _amd_ordinal(environment: Mapping[str, str]) -> str:
    """On Linux, the numeric variable that must be renumbered once ROCR_VISIBLE_DEVICES hides devices."""
    return "" if environment.get("ROCR_VISIBLE_DEVICES") else _amd_variable(environment, "")


def _amd_variable(environment: Mapping[str, str], default: str) -> str:
    for name in ("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "CUDA_VISIBLE_DEVICES"):
        fields = [f.strip() for f in environment.get(name, "").split(",") if f.strip()]
        if fields and all(f.isdigit() for f in fields):
            return name
    return default
