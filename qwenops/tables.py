"""Facts that live apart from code: the TOML files beside the modules that use them, each read once."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import resources
from typing import Any


@lru_cache(maxsize=16)
def load_table(package: str, name: str) -> dict[str, Any]:
    """The tables of the TOML file `name` that lies in `package`, as qwenops ships it."""
    return parse_table(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def parse_table(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises ValueError where it is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    tables: dict[str, Any] = tomllib.loads(text)
    return tables
