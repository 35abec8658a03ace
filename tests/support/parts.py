"""Looks up the real parts, and says by name what is missing and how to get it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache

from scripts.browser import chromium
from scripts.parts.layout import Layout, default_root
from scripts.parts.software_gpu import software_gpu_driver, software_gpu_environment

__all__ = ["in_ci", "layout", "missing", "software_gpu_environment"]

GET = "make parts"


def in_ci() -> bool:
    """Whether a missing part is a failure (CI=true) and not a skip."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


@cache
def layout() -> Layout:
    """The parts folder in use."""
    return Layout(default_root())


def missing(marker: str) -> str | None:
    """Why a test with this marker cannot run here; None when it can."""
    check = {
        "server": _no_server,
        "vulkan": _no_vulkan,
        "library": _no_library,
        "painter": _no_painter,
        "go": _no_go,
        "browser": _no_browser,
    }[marker]
    return check()


@cache
def _no_server() -> str | None:
    for path in (layout().ollama, layout().llama_server, layout().smollm):
        if not path.exists():
            return f"no {path.name} in {layout().root} ({GET})"
    return None


@cache
def _no_vulkan() -> str | None:
    if software_gpu_driver() is None:
        return "no software Vulkan driver (Debian: apt install mesa-vulkan-drivers)"
    if not layout().llama_server.exists():
        return f"no llama-server in {layout().root} ({GET})"
    devices = subprocess.run(
        [layout().llama_server, "--list-devices"],
        env={**os.environ, **software_gpu_environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "Vulkan0" in devices.stdout + devices.stderr:
        return None
    return f"llama-server lists no Vulkan device: {(devices.stderr or devices.stdout).strip()[-200:]}"


@cache
def _no_library() -> str | None:
    if importlib.util.find_spec("llama_cpp") is None:
        return f"llama-cpp-python is not installed in {sys.prefix} (pip install 'qwenops[bench]')"
    return None


@cache
def _no_painter() -> str | None:
    if importlib.util.find_spec("stable_diffusion_cpp") is None:
        return f"stable-diffusion-cpp-python is not installed in {sys.prefix} (pip install 'qwenops[image]')"
    return None


@cache
def _no_go() -> str | None:
    return None if shutil.which("go") else "no Go toolchain on PATH"


@cache
def _no_browser() -> str | None:
    if chromium() is None:
        return f"no Chromium on PATH ({GET})"
    if importlib.util.find_spec("websocket") is None:
        return f"websocket-client is not installed in {sys.prefix} (pip install 'qwenops[dev]')"
    return None if layout().axe.exists() else f"no {layout().axe.name} in {layout().root} ({GET})"
