"""ExLlama's models: a folder of safetensors in EXL2 or EXL3 with its config.json, here or in a repository of the hub.

Both loaders take every *.safetensors of the folder and know a layer by the names of its tensors: q_weight for EXL2
(exllamav2 0.3.2, module.py, load_weight), trellis for EXL3 (exllamav3 1.4.1, modules/linear.py, is_exl3_storage). So
does this; the index beside them is only held against what is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from qwenops.errors import BadInput, PartMissing
from qwenops.model import header_cache, hub
from qwenops.model.remote import RemoteFile, refusal
from qwenops.model.safetensors_header import SafetensorsHeader, StoredTensor, read_remote_safetensors, read_safetensors
from qwenops.model.web import Limits, get

Format = Literal["exl2", "exl3"]
SCHEMES = ("exl2:", "exl3:")
_NAMED = re.compile(r"exl[23]", re.IGNORECASE)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<n>\d{5})-of-(?P<count>\d{5})\.safetensors")
_CONFIG, _PREPROCESSOR, _INDEX = "config.json", "preprocessor_config.json", "model.safetensors.index.json"
_CONFIG_BYTES = 4 * 1024**2
_INDEX_BYTES = 32 * 1024**2
_MOST_FILES = 512
_AT_ONCE = 4
_TELLS: dict[Format, str] = {"exl2": ".q_weight", "exl3": ".trellis"}


@dataclass(frozen=True)
class ExlModel:
    """An EXL2 or EXL3 model by its headers and its config.json.

    `source` is the folder or the reference; `architecture` the config's own word (Qwen3VLForConditionalGeneration).
    `bits` and `head_bits` are what the converter aimed at, None where the config does not say. `most_image_tokens` is
    the largest picture that the preprocessor lets through, None where it does not say.
    """

    name: str
    source: str
    format: Format
    architecture: str
    config: Mapping[str, Any] = field(repr=False)
    tensors: tuple[StoredTensor, ...] = field(repr=False)
    file_bytes: int
    bits: float | None
    head_bits: float | None
    most_image_tokens: int | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def by_name(self) -> Mapping[str, StoredTensor]:
        """The tensors by their names."""
        return {t.name: t for t in self.tensors}

    def number(self, *keys: str, default: int | None = None) -> int:
        """A whole number of config.json, of its text part first. Raises BadInput where none of the keys is one."""
        for part in (self.text, self.config):
            for key in keys:
                value = part.get(key)
                if type(value) is int and 0 < value < 1 << 40:
                    return value
        if default is not None:
            return default
        raise BadInput(f"{self.source}: config.json does not say {' or '.join(keys)}", do="take a whole repository")

    @property
    def text(self) -> Mapping[str, Any]:
        """The part of config.json that describes the language model."""
        part = self.config.get("text_config")
        return part if isinstance(part, dict) else self.config

    @property
    def trained_context(self) -> int:
        """The longest context that the model was made for, in tokens."""
        return self.number("max_position_embeddings", default=1 << 20)


def is_exl(given: Path | str) -> bool:
    """Whether what was typed names such a model: by its scheme, its repository's name, or what lies in a folder."""
    if isinstance(given, str):
        said = given.lower()
        if said.startswith(SCHEMES):
            return True
        return said.startswith("hf:") and bool(_NAMED.search(said)) and "gguf" not in said
    folder = given.expanduser()
    return (folder / _CONFIG).is_file() and any(folder.glob("*.safetensors")) and not any(folder.glob("*.gguf"))


def read_exl(given: Path | str, *, offline: bool = False, limits: Limits | None = None) -> ExlModel:
    """Read a model: a folder, exl2: or exl3: with a folder or OWNER/REPO[@REVISION], or hf: with the same.

    Raises BadInput where it is none, is not whole or contradicts itself, PartMissing where it is out of reach.
    """
    wanted: Format | None = None
    if isinstance(given, str):
        scheme, _, rest = given.partition(":")
        if scheme.lower() != "hf":
            wanted = "exl2" if scheme.lower() == "exl2" else "exl3"
        there = Path(rest).expanduser()
        if wanted is None or not there.is_dir():
            reference = hub.parse_hub(f"hf:{rest}")
            model = _Remote(reference, offline or hub.hub_offline(), limits or Limits()).model()
        else:
            model = _local(there)
    else:
        model = _local(given.expanduser())
    if wanted and model.format != wanted:
        raise BadInput(f"{model.source} is {model.format.upper()}, not {wanted.upper()}", do=f"{model.format}:{rest}")
    return model


def _local(folder: Path) -> ExlModel:
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / _CONFIG).is_file():
        raise BadInput(f"{folder} holds no model: a config.json and *.safetensors are wanted", do=f"ls {folder}")
    _check_files([f.name for f in files], str(folder))
    headers = {f.name: read_safetensors(f) for f in files}

    def document(name: str, most: int) -> Any:
        path = folder / name
        if not path.is_file():
            return None
        try:
            if path.stat().st_size > most:
                raise BadInput(f"{path} is longer than {most} bytes")
            return _document(path.read_bytes(), str(path))
        except OSError as e:
            raise PartMissing(f"{path} cannot be read: {e.strerror or e}") from None

    return _made(folder.resolve().name, str(folder), headers, document, folder)


class _Remote:
    """A repository of the hub at the commit of its listing."""

    def __init__(self, reference: hub.HubReference, offline: bool, limits: Limits) -> None:
        if reference.wanted:
            raise BadInput(
                f"{reference}: an EXL model is the whole of a revision",
                do=f"give the revision instead: exl3:{reference.repo}@{reference.wanted}",
            )
        self.reference, self.offline, self.limits = reference, offline, limits
        listed = hub.list_all_files(reference, offline=offline, limits=limits)
        self.files = {f.path: f for f in listed if "/" not in f.path}

    def model(self) -> ExlModel:
        tensors = sorted(name for name in self.files if name.endswith(".safetensors"))
        if not tensors or _CONFIG not in self.files:
            raise BadInput(
                f"{self.reference} holds no EXL model: a config.json and *.safetensors are wanted",
                do="many repositories keep each size in a revision of its own: exl3:OWNER/REPO@4.0bpw",
            )
        _check_files(tensors, str(self.reference))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            headers = dict(zip(tensors, pool.map(self._header, tensors), strict=True))
        revision = f"@{self.reference.revision}" if self.reference.revision else ""
        name = self.reference.repo.partition("/")[2] + revision
        return _made(name, str(self.reference), headers, self._document, None)

    def _header(self, name: str) -> SafetensorsHeader:
        return read_remote_safetensors(self._file(name), offline=self.offline, limits=self.limits)

    def _file(self, name: str) -> RemoteFile:
        return hub.remote_file(self.reference, self.files[name], small=True)

    def _document(self, name: str, most: int) -> Any:
        listed = self.files.get(name)
        if listed is None or (name == _INDEX and (listed.size_bytes or 0) > most):
            return None
        file = self._file(name)

        def ask() -> Any:
            with get(file.url, token=file.token, limits=self.limits) as answer:
                if answer.status != 200:
                    raise refusal(answer, file.shown, file.gated)
                return _document(answer.read_all(most), file.shown)

        kept_at = f"{file.kept_under}#{listed.content or ''}"
        if (kept := header_cache.find_listing(kept_at)) is not None and listed.content:
            return kept
        return header_cache.listing(kept_at, file.shown, ask, offline=self.offline)


def _document(raw: bytes, shown: str) -> dict[str, Any]:
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise BadInput(f"{shown} is not JSON: {e}") from None
    if not isinstance(read, dict):
        raise BadInput(f"{shown} is JSON, but no table")
    return read


def _made(
    name: str,
    source: str,
    headers: Mapping[str, SafetensorsHeader],
    document: Callable[[str, int], Any],
    folder: Path | None,
) -> ExlModel:
    config = document(_CONFIG, _CONFIG_BYTES)
    tensors = _joined(headers, source)
    kind = _format(tensors, config, source)
    preprocessor = document(_PREPROCESSOR, _CONFIG_BYTES)
    # both read it as they load a model with a vision tower (exllamav3 architecture/qwen3_vl.py; exllamav2 config.py)
    missing = (f"{_PREPROCESSOR} is not there, and ExLlama wants it",) if "vision_config" in config else ()
    missing = missing if preprocessor is None else ()
    quantized = config.get("quantization_config")
    aim = quantized if isinstance(quantized, dict) else {}
    return ExlModel(
        name=name,
        source=source,
        format=kind,
        architecture=_architecture(config, source),
        config=config,
        tensors=tensors,
        file_bytes=sum(h.file_bytes for h in headers.values()),
        bits=_bits(aim.get("bits")),
        head_bits=_bits(aim.get("head_bits")),
        most_image_tokens=_most_image_tokens(preprocessor),
        folder=folder,
        notes=(*_index_notes(document(_INDEX, _INDEX_BYTES), headers, source), *missing),
    )


def _check_files(names: list[str], source: str) -> None:
    """Every shard that a name speaks of must be there. Raises BadInput, naming those that are not."""
    if len(names) > _MOST_FILES:
        raise BadInput(f"{source} holds {len(names)} safetensors files; no model has more than {_MOST_FILES}")
    for match in filter(None, map(_SHARD.fullmatch, names)):
        count = int(match["count"])
        if not 0 < int(match["n"]) <= count <= _MOST_FILES:
            raise BadInput(f"{source}: {match[0]} is no shard of {count}")
        wanted = {f"{match['stem']}-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)}
        if missing := sorted(wanted.difference(names)):
            raise BadInput(
                f"{source} has {count} shards, and {len(missing)} are not there: {', '.join(missing[:3])}",
                do="download the rest, or take another revision",
            )


def _joined(headers: Mapping[str, SafetensorsHeader], source: str) -> tuple[StoredTensor, ...]:
    seen: dict[str, StoredTensor] = {}
    for file, header in headers.items():
        for tensor in header.tensors:
            if tensor.name in seen:
                raise BadInput(
                    f"{source} holds {tensor.name} twice, the second time in {file}: which of them counts is open",
                    do="keep one set of shards in the folder",
                )
            seen[tensor.name] = tensor
    return tuple(seen.values())


def _format(tensors: Iterable[StoredTensor], config: Mapping[str, Any], source: str) -> Format:
    found = [kind for kind, ending in _TELLS.items() if any(t.name.endswith(ending) for t in tensors)]
    if len(found) == 1:
        return found[0]
    quantized = config.get("quantization_config")
    method = quantized.get("quant_method") if isinstance(quantized, dict) else None
    what = "holds both EXL2 and EXL3 layers" if found else f"is not EXL2 or EXL3 (quant_method {method or 'none'})"
    raise BadInput(f"{source} {what}", do="take a repository whose name says exl2 or exl3")


def _architecture(config: Mapping[str, Any], source: str) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        return named[0]
    raise BadInput(f"{source}: config.json names no architecture", do="take a whole repository")


def _bits(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0 < value <= 16 else None


def _most_image_tokens(preprocessor: Any) -> int | None:
    """Pixels of the largest picture by the cell of one token (patch times merge, both ways)."""
    if not isinstance(preprocessor, dict):
        return None
    size = preprocessor.get("size")
    pixels = (size.get("longest_edge") if isinstance(size, dict) else None) or preprocessor.get("max_pixels")
    known = [n for n in (pixels, preprocessor.get("patch_size"), preprocessor.get("merge_size")) if type(n) is int]
    if len(known) < 3 or not all(0 < n < 1 << 40 for n in known):
        return None
    return int(known[0] // (known[1] * known[2]) ** 2)


def _index_notes(index: Any, headers: Mapping[str, SafetensorsHeader], source: str) -> tuple[str, ...]:
    """What the index says that is not so. Raises BadInput where tensors that it places in a file are not in it."""
    placed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(placed, dict):
        return ()
    if gone := {str(f) for f in placed.values()}.difference(headers):
        # EXL2's converter copies the index of the model that it converted
        return (f"{_INDEX} speaks of other files ({sorted(gone)[0][:80]}); it is that of the unquantized model",)
    names = {name: {t.name for t in header.tensors} for name, header in headers.items()}
    missing = [name for name, file in placed.items() if name not in names[file]]
    if missing:
        raise BadInput(
            f"{source}: {len(missing)} tensors of the index are not where it says, {missing[0][:80]} first",
            do="download it again; the files are of different versions",
        )
    return ()
