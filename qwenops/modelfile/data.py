"""Reads the data files of this package, each once."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import resources
from typing import Any


@lru_cache(maxsize=4)
def load(name: str) -> dict[str, Any]:
    """The tables of one TOML file that lies beside this module."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    tables: dict[str, Any] = tomllib.loads(
        resources.files("qwenops.modelfile").joinpath(name).read_text(encoding="utf-8")
    )
    return tables
