"""Where qwenops keeps its own files. QWENOPS_HOME puts all of them in one folder."""

from __future__ import annotations

import os
from pathlib import Path


def _folder(kind: str) -> Path:
    home = os.environ.get("QWENOPS_HOME")
    if home:
        return Path(home).expanduser() / kind
    import platformdirs

    where = {
        "config": platformdirs.user_config_path,
        "data": platformdirs.user_data_path,
        "cache": platformdirs.user_cache_path,
        "log": platformdirs.user_log_path,
    }[kind]
    return where("qwenops", appauthor=False)


def config_dir() -> Path:
    """The user's own templates and settings."""
    return _folder("config")


def data_dir() -> Path:
    """The history and the list of what qwenops made."""
    return _folder("data")


def cache_dir() -> Path:
    """Digests, probe answers, rendered Modelfiles: safe to delete at any time."""
    return _folder("cache")


def log_dir() -> Path:
    """Tracebacks of unforeseen errors."""
    return _folder("log")
