"""What the doctor looks at on the machine and in the server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

from qwenops.errors import QwenopsError
from qwenops.runtime.types import Runtime
from qwenops.setup.findings import Check, Finding, Patient
from qwenops.setup.versions import INSTALL, OLDEST_OLLAMA, version_of
from qwenops.units import GIB, human

LITTLE_DISK_BYTES = 10 * GIB
PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def devices(patient: Patient) -> Iterator[Finding]:
    """The driver's devices, and whether the runtime sees them too."""
    machine, runtime = patient.machine, patient.runtime
    seen = [d for d in machine.devices if not d.integrated]
    for device in machine.devices:
        driver = f"driver {device.driver} · " if device.driver else ""
        holders = ", ".join(sorted({p.name for p in device.processes}))
        used = f", {human(device.used_bytes)} used" + (f" by {holders}" if holders else "")
        yield Finding("ok", "device", f"{driver}{device.description} {human(device.total_bytes)}{used}")
    for note in machine.notes:
        yield Finding("problem", "driver", note, observed=note)
    if seen and runtime.llama_server_path and not runtime.devices:
        yield Finding(
            "problem",
            "runtime-blind",
            "Ollama does not see the GPU that the driver sees",
            expected=f"{seen[0].description} in llama-server --list-devices",
            observed="no device",
            evidence=str(runtime.llama_server_path),
            do=(
                "reinstall Ollama with the library of your GPU: " + INSTALL,
                "journalctl -u ollama | grep -i 'inference compute'",
            ),
        )
    if not seen and not runtime.devices:
        yield Finding("ok", "no-gpu", "no GPU: models run on the CPU")


def attention_kernels(patient: Patient) -> Iterator[Finding]:
    """Which FlashAttention a CUDA card has, and that Ollama does not ask for it; once for cards of one capability.

    FlashAttention 2 wants Ampere or newer, 3 is Hopper's alone (Dao-AILab/flash-attention, README); llama.cpp has
    kernels of its own, which Ollama leaves off below compute 6.0 and on 7.2 (runtime/rules.py).
    """
    from qwenops.runtime.rules import flash_attention

    seen = {d.compute_capability: d for d in patient.machine.devices if d.kind == "cuda" and d.compute_capability}
    for capability, device in seen.items():
        if capability >= (10, 0):
            has = "FlashAttention 2 where it was built for this card; 3 is for Hopper alone"
        elif capability >= (9, 0):
            has = "FlashAttention 2 and 3"
        elif capability >= (8, 0):
            has = "FlashAttention 2, not 3 (Hopper's alone)"
        else:
            has = "neither FlashAttention 2 nor 3 (EXL3 does not run; EXL2 without paged attention)"
        own = "uses llama.cpp's own kernels instead"
        if flash_attention((device,), {}) == "off":
            own = "leaves llama.cpp's own kernels off here"
        major, minor = capability
        title = f"{device.description}, compute {major}.{minor}: {has}; Ollama {own}"
        yield Finding("ok", "attention-kernels", title)


def server(patient: Patient) -> Iterator[Finding]:
    """Whether an Ollama answers, and whether it is new enough."""
    runtime = patient.runtime
    if not runtime.reachable:
        yield _no_server(runtime)
        return
    version = runtime.version or ""
    if (there := version_of(version)) and there < OLDEST_OLLAMA:
        yield Finding(
            "problem",
            "server-old",
            f"Ollama {version} is too old for these figures",
            expected="0.30 or newer: every GGUF runs in llama-server",
            observed=version,
            evidence=f"{runtime.url}/api/version",
            do=(INSTALL,),
        )
        return
    build = f" · llama-server {runtime.llama_server_build}" if runtime.llama_server_build else ""
    yield Finding("ok", "server", f"Ollama {version} at {runtime.url} ({runtime.place}){build}")


def _no_server(runtime: Runtime) -> Finding:
    """Only where nothing listens here is Ollama stopped or not installed; elsewhere it is there and is not well."""
    silence = runtime.silence
    found = Finding("problem", "server", f"no Ollama answers at {runtime.url}", expected="a running server")
    if silence and not (silence.here and silence.kind == "nothing listens"):
        holder = _holder(silence.port) if silence.here else "the address is another machine's"
        return replace(found, observed=silence.message, evidence=holder, do=silence.do)
    if runtime.ollama_path is not None:
        return replace(
            found, observed="installed, not running", evidence=str(runtime.ollama_path), do=("ollama serve",)
        )
    return replace(
        found,
        observed="not installed",
        evidence="no ollama on PATH",
        do=(INSTALL, "or set OLLAMA_HOST to where yours is"),
    )


def _holder(port: int) -> str:
    """Who holds a port of this machine, as far as our rights show it."""
    from qwenops.runtime.process import find_server

    process = find_server(port).process
    if process is None or not process.listens:
        return f"something holds port {port}"
    return f"process {process.pid} ({process.name}) holds port {port}"


def store(patient: Patient) -> Iterator[Finding]:
    """Whether the store can be linked into, and how much room its disk has."""
    found = patient.runtime.store
    if found is None:
        if patient.runtime.reachable:
            yield Finding(
                "advice",
                "store-elsewhere",
                "the server's store is not in reach: registering uploads a copy",
                expected="the store's folder on this machine",
                observed=patient.runtime.place,
                do=("set OLLAMA_MODELS to the server's folder, if it is here after all",),
            )
        return
    free = shutil.disk_usage(found.path if found.path.exists() else found.path.parent).free
    where = f"store {found.path}, {human(free)} free"
    if found.writable:
        yield Finding("ok", "store", f"{where}, writable")
    else:
        yield Finding(
            "advice",
            "store-readonly",
            f"{where}, not writable by you: registering asks for one sudo line, or uploads a copy",
            observed=f"owned by {patient.runtime.user or 'another user'}",
            evidence=found.source,
        )
    if free < LITTLE_DISK_BYTES:
        yield Finding(
            "advice",
            "disk",
            "little room on the store's disk",
            expected=f"{human(LITTLE_DISK_BYTES)} for an average model",
            observed=human(free),
            evidence=str(found.path),
            do=("qwenops list", "ollama rm NAME"),
        )


def kv_and_flash_attention(patient: Patient) -> Iterator[Finding]:
    """The KV type and flash attention in force: one setting for all models."""
    from qwenops.runtime.rules import flash_attention, kv_cache_problem, kv_cache_type

    runtime = patient.runtime
    if not runtime.reachable:
        return
    kv_type = kv_cache_type(runtime.environment)
    flash = flash_attention(runtime.devices, runtime.environment)
    source = next((s.source for s in runtime.settings if s.name == "OLLAMA_KV_CACHE_TYPE"), "default")
    problem = kv_cache_problem(kv_type, flash)
    if problem:
        yield Finding(
            "problem",
            "kv-type",
            f"no model can load: {problem}",
            observed=f"OLLAMA_KV_CACHE_TYPE={kv_type}, flash attention {flash}",
            evidence=source,
            do=("set OLLAMA_FLASH_ATTENTION=1 or OLLAMA_KV_CACHE_TYPE=f16 for the server, and restart it",),
        )
        return
    yield Finding("ok", "kv-type", f"KV type {kv_type or 'f16'} for every model, flash attention {flash}")
    if flash == "off":
        yield Finding(
            "advice",
            "flash-attention",
            "flash attention is off: an image needs several GiB more in the encoder",
            expected="auto or on (CUDA from compute 6.0, except 7.2)",
            observed="off",
            evidence=next(
                (s.source for s in runtime.settings if s.name == "OLLAMA_FLASH_ATTENTION"), "the device list"
            ),
            do=("unset OLLAMA_FLASH_ATTENTION for the server, and restart it",),
        )


def shell_settings(patient: Patient) -> Iterator[Finding]:
    """Variables of this shell that look like server settings, and that the server does not have."""
    runtime = patient.runtime
    if not runtime.reachable or runtime.pid is None or not runtime.environment:
        return
    ours = {"OLLAMA_HOST", "OLLAMA_MODELS"}
    stray = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("OLLAMA_", "LLAMA_ARG_")) and name not in ours and runtime.environment.get(name) != value
    }
    if stray:
        said = ", ".join(f"{n}={v}" for n, v in sorted(stray.items()))
        yield Finding(
            "advice",
            "shell-settings",
            "settings in this shell do not reach the server",
            expected="the same in the server's own environment",
            observed=said,
            evidence=f"environment of process {runtime.pid}",
            do=("systemctl edit ollama   (Environment=NAME=VALUE), then systemctl restart ollama",)
            if runtime.unit
            else ("restart ollama serve with them in its environment",),
        )


def proxies(patient: Patient) -> Iterator[Finding]:
    """A proxy that would be asked for loopback: the official clients fail on it, ours goes round it."""
    name = next((n for n in PROXIES if os.environ.get(n)), None)
    if name is None:
        return
    spared = (os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "").replace(" ", "").split(",")
    if {"*", "localhost", "127.0.0.1"} & set(spared):
        return
    yield Finding(
        "advice",
        "proxy",
        "a proxy stands between Ollama's own clients and the server",
        expected="NO_PROXY with localhost,127.0.0.1",
        observed=f"{name} is set, NO_PROXY does not name loopback",
        evidence="environment of this shell",
        do=("export NO_PROXY=localhost,127.0.0.1",),
    )


def benchmark_library(patient: Patient) -> Iterator[Finding]:
    """llama-cpp-python: there, and with a GPU backend where there is a GPU."""
    from importlib.util import find_spec

    if find_spec("llama_cpp") is None:
        why = "needed for qwenops bench, quants make and dry loads only"
        yield Finding("ok", "library", f"llama-cpp-python is not installed; it is {why}")
        return
    from qwenops.worker import run

    try:
        info = run("qwenops.bench.child:library_info", {}, limit_s=60)
    except QwenopsError as error:
        yield Finding("problem", "library", "llama-cpp-python does not load", observed=error.message, do=error.do)
        return
    gpu = [d for d in (*patient.runtime.devices, *patient.machine.devices) if d.kind != "cpu"]
    if gpu and not info["gpu"]:
        kind = gpu[0].kind.upper() if gpu[0].kind in {"cuda"} else gpu[0].kind.capitalize()
        flag = {"cuda": "GGML_CUDA", "rocm": "GGML_HIP", "vulkan": "GGML_VULKAN", "metal": "GGML_METAL"}[gpu[0].kind]
        yield Finding(
            "advice",
            "library-cpu",
            "llama-cpp-python has no GPU backend: benchmarks measure the CPU",
            expected=f"a build for {kind}",
            observed=f"{info['version']}, CPU only",
            evidence="llama_supports_gpu_offload()",
            do=(
                f'CMAKE_ARGS="-D{flag}=on" pip install --force-reinstall --no-cache-dir '
                "--no-binary llama-cpp-python llama-cpp-python",
            ),
        )
        return
    yield Finding("ok", "library", f"llama-cpp-python {info['version']}{', GPU build' if info['gpu'] else ''}")


CHECKS: tuple[Check, ...] = (
    devices,
    attention_kernels,
    server,
    store,
    kv_and_flash_attention,
    shell_settings,
    proxies,
    benchmark_library,
)
