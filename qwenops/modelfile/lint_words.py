"""The linter's look at the words alone: names, types, ranges, words that undo each other."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from qwenops.errors import BadInput
from qwenops.modelfile.grammar import ROLES, WORDS
from qwenops.modelfile.parameters import DEPRECATED, PARAMETERS, instead_of, typed
from qwenops.modelfile.printable import first_dropped
from qwenops.modelfile.spec import is_version
from qwenops.modelfile.types import Command, Finding, Modelfile

READ_IN = "0.32.14"
"""The version of Ollama that the names below were read in (model/renderers/renderer.go, model/parsers/parsers.go)."""
RENDERERS = (
    *("qwen3-coder", "qwen3-vl-instruct", "qwen3-vl-thinking", "qwen3.5", "qwen3.8", "ornith", "cogito", "deepseek3.1"),
    *("olmo3", "olmo3.1", "olmo3-think", "olmo3-32b-think", "nemotron-3-nano", "nemotron-3.5-nano"),
    *("gemma4", "gemma4-small", "gemma4-large", "functiongemma", "glm-4.7", "glm-ocr", "lfm2", "lfm2-thinking"),
    *("laguna", "poolside-v1", "cohere", "glimmer"),
)
PARSERS = (
    *("qwen3", "qwen3-thinking", "qwen3.5", "ornith", "qwen3-coder", "qwen3-vl-instruct", "qwen3-vl-thinking"),
    *("ministral", "passthrough", "harmony", "cogito", "deepseek3", "olmo3", "olmo3-think", "nemotron-3-nano"),
    *("nemotron-3.5-nano", "functiongemma", "glm-4.7", "gemma4", "gemma4-no-thinking", "glm-ocr", "lfm2"),
    *("lfm2-thinking", "laguna", "poolside-v1", "cohere", "glimmer"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_ADDING_UP = ("model", "draft", "license", "message", "stop")


def check_words(modelfile: Modelfile, source: str, ollama_version: str | None = None) -> Iterator[Finding]:
    """Every finding that needs no file: `source` is the text, for what the parser has dropped from it."""
    for command in modelfile.commands:
        yield from _check_command(command, ollama_version)
    yield from _check_repeats(modelfile)
    yield from _check_chat_words(modelfile)
    yield from _check_dropped(modelfile, source)


def newer(version: str, than: str) -> bool:
    """Whether one release is newer than another; what follows a dash does not count."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(n) for n in re.findall(r"\d+", re.split(r"[-+]", version.removeprefix("v"))[0])]
    return tuple([*numbers, 0, 0, 0][:3])


def _check_command(command: Command, ollama_version: str | None) -> Iterator[Finding]:
    if command.name in ("renderer", "parser"):
        yield from _check_name(command, ollama_version)
    elif command.name == "requires":
        yield from _check_requires(command, ollama_version)
    elif command.name == "message":
        if command.args.partition(": ")[0] not in ROLES:
            yield Finding(
                command.line,
                "error",
                "no-role",
                f"a message without a role ({', '.join(ROLES)})",
                "write MESSAGE user …",
            )
    elif command.name not in WORDS:
        yield from _check_parameter(command)


def _check_parameter(command: Command) -> Iterator[Finding]:
    name, line = command.name, command.line
    if not name:
        said = f"PARAMETER {command.args}"
        yield Finding(
            line,
            "error",
            "nameless-parameter",
            "two spaces after PARAMETER: Ollama reads an empty name",
            f"write {said}",
        )
        return
    if name in DEPRECATED:
        yield Finding(line, "warning", "deprecated-parameter", f"Ollama skips {name}: it is deprecated", "take it out")
        return
    if name not in PARAMETERS:
        yield Finding(line, "error", "unknown-parameter", f"Ollama knows no parameter {name}", instead_of(name))
        return
    try:
        value = typed(name, command.args)
    except BadInput as fault:
        yield Finding(line, "error", "wrong-type", fault.message, " ".join(fault.do))
        return
    known = PARAMETERS[name]
    if isinstance(value, str):
        return
    too_low = known.low is not None and value < known.low
    too_high = known.high is not None and value > known.high
    if too_low or too_high:
        edge = f"at least {known.low:g}" if too_low else f"at most {known.high:g}"
        yield Finding(line, "warning", "out-of-range", f"{name} {command.args} means nothing: it is {edge}")


def _check_name(command: Command, ollama_version: str | None) -> Iterator[Finding]:
    names = RENDERERS if command.name == "renderer" else PARSERS
    if command.args in names or not command.args:
        return
    near = difflib.get_close_matches(command.args, names, n=1)
    do = f"write {near[0]}" if near else f"there are {', '.join(names)}"
    word = WORDS[command.name]
    if ollama_version and newer(ollama_version, READ_IN):
        message = f"Ollama {READ_IN} has no {word} {command.args}; yours is {ollama_version} and may have it"
        yield Finding(command.line, "warning", f"unknown-{command.name}", message, do)
        return
    yield Finding(
        command.line, "error", f"unknown-{command.name}", f"Ollama {READ_IN} has no {word} {command.args}", do
    )


def _check_requires(command: Command, ollama_version: str | None) -> Iterator[Finding]:
    if not is_version(command.args):
        message = f"REQUIRES needs a version, not {command.args!r}"
        yield Finding(command.line, "error", "wrong-version", message, "write it as 0.30.0")
    elif ollama_version and newer(command.args, ollama_version):
        message = f"this model wants Ollama {command.args.removeprefix('v')}, yours is {ollama_version}"
        yield Finding(command.line, "error", "ollama-too-old", message, "update Ollama: https://ollama.com/download")


def _check_repeats(modelfile: Modelfile) -> Iterator[Finding]:
    last: dict[str, Command] = {}
    for command in modelfile.commands:
        earlier = last.get(command.name)
        if earlier is not None and command.name not in _ADDING_UP:
            word = WORDS.get(command.name, f"PARAMETER {command.name}")
            message = f"{word} is said again in line {command.line}, which wins"
            yield Finding(earlier.line, "warning", "repeated", message, "take one out")
        last[command.name] = command


def _check_chat_words(modelfile: Modelfile) -> Iterator[Finding]:
    renderer, parser, template = (modelfile.last(n) for n in ("renderer", "parser", "template"))
    if renderer and not parser:
        message = "RENDERER without PARSER: thoughts and tool calls stay in the answer as text"
        yield Finding(renderer.line, "warning", "renderer-alone", message, "add the PARSER that belongs to it")
    if parser and not renderer:
        message = "PARSER without RENDERER: Ollama then leaves the file's own chat template aside"
        yield Finding(parser.line, "warning", "parser-alone", message, "add the RENDERER that belongs to it")
    if renderer and template:
        message = "TEMPLATE beside RENDERER: the renderer wins, the template is never used"
        yield Finding(template.line, "warning", "template-unused", message, "take the TEMPLATE out")


def _check_dropped(modelfile: Modelfile, source: str) -> Iterator[Finding]:
    """Characters that the parser dropped from a value: they stand in the lines that the value takes."""
    lines = _LINE_END.split(source.removeprefix("\ufeff"))
    for command in modelfile.commands:
        height = len(_LINE_END.split(command.args))
        for number, line in enumerate(lines[command.line - 1 : command.line - 1 + height], command.line):
            dropped = first_dropped(line)
            if dropped:
                message = f"Ollama drops the character {dropped[1]} here (column {dropped[0] + 1})"
                yield Finding(number, "error", "dropped-character", message, "write the value without it")
