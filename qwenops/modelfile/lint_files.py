"""The linter's look at the files that a Modelfile names: are they there, are they what they must be, do they match."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwenops.errors import BadInput, QwenopsError
from qwenops.model.image_tokens import MAX_TOKENS
from qwenops.model.types import Model, Projector
from qwenops.modelfile.spec import expand, is_there
from qwenops.modelfile.types import Command, Finding, Modelfile


@dataclass(frozen=True)
class LintFacts:
    """What the linter is told, or finds out by itself from the files that are here. None is unknown.

    `layers` counts the output layer. `sees` is whether there is a projector, or vision tensors in the model's own
    file. `images` of `image_tokens` each are what num_ctx has to make room for.
    """

    architecture: str | None = None
    layers: int | None = None
    trained_ctx: int | None = None
    sees: bool | None = None
    has_chat_template: bool | None = None
    images: int = 1
    image_tokens: int = MAX_TOKENS
    ollama_version: str | None = None


@dataclass
class Files:
    """What FROM names, and what is wrong with it."""

    facts: LintFacts
    models: list[tuple[Command, Model]] = field(default_factory=list)
    projectors: list[tuple[Command, Projector]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def find_files(modelfile: Modelfile, base_dir: Path, facts: LintFacts) -> Files:
    """Read the headers of every file that FROM names, and look for those of ADAPTER and DRAFT."""
    files = Files(facts)
    listed: dict[Path, Command] = {}
    names: list[Command] = []
    for command in modelfile.all("model"):
        path = _expand(command, base_dir, files)
        if path is None:
            continue
        if is_there(path) and path.is_file():
            if path in listed:
                files.findings.append(Finding(command.line, "warning", "twice", f"{path.name} is named twice"))
                continue
            listed[path] = command
        elif not is_there(path):
            if _means_a_file(command.args):
                message = f"there is no file {path}; Ollama would take {command.args!r} for the name of a model"
                files.findings.append(Finding(command.line, "error", "missing-file", message, "give the file's path"))
            else:
                names.append(command)
    for name in names if listed else ():
        message = f"FROM {name.args} names a model beside files: Ollama then leaves the files aside"
        files.findings.append(
            Finding(name.line, "error", "name-beside-files", message, "name files only, or a model only")
        )
    _read(listed, files)
    files.findings += _check_sets(files, listed, by_name=bool(names))
    for command in (*modelfile.all("adapter"), *modelfile.all("draft")):
        path = _expand(command, base_dir, files)
        if path is not None and not is_there(path):
            message = f"there is no file {path}"
            files.findings.append(Finding(command.line, "error", "missing-file", message, "give the file's path"))
    files.facts = _known(files)
    return files


def _expand(command: Command, base_dir: Path, files: Files) -> Path | None:
    try:
        return expand(command.args, base_dir)
    except BadInput as fault:
        files.findings.append(Finding(command.line, "error", "missing-file", fault.message))
        return None


def _means_a_file(args: str) -> bool:
    return args.startswith((".", "/", "~")) or args.lower().endswith((".gguf", ".safetensors", ".bin"))


def _read(listed: dict[Path, Command], files: Files) -> None:
    from qwenops.model.gguf_header import read_header
    from qwenops.model.projector import is_projector, read_projector
    from qwenops.model.read import read_model

    seen: set[Path] = set()
    for path, command in listed.items():
        try:
            if is_projector(read_header(path)):
                files.projectors.append((command, read_projector(path)))
            elif path not in seen:
                model = read_model(path, mmproj=None)
                seen.update(model.shards)
                files.models.append((command, model))
        except QwenopsError as fault:
            files.findings.append(Finding(command.line, "error", "bad-file", fault.message, " ".join(fault.do)))


def _check_sets(files: Files, listed: dict[Path, Command], *, by_name: bool) -> Iterator[Finding]:
    for command, model in files.models:
        missing = [s.name for s in model.shards if s not in listed]
        if missing:
            count = f"{len(model.shards)} parts, and {len(missing)} are not named"
            message = f"{model.path.name} has {count}: {', '.join(missing)}"
            yield Finding(command.line, "error", "missing-shard", message, "write a FROM for each part")
    for command, model in files.models[1:]:
        message = f"a second text model, {model.path.name}: Ollama makes one model of one text model"
        yield Finding(command.line, "error", "two-models", message, "take one FROM out")
    if files.projectors and not files.models and not by_name:
        command, projector = files.projectors[0]
        message = f"only a projector, {projector.path.name}, and no text model"
        yield Finding(command.line, "error", "projector-alone", message, "add a FROM with the model's own file")
    for command, _ in files.projectors[1:]:
        first = min((p.path for _, p in files.projectors), key=str)
        message = f"more than one projector: Ollama loads only the first by path, {first.name}"
        yield Finding(command.line, "error", "two-projectors", message, "keep the one that belongs to the model")
    for command, projector in files.projectors:
        yield from _check_pair(command, projector, files)


def _check_pair(command: Command, projector: Projector, files: Files) -> Iterator[Finding]:
    from qwenops.model.projector import check_projector

    for _, model in files.models[:1]:
        try:
            check_projector(model, projector)
        except BadInput as fault:
            yield Finding(command.line, "error", "projector-mismatch", fault.message, " ".join(fault.do))


def _known(files: Files) -> LintFacts:
    facts = files.facts
    if not files.models:
        return replace(facts, sees=True) if files.projectors else facts
    model = files.models[0][1]
    blocks, trained = model.hparam("block_count"), model.hparam("context_length")
    return replace(
        facts,
        architecture=model.architecture,
        layers=blocks + 1 if isinstance(blocks, int) else facts.layers,
        trained_ctx=trained if isinstance(trained, int) else facts.trained_ctx,
        sees=bool(files.projectors) or model.inline_vision,
        has_chat_template=bool(model.header.metadata.get("tokenizer.chat_template")),
    )
