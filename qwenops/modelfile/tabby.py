"""TabbyAPI's config.yml: the settings of a plan in the words of its config_sample.yml (theroyallab/tabbyAPI e632af4).

Only what the plan rests on is written; the rest keeps TabbyAPI's own defaults. There is no secret in it: TabbyAPI makes
its keys itself, in api_tokens.yml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qwenops.errors import BadInput
from qwenops.memory.exl import ExlSettings
from qwenops.memory.exl_cache import CacheBits, cache_tokens
from qwenops.model.exl import ExlModel, Format

WITH_EXL2 = "79126f9"
"""The last commit of TabbyAPI that has the ExLlamaV2 backend (2026-06-27); c8b9a8f of 2026-07-14 took it out."""


def cache_mode(bits: CacheBits, engine: Format) -> str:
    """The cache in TabbyAPI's words: FP16, Q8 for ExLlamaV2, "8,8" for ExLlamaV3."""
    if not bits.quantized:
        return "FP16"
    return f"Q{bits.keys}" if engine == "exl2" else f"{bits.keys},{bits.values}"


def tabby_config(model: ExlModel, settings: ExlSettings, *, sees: bool, head: tuple[str, ...]) -> str:
    """The text of config.yml; `head` are the lines that it begins with, as comments."""
    tokens = cache_tokens(settings.num_ctx)
    folder = model.folder.resolve() if model.folder else None
    sections: dict[str, Mapping[str, Any]] = {
        "network": {"host": "127.0.0.1", "port": 5000, "disable_auth": False},
        "model": {
            "model_dir": str(folder.parent) if folder else "models",
            "model_name": folder.name if folder else local_name(model),
            "backend": "exllamav2" if model.format == "exl2" else "exllamav3",
            "max_seq_len": tokens,
            "cache_size": tokens,
            "cache_mode": cache_mode(settings.bits, model.format),
            "chunk_size": settings.chunk,
            "max_batch_size": 1,
            "vision": sees and settings.sees,
        },
    }
    # a name may hold a line break; what follows it would be no comment any more
    lines = [f"# {' '.join(line.split())}".rstrip() for line in head]
    for section, values in sections.items():
        lines += ["", f"{section}:", *(f"  {key}: {_scalar(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def local_name(model: ExlModel) -> str:
    """The folder below models/ for a repository: its name, and its revision where it has one."""
    return model.name.replace("@", "-").replace("/", "-")


def download_line(model: ExlModel) -> str | None:
    """The command that brings a repository to where config.yml looks for it; None for a folder here."""
    if model.folder is not None:
        return None
    repo, _, revision = model.source.removeprefix("hf:").partition("@")
    at = f" --revision {revision}" if revision else ""
    return f"hf download {repo}{at} --local-dir models/{local_name(model)}"


def _scalar(value: Any) -> str:
    """A value in YAML; every text is quoted, as JSON quotes it, which YAML reads the same."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    if not value.isprintable():
        raise BadInput(f"{value!r} cannot be written into a config.yml", do="give the folder another name")
    return json.dumps(value, ensure_ascii=False)
