"""Model names, parsed and judged exactly as Ollama does.

Source: types/model/name.go (ParseName, IsFullyQualified, DisplayShortest, Filepath), Ollama v0.32.14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from qwenops.errors import BadInput

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
# What a part becomes that was promised by its separator and is empty: it never passes as valid.
_MISSING = "!MISSING!"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)


@dataclass(frozen=True)
class Name:
    """A model's full name: host/namespace/model:tag."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def valid(self) -> bool:
        """Whether Ollama takes the name."""
        return bool(
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _MODEL.fullmatch(self.model)
            and _MODEL.fullmatch(self.tag)
        )

    @property
    def short(self) -> str:
        """The name as Ollama shows it: default host and namespace are left out, the tag never is."""
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def relative_path(self) -> PurePosixPath:
        """Where the manifest lies below the store's manifests folder."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)

    @property
    def folded(self) -> tuple[str, str, str, str]:
        """The name without regard to case: two models whose folded names are equal are one to Ollama."""
        return (self.host.lower(), self.namespace.lower(), self.model.lower(), self.tag.lower())


def parse_name(text: str) -> Name:
    """Read a name, filling host, namespace and tag with Ollama's defaults; it may turn out not `valid`."""
    rest, tag = text, ""
    if text.rfind(":") > text.rfind("/"):
        rest, tag = _cut(text, ":")
    if "/" not in rest:
        return Name(DEFAULT_HOST, DEFAULT_NAMESPACE, rest, tag or DEFAULT_TAG)
    rest, model = _cut(rest, "/")
    if "/" not in rest:
        return Name(DEFAULT_HOST, rest or DEFAULT_NAMESPACE, model, tag or DEFAULT_TAG)
    rest, namespace = _cut(rest, "/")
    host = rest.partition("://")[2] if "://" in rest else rest
    return Name(host or DEFAULT_HOST, namespace, model, tag or DEFAULT_TAG)


def checked_name(text: str) -> Name:
    """Read a name that a command was given. Raises BadInput where Ollama would refuse it."""
    name = parse_name(text)
    if not name.valid:
        raise BadInput(
            f"{text!r} is not a model name that Ollama takes",
            do="use letters, digits, '-', '_' and '.', at most 80 a part, such as qwen3-vl-ocr or me/qwen3-vl:q4",
        )
    return name


def name_from_path(relative: str) -> Name | None:
    """The name a manifest's path below the manifests folder stands for, or None where it is not one."""
    parts = relative.replace("\\", "/").split("/")
    if len(parts) != 4:
        return None
    name = Name(*parts)
    return name if name.valid else None


def _cut(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or _MISSING, after or _MISSING
