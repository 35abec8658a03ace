"""A model of Ollama's registry by its name: the manifest says which blobs are the model and its projector.

Source: Ollama v0.32.14, server/images.go (pullModelManifest, the layers' media types) and types/model/name.go. Blobs
are named by their digest, so a kept header is true for ever and only the manifest is asked for again.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from qwenops.errors import BadInput, PartMissing
from qwenops.model import header_cache
from qwenops.model.nearby import library_tags_like
from qwenops.model.remote import FIRST_BYTES, SMALL_BYTES, RemoteFile, refusal, safe_name
from qwenops.model.web import Limits, get, shown
from qwenops.runtime.names import DEFAULT_HOST, Name, checked_name

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_KIND = "application/vnd.ollama.image."
_MANIFEST_BYTES = 4 * 1024**2
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def registry_of(name: Name) -> str:
    """The registry's address. QWENOPS_REGISTRY stands in for Ollama's own, as a mirror of it does."""
    if name.host.lower() == DEFAULT_HOST:
        return (os.environ.get("QWENOPS_REGISTRY") or f"https://{DEFAULT_HOST}").rstrip("/")
    return f"{'http' if is_loopback(name.host) else 'https'}://{name.host}"


def is_loopback(host: str) -> bool:
    """Whether a registry is on this machine, where it is asked without TLS, as other tools ask one there."""
    return re.fullmatch(r"(localhost|127(\.\d{1,3}){3})(:\d+)?", host.lower()) is not None


def registry_files(
    text: str, *, offline: bool, limits: Limits | None = None
) -> tuple[str, tuple[RemoteFile, ...], RemoteFile | None]:
    """The reference in full, the model's files and its projector's, by one request.

    Raises BadInput for a name that is none, that is not there or that has no GGUF; PartMissing where the registry is
    out of reach.
    """
    name = checked_name(text.removeprefix("ollama:"))
    reference = f"ollama:{name.short}"
    base = f"{registry_of(name)}/v2/{name.namespace}/{name.model}"
    url = f"{base}/manifests/{name.tag}"
    layers = header_cache.listing(url, reference, lambda: _layers(url, reference, limits), offline=offline)
    models = [row for row in layers if row[0] == "model"]
    projectors = [row for row in layers if row[0] == "projector"]
    if not models:
        raise BadInput(
            f"{reference} has no GGUF: it runs in Ollama's cloud, or its weights are in another format",
            do="take another tag of it",
        )
    stem = safe_name(f"{name.model}-{name.tag}")
    shards = [f"{stem}-{n:05d}-of-{len(models):05d}" for n in range(1, len(models) + 1)] if models[1:] else [stem]
    files = tuple(
        _file(base, reference, row, f"{shard}.gguf", small=bool(n))
        for n, (row, shard) in enumerate(zip(models, shards, strict=True))
    )
    projector = _file(base, reference, projectors[0], f"mmproj-{stem}.gguf", small=True) if projectors else None
    return reference, files, projector


def _file(base: str, reference: str, row: list[Any], name: str, *, small: bool) -> RemoteFile:
    kind, digest, size = row
    return RemoteFile(
        url=f"{base}/blobs/{digest}",
        name=name,
        shown=f"{reference} ({kind})",
        size_bytes=size,
        content=digest,
        first_bytes=SMALL_BYTES if small else FIRST_BYTES,
    )


def _layers(url: str, reference: str, limits: Limits | None) -> list[list[Any]]:
    with get(url, headers={"Accept": MANIFEST}, limits=limits) as answer:
        if answer.status != 200:
            near = tuple(f"qwenops plan {one}" for one in library_tags_like(reference.removeprefix("ollama:")))
            private = "look at the spelling; a private model can be read by its owner alone"
            raise refusal(answer, reference, (private,), near)
        raw = answer.read_all(_MANIFEST_BYTES)
    try:
        return [row for layer in json.loads(raw)["layers"] if (row := _row(layer))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PartMissing(f"{reference}: what answers at {shown(url)} is not a registry: no manifest") from None


def _row(layer: dict[str, Any]) -> list[Any] | None:
    kind, digest, size = layer["mediaType"].removeprefix(_KIND), layer["digest"], layer["size"]
    if kind not in ("model", "projector"):
        return None
    if not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise ValueError(digest)
    return [kind, digest, size]
