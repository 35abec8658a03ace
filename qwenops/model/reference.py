"""Models by reference: hf:, ollama: and https:// become ordinary Models, of whose files only the headers were read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit, urlunsplit

from qwenops.errors import BadInput
from qwenops.model import hub
from qwenops.model.projector import check_projector, preference, projector_of, read_projector
from qwenops.model.read import in_order, model_of
from qwenops.model.registry import registry_files
from qwenops.model.remote import FIRST_BYTES, SMALL_BYTES, RemoteFile, file_name, read_remote_header
from qwenops.model.split import join_headers, shard_names
from qwenops.model.types import Header, Model, Projector
from qwenops.model.vocabulary import Vocabulary, vocabulary_of
from qwenops.model.web import Limits, check_url, shown

SCHEMES = ("hf:", "ollama:", "https://", "http://")
_AT_ONCE = 4
_MOST_PROJECTORS = 3


def is_reference(given: Path | str) -> bool:
    """Whether what was given names a model that is somewhere else."""
    return isinstance(given, str) and given.lower().startswith(SCHEMES)


def read_references(
    references: Iterable[str],
    mmproj: Path | str | None = None,
    *,
    offline: bool = False,
    most: int = hub.MOST_VARIANTS,
    limits: Limits | None = None,
) -> tuple[Model, ...]:
    """The variants of one model by reference, the best quant first, with the projector beside them or the one named.

    A repository of more than `most` is refused by its listing alone.

    A header of a 152k vocabulary costs at most three requests and 8 MiB, each further variant some 100 KiB. Raises
    BadInput for references that name no model or not one model, NotAGGUF for broken files, PartMissing where a server
    is out of reach or wants a login.
    """
    asking = _Asking(offline or hub.hub_offline(), most, limits or Limits())
    models = [model for reference in references for model in asking.models(reference, with_projector=mmproj is None)]
    if mmproj is not None:
        projector = asking.projector(str(mmproj)) if is_reference(mmproj) else read_projector(mmproj)
        for model in models:
            check_projector(model, projector)
        models = [replace(model, projector=projector) for model in models]
    return in_order({m.source: m for m in models}.values())


def download(reference: str) -> str:
    """The command that brings a reference here."""
    found = _hub_reference(reference)
    if found:
        if found.wanted.endswith(".gguf"):
            which = f" {found.wanted}"
        else:
            which = f' --include "*{found.wanted}*.gguf" "*mmproj*.gguf"' if found.wanted else ' --include "*.gguf"'
        revision = f" --revision {found.revision}" if found.revision else ""
        return f"hf download {found.repo}{which}{revision} --local-dir ."
    if reference.lower().startswith("ollama:"):
        return f"ollama pull {reference[7:]}"
    return f"curl -L -O -C - '{reference}'"


def _hub_reference(reference: str) -> hub.HubReference | None:
    if reference.lower().startswith("hf:"):
        return hub.parse_hub(reference)
    return hub.hub_address(reference) if "://" in reference else None


class _Asking:
    """How the servers are asked, and the header that others can be like."""

    def __init__(self, offline: bool, most: int, limits: Limits) -> None:
        self.offline, self.most, self.limits = offline, most, limits
        self.read_first: tuple[Header, Path] | None = None

    def vocabulary(self) -> Vocabulary | None:
        """That of the first model that was read."""
        return self._vocabulary if self.read_first else None

    @cached_property
    def _vocabulary(self) -> Vocabulary | None:
        assert self.read_first is not None
        header, kept = self.read_first
        return vocabulary_of(header, kept.read_bytes())

    def models(self, reference: str, *, with_projector: bool) -> list[Model]:
        reference = _lower_scheme(reference)
        if found := _hub_reference(reference):
            return self.of_hub(found, with_projector)
        if reference.startswith("ollama:"):
            return self.of_registry(reference, with_projector)
        return [self.model(_files_of(reference), shown(check_url(reference)))]

    def of_hub(self, reference: hub.HubReference, with_projector: bool) -> list[Model]:
        listing = hub.list_files(reference, offline=self.offline, limits=self.limits)
        wanted = hub.wanted_models(reference, listing, most=self.most)
        groups = [
            tuple(hub.remote_file(reference, file, small=bool(n)) for n, file in enumerate(shards)) for shards in wanted
        ]
        models = [self.model(groups[0], groups[0][0].shown)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            models += pool.map(lambda group: self.model(group, group[0].shown), groups[1:])
        if not with_projector:
            return models
        projectors = [hub.remote_file(reference, f, small=True) for f in hub.projector_files(listing)]
        projector = self.best_projector(models[0], projectors)
        return [_with(model, projector) for model in models]

    def of_registry(self, reference: str, with_projector: bool) -> list[Model]:
        full, files, projector = registry_files(reference, offline=self.offline, limits=self.limits)
        model = self.model(files, full)
        if projector is None or not with_projector:
            return [model]
        return [_with(model, self.best_projector(model, [projector]))]

    def model(self, files: Sequence[RemoteFile], reference: str) -> Model:
        read = []
        for n, file in enumerate(files):
            like = self.vocabulary if n == 0 else lambda: None
            read.append(read_remote_header(file, offline=self.offline, like=like, limits=self.limits))
        (first, kept), *_ = read
        count = first.metadata.get("split.count", 0)
        if len(read) == 1 and isinstance(count, int) and count > 1:
            raise BadInput(
                f"{files[0].shown} is one of {count} shards, but its name does not say so",
                do=f"its name must be like NAME-00001-of-{count:05d}.gguf",
            )
        self.read_first = self.read_first or (first, kept)
        header = join_headers([h for h, _ in read]) if len(read) > 1 else first
        model = model_of(header, tuple(path for _, path in read), files[0].name)
        return replace(model, remote=reference)

    def best_projector(self, model: Model, files: Sequence[RemoteFile]) -> Projector | None:
        """The one to take, by name, among those that belong to the model; None where none of the best does."""
        if model.inline_vision:
            return None
        for file in sorted(files, key=lambda f: preference(model.path, Path(f.name)))[:_MOST_PROJECTORS]:
            projector = self._projector(file)
            try:
                check_projector(model, projector)
            except BadInput:
                continue
            return projector
        return None

    def projector(self, reference: str) -> Projector:
        reference = _lower_scheme(reference)
        found = _hub_reference(reference)
        if not found:
            if not reference.startswith("http"):
                raise BadInput(f"{reference} does not name a projector", do="--mmproj hf:OWNER/REPO:mmproj-F16.gguf")
            return self._projector(replace(_files_of(reference)[0], first_bytes=SMALL_BYTES))
        listing = hub.list_files(found, offline=self.offline, limits=self.limits)
        named = [f for f in listing if found.wanted in (f.path, PurePosixPath(f.path).name)]
        if not named:
            there = ", ".join(f.path for f in hub.projector_files(listing)) or "no projector"
            raise BadInput(f"{found} is not in the repository; it has {there}")
        return self._projector(hub.remote_file(found, named[0], small=True))

    def _projector(self, file: RemoteFile) -> Projector:
        header, path = read_remote_header(file, offline=self.offline, limits=self.limits)
        return replace(projector_of(header), path=path, remote=file.shown)


def _with(model: Model, projector: Projector | None) -> Model:
    if projector is None or model.inline_vision:
        return model
    return replace(model, projector=projector)


def _lower_scheme(reference: str) -> str:
    scheme, colon, rest = reference.partition(":")
    return scheme.lower() + colon + rest


def _files_of(url: str) -> tuple[RemoteFile, ...]:
    """The file at an address, and its sister shards where its name is one of a shard."""
    url = check_url(url)
    parts = urlsplit(url)
    name = file_name(url)
    folder = parts.path.rpartition("/")[0]
    names = shard_names(name)
    addresses = [url] if len(names) == 1 else [urlunsplit(parts._replace(path=f"{folder}/{quote(n)}")) for n in names]
    return tuple(
        RemoteFile(
            url=address,
            name=n,
            shown=shown(address),
            token=hub.token(),
            gated=("look at the address; a page that shows a file is not the file",),
            first_bytes=SMALL_BYTES if index else FIRST_BYTES,
        )
        for index, (address, n) in enumerate(zip(addresses, names, strict=True))
    )
