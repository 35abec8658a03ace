"""stable-diffusion-cpp-python: as a child process loads it, and what to type where it is missing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import metadata
from typing import Any, Final

from qwenops.errors import PartMissing

PACKAGE: Final = "stable-diffusion-cpp-python"
INSTALL: Final = "pip install 'qwenops[image]'   (compiles for about 2 minutes)"
_BACKENDS: Final = (
    ("cuda", "ggml_backend_cuda_init"),
    ("vulkan", "ggml_backend_vk_init"),
    ("metal", "ggml_backend_metal_init"),
)

OnLog = Callable[[int, str], None]
OnProgress = Callable[[int, int, float], None]


def load(on_log: OnLog, on_progress: OnProgress) -> Any:
    """The library's low-level module, with its `version`; what it logs and how far it is goes to the two callbacks.

    Raises PartMissing where it is not installed or does not load.
    """
    try:
        import stable_diffusion_cpp.stable_diffusion_cpp as lib
    except ImportError as error:
        raise PartMissing(f"{PACKAGE} is not installed ({error})", do=INSTALL) from error
    except (OSError, RuntimeError) as error:
        raise PartMissing(
            f"{PACKAGE} does not load: {error}", do=f"pip install --force-reinstall --no-binary :all: {PACKAGE}"
        ) from error

    @lib.sd_log_callback  # type: ignore[untyped-decorator]
    def log(level: int, text: bytes, _data: Any) -> None:
        on_log(level, text.decode("utf-8", "replace").rstrip())

    @lib.sd_progress_callback  # type: ignore[untyped-decorator]
    def progress(step: int, steps: int, seconds: float, _data: Any) -> None:
        on_progress(step, steps, seconds)

    # a collected callback would be called all the same
    lib.kept_callbacks = (log, progress)
    lib.sd_set_log_callback(log, ctypes.c_void_p(0))
    lib.sd_set_progress_callback(progress, ctypes.c_void_p(0))
    lib.version = version() or ""
    return lib


def version() -> str | None:
    """The installed version; None where there is none."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


def backend_kind(lib: Any) -> str:
    """The kind of device that the library was built for: "cuda", "vulkan", "metal", else "cpu"."""
    return next((kind for kind, symbol in _BACKENDS if hasattr(lib._lib, symbol)), "cpu")


def build_of(_request: Any, _emit: Any) -> dict[str, Any]:
    """In a child: the version and what the library was built for."""
    lib = load(lambda *_: None, lambda *_: None)
    return {"version": lib.version, "backend": backend_kind(lib)}
