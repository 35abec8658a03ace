"""What a Modelfile asks for, gathered as `ollama create` does (parser/parser.go CreateRequest, 0.32.14)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput
from qwenops.modelfile.parameters import DEPRECATED, typed
from qwenops.modelfile.types import Command, Message, Modelfile, ModelfileSpec

_NUMBER = r"(?:0|[1-9][0-9]*)"
_NAME = r"[0-9A-Za-z-]+"
_PRERELEASE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-]{_NAME[:-1]}*)"
_SEMVER = re.compile(
    rf"v?{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+{_NAME}(?:\.{_NAME})*)?)?)?"
)


def spec_of(modelfile: Modelfile, base_dir: Path) -> ModelfileSpec:
    """Gather the commands of a Modelfile that lies in `base_dir`. Nothing is read from the files it names.

    A FROM that names no file or folder here is the name of a model. The last word wins, except that FROM, DRAFT,
    LICENSE, MESSAGE and the parameter stop add up. Raises BadInput, with the line, where Ollama would refuse.
    """
    files: list[Path] = []
    drafts: list[Path] = []
    said: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    licenses: list[str] = []
    messages: list[Message] = []
    for command in modelfile.commands:
        if command.name == "model":
            path = expand(command.args, base_dir)
            if is_there(path):
                files.append(path)
            else:
                said["base"] = command.args
        elif command.name in ("draft", "adapter"):
            path = expand(command.args, base_dir)
            if not is_there(path):
                raise BadInput(f"{_place(command)} there is no file {path}")
            drafts += [path] if command.name == "draft" else []
            said |= {"adapter": path} if command.name == "adapter" else {}
        elif command.name == "license":
            licenses.append(command.args)
        elif command.name == "message":
            role, _, content = command.args.partition(": ")
            messages.append(Message(role, content))
        elif command.name == "requires":
            said["requires"] = _version(command)
        elif command.name in ("template", "system", "renderer", "parser"):
            # An empty value is the same as none: Ollama sends it as an empty string.
            said[command.name] = command.args or None
        elif command.name not in DEPRECATED:
            _add(parameters, command)
    _check_drafts(drafts, files)
    return ModelfileSpec(
        model_paths=tuple(files),
        parameters=parameters,
        licenses=tuple(licenses),
        messages=tuple(messages),
        drafts=tuple(drafts),
        **said,
    )


def is_version(text: str) -> bool:
    """Whether REQUIRES takes this: a semantic version, its v and its last parts optional."""
    return bool(_SEMVER.fullmatch(text))


def expand(path: str, base_dir: Path) -> Path:
    """A path of a Modelfile: absolute, below ~ or ~user, or relative to the Modelfile's folder."""
    if path.startswith("~"):
        expanded = os.path.expanduser(path)
        if expanded.startswith("~"):
            raise BadInput(f"nobody's home is {path.split('/')[0]}")
        return Path(os.path.normpath(expanded))
    return Path(os.path.normpath(base_dir.absolute() / path))


def is_there(path: Path) -> bool:
    """Whether a file or folder exists; a name that no file can have, or a folder we may not look into, is no."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _add(parameters: dict[str, Any], command: Command) -> None:
    try:
        value = typed(command.name, command.args)
    except BadInput as fault:
        raise BadInput(f"{_place(command)} {fault.message}", do=fault.do) from fault
    parameters[command.name] = (*parameters.get("stop", ()), value) if command.name == "stop" else value


def _version(command: Command) -> str:
    if not is_version(command.args):
        raise BadInput(f"{_place(command)} REQUIRES needs a version like 0.30.0, not {command.args!r}")
    return command.args.removeprefix("v")


def _check_drafts(drafts: list[Path], files: list[Path]) -> None:
    for draft in drafts:
        if any(os.path.samefile(draft, f) for f in files):
            raise BadInput(f"DRAFT and FROM name the same file: {draft}")


def _place(command: Command) -> str:
    return f"Modelfile line {command.line}:" if command.line else "Modelfile:"
