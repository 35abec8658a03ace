"""Functions that the worker's tests call in a child: one for each way in which native code can end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from qwenops.errors import BadInput


def double(request: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    print("a library that prints to stdout")
    emit("half way", n=1)
    return {"n": request["n"] * 2}


def abort(request: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    os.write(2, b"GGML_ASSERT(n > 0) failed\n")
    os.abort()


def hang(request: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    time.sleep(60)
    return {}


def refuse(request: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    raise BadInput("seven is not even", do="give an even number")


def leave(request: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    raise SystemExit(7)
