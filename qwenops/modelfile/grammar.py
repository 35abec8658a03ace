"""The grammar of a Modelfile, read and written exactly as Ollama does (parser/parser.go of 0.32.14).

    parse(write(m)) == m        and Ollama's own parser reads write(m) as the same commands

What cannot be said is refused, never changed: the format has no escapes and drops unprintable characters silently.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from qwenops.errors import BadInput
from qwenops.modelfile.quoting import quote, read_value
from qwenops.modelfile.types import CannotParse, Command, Modelfile

# The words of a Modelfile, in the order of the name inside Ollama -> the word in the file.
WORDS = {
    "model": "FROM",
    "license": "LICENSE",
    "template": "TEMPLATE",
    "system": "SYSTEM",
    "adapter": "ADAPTER",
    "draft": "DRAFT",
    "renderer": "RENDERER",
    "parser": "PARSER",
    "requires": "REQUIRES",
    "message": "MESSAGE",
}
ROLES = ("system", "user", "assistant")


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("qwenops.each_byte", _each_byte)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "qwenops.each_byte"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "replace"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "replace"),
)
_SPACE = " \t"
_NEWLINE = "\r\n"
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_WORD = re.compile(r"[^ \t\r\n#][A-Za-z]*")
_LETTERS = re.compile(r"[A-Za-z]*")
_NAME = re.compile(r"[A-Za-z0-9_]*")


def decode(data: bytes) -> str:
    """The text of a Modelfile's bytes: UTF-8, or UTF-16 behind its byte order mark; bad bytes become U+FFFD.

    Ollama makes one U+FFFD of each bad sequence, but behind a UTF-8 mark one of each bad byte.
    """
    for mark, encoding, errors in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors)
    return data.decode("utf-8", "replace")


def parse(source: str | bytes) -> Modelfile:
    """Read a Modelfile, text or the bytes of a file, as Ollama does.

    Raises CannotParse, with the line, where Ollama would refuse it.
    """
    text = source.removeprefix("\ufeff") if isinstance(source, str) else decode(source)
    commands = tuple(_commands(text))
    if not any(c.name == "model" for c in commands):
        raise CannotParse(0, "no FROM line", do="say which model: FROM /path/to/model.gguf")
    return Modelfile(commands)


def write(modelfile: Modelfile) -> str:
    """Write commands as a Modelfile, one a line. Raises BadInput naming the first value that cannot be said."""
    if not any(c.name == "model" for c in modelfile.commands):
        raise BadInput("a Modelfile needs a FROM", do="name the model file")
    return "".join(f"{say(c)}\n" for c in modelfile.commands)


def say(command: Command) -> str:
    """One command as its line (or lines, when the value has some)."""
    word = WORDS.get(command.name)
    if word == "MESSAGE":
        role, colon, content = command.args.partition(": ")
        if not colon or role not in ROLES:
            raise BadInput(f"a MESSAGE needs a role ({', '.join(ROLES)}), not {role!r}")
        return f"MESSAGE {role} {quote(content, f'the MESSAGE of the {role}')}"
    if word:
        return f"{word} {quote(command.args, f'the value of {word}')}"
    if not command.name or not _NAME.fullmatch(command.name):
        raise BadInput(f"{command.name!r} cannot be a PARAMETER: only letters, digits and _ can")
    return f"PARAMETER {command.name} {quote(command.args, f'the value of PARAMETER {command.name}')}"


def _commands(text: str) -> Iterator[Command]:
    lines = _Lines(text)
    at = _skip(_BLANK, text, 0)
    while at < len(text):
        line = lines.at(at)
        name, args, at = _command(text, at, line)
        yield Command(name, args, line)
        at = _skip(_BLANK, text, at)


def _command(text: str, at: int, line: int) -> tuple[str, str, int]:
    """One command from where its word begins: its name, its value, and where the next one may begin."""
    end = _skip(_WORD, text, at)
    word = text[at:end]
    at = _past_space(text, end, line, word)
    name = _name_of(word, line)
    role = ""
    if name == "parameter":
        end = _skip(_NAME, text, at)
        name = text[at:end]
        at = _past_space(text, end, line, f"PARAMETER {name}")
    elif name == "message":
        end = _skip(_LETTERS, text, at)
        role = text[at:end]
        at = _past_space(text, end, line, f"MESSAGE {role}")
        if role not in ROLES:
            raise CannotParse(line, f"a message is from one of {', '.join(ROLES)}, not {role!r}")
    value, at = read_value(text, at)
    if value is None:
        raise CannotParse(line, "the quotes of this value never close", do='end the value with the same " or """')
    return name, f"{role}: {value}" if role else value, at


def _name_of(word: str, line: int) -> str:
    from qwenops.modelfile.printable import is_printable

    # Ollama drops an unprintable first character before it looks at the word (a stray zero-width space, say).
    lowered = (word if is_printable(word[0]) else word[1:]).lower()
    name = {"from": "model"}.get(lowered, lowered)
    if lowered == "model" or (name not in WORDS and name != "parameter"):
        import difflib

        known = ["PARAMETER", *WORDS.values()]
        near = difflib.get_close_matches(lowered.upper(), known, n=1)
        raise CannotParse(
            line,
            f"unknown word {word!r}",
            do=f"did you mean {near[0]}?" if near else f"the words are {', '.join(known)}",
        )
    return name


def _past_space(text: str, at: int, line: int, said: str) -> int:
    if at < len(text) and text[at] in _SPACE:
        return at + 1
    if at == len(text) or text[at] in _NEWLINE:
        raise CannotParse(line, f"{said} has no value")
    raise CannotParse(line, f"{text[at]!r} cannot stand in {said + text[at]!r}")


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


class _Lines:
    """Counts lines forward through a text: LF, CR and CRLF end one."""

    def __init__(self, text: str) -> None:
        self._ends = [m.end() for m in re.finditer(r"\r\n|\r|\n", text)]

    def at(self, position: int) -> int:
        from bisect import bisect_right

        return bisect_right(self._ends, position) + 1
