"""llama-cpp-python: where it is found, what it can do, and what to type where it is missing.

A leaf beside worker.py. `load` runs in a child process only; `backend_kinds` looks at files and loads nothing.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qwenops.errors import PartMissing

INSTALL = "pip install 'qwenops[bench]'   (compiles for about 4 minutes)"
UPDATE = "pip install -U llama-cpp-python"
_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR (ggml/include/ggml.h)
_BACKENDS = {"cuda": "cuda", "hip": "rocm", "vulkan": "vulkan", "metal": "metal"}

OnLog = Callable[[int, str], None]


def load(on_log: OnLog | None = None) -> Any:
    """The library's low-level module, ready for use, with its `version`.

    What it logs goes to `on_log` with its level; without one, errors go to stderr, whose last line explains an abort,
    and the rest is dropped. Raises PartMissing where the library is not installed or does not load.
    """
    lib: Any
    try:
        import llama_cpp
        from llama_cpp import llama_cpp as lib
    except ImportError as error:
        raise PartMissing(f"llama-cpp-python is not installed ({error})", do=INSTALL) from error
    except (OSError, RuntimeError) as error:
        raise PartMissing(
            f"llama-cpp-python does not load: {error}",
            do="pip install --force-reinstall --no-binary llama-cpp-python llama-cpp-python",
        ) from error
    _listen(lib, on_log or errors_to_stderr)
    lib.llama_backend_init()
    lib.version = llama_cpp.__version__
    return lib


def errors_to_stderr(level: int, text: str) -> None:
    """Keep errors and drop the rest."""
    if level >= _ERROR_LEVEL:
        sys.stderr.write(text)


def backend_kinds() -> frozenset[str] | None:
    """The kinds of devices ("cuda", "vulkan", …) for which the installed library has a backend; None without one.

    By the names of its files, so that asking costs nothing; a backend that is linked into another file is not seen.
    """
    spec = find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(spec.submodule_search_locations[0]) / "lib")
    names = {m[1] for f in folder.glob("*ggml-*") if (m := re.search(r"ggml-([a-z]+)", f.name))}
    return frozenset(kind for name, kind in _BACKENDS.items() if name in names)


def _listen(lib: Any, on_log: OnLog) -> None:
    @lib.llama_log_callback  # type: ignore[untyped-decorator]
    def log(level: int, text: bytes, _user: Any) -> None:
        on_log(level, text.decode("utf-8", "replace"))

    lib.kept_log_callback = log  # a collected callback would be called all the same
    lib.llama_log_set(log, ctypes.c_void_p(0))
