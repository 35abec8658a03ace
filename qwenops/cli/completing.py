"""Completion in shells: Click's own, with what Click does not know: our names, and how bash splits a word at a colon.

Loaded only where a shell asks or the script is printed; a command that runs knows nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem, FishComplete, ShellComplete, ZshComplete, add_completion_class

from qwenops.cli.common import REFERENCES, ModelType
from qwenops.setup import completing

VARIABLE = "_QWENOPS_COMPLETE"
PROGRAM = "qwenops"
SHELLS = ("bash", "zsh", "fish")

_MOST_FILES = 2000
_REGISTERED = ("show", "remove", "verify", "try", "update", "diff", "export", "connect", "server plan")

_BASH = """\
%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            nospace) compopt -o nospace 2>/dev/null ;;
            =*) COMPREPLY+=("${line#=}") ;;
        esac
    done < <(env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null || complete -F %(complete_func)s %(prog_name)s
"""


class _WholeWords(ShellComplete):
    """Values as the whole word that stands there: for --option=VALUE Click gives the value alone."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """What could stand in place of the last word."""
        option, sign, _ = incomplete.partition("=")
        found = super().get_completions(args, incomplete)
        if not (sign and option.startswith("--")):
            return found
        return [
            CompletionItem(f"{option}={item.value}", type=item.type, help=item.help) if item.type == "plain" else item
            for item in found
        ]


class Bash(_WholeWords):
    """Bash 3.2 and later. The line is split here: bash splits words at each character of COMP_WORDBREAKS."""

    name = "bash"
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one that it stands in."""
        words = split_words(_before_cursor() + "x")
        return words[1:-1], words[-1][:-1] if len(words) > 1 else ""

    def complete(self) -> str:
        """Lines for the script above: each value as bash would have it typed behind the last character it breaks at."""
        args, incomplete = self.get_completion_args()
        quote = open_quote(_before_cursor())
        breaks = "" if quote else "".join(c for c in ":=" if c in os.environ.get("COMP_WORDBREAKS", ""))
        kept = max((incomplete.rfind(c) for c in breaks), default=-1) + 1
        values = [value for item in self.get_completions(args, incomplete) for value in _values(item, incomplete)]
        lines = [f"={value[kept:] if quote else escaped(value[kept:])}" for value in dict.fromkeys(values)]
        return "\n".join([*lines, *(["nospace"] if any(value.endswith(("/", "=")) for value in values) else [])])

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """One value; `complete` is where they are put together."""
        return str(item.value)


class Zsh(_WholeWords, ZshComplete):
    """Click's own, with whole words."""


class Fish(_WholeWords, FishComplete):
    """Click's own, with whole words, also those with a comma in them."""

    source_template = FishComplete.source_template.replace('(string split "," $', '(string split -m1 "," $')


class Names(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """A place where names go, several in one word with `between`; where they are of models, also files."""

    name = "name"

    def __init__(self, known: Callable[[], list[str]], *, between: str = "", files: bool = False) -> None:
        self.known, self.between, self.files = known, between, files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        """The names that begin like this, whatever their case."""
        before, sign, last = incomplete.rpartition(self.between) if self.between else ("", "", incomplete)
        found: list[CompletionItem[Any]] = [
            CompletionItem(before + sign + name) for name in self.known() if name.lower().startswith(last.lower())
        ]
        if not self.files:
            return found
        if incomplete.lower().startswith(REFERENCES):
            ours = [f"ollama:{name}" for name in completing.registered_names()]
            return [CompletionItem(name) for name in ours if name.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")]


def complete(cli: click.Group) -> int:
    """Answer a shell: what could stand at the cursor, or the script. Never an error: then nothing could."""
    add_classes()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.suppress(Exception):
        cli.main(prog_name=PROGRAM, complete_var=VARIABLE, standalone_mode=False)
    return 0


def add_classes() -> None:
    """Put ours in the place of Click's."""
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell)


def script_for(shell: str, cli: click.Group) -> str:
    """What a shell reads once to complete qwenops."""
    kind = {"bash": Bash, "zsh": Zsh, "fish": Fish}[shell]
    return kind(cli, {}, PROGRAM, VARIABLE).source()


def know_names(command: click.Command, name: str) -> None:
    """Give the places of a command the names that go there."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            if below := command.get_command(context, each):
                know_names(below, f"{name} {each}")
    for param in command.params:
        if kind := _names_for(param, name):
            param.type = kind


def _names_for(param: click.Parameter, command: str) -> click.ParamType[Any] | None:
    if isinstance(param, click.Option):
        names = {option.lstrip("-") for option in param.opts}
        if "for" in names:
            return Names(completing.tasks)
        if "gpu" in names:
            return Names(completing.cards)
        if names & {"quant", "quants", "reference"} and not isinstance(param.type, ModelType):
            return Names(completing.quants, between="," if "quants" in names else "")
        return None
    if command in _REGISTERED and not isinstance(param.type, click.Choice):
        between = "," if command == "try" and param.name == "names" else ""
        return Names(completing.registered_names, between=between, files=param.name == "given")
    if command == "models":
        return Names(completing.catalogue_names)
    if command.startswith("config ") and param.name == "key":
        return Names(_setting_names)
    return Names(completing.catalogue_names, files=True) if isinstance(param.type, ModelType) else None


def _setting_names() -> list[str]:
    from qwenops.cli.config import setting_names

    return setting_names()


def split_words(text: str) -> list[str]:
    """The words of a command line; one whose quote is still open counts as it stands."""
    import shlex

    reader = shlex.shlex(text, posix=True)
    reader.whitespace_split = True
    reader.commenters = ""
    words: list[str] = []
    try:
        words.extend(reader)
    except ValueError:
        words.append(reader.token)
    return words


def open_quote(text: str) -> str:
    """The quote that is open at the end of a text, or nothing."""
    quote, escaped_one = "", False
    for letter in text:
        if escaped_one:
            escaped_one = False
        elif letter == "\\" and quote != "'":
            escaped_one = True
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
    return quote


def escaped(value: str) -> str:
    """A value as it is typed without quotes."""
    return re.sub(r"([^\w@%+=:,./~^-])", r"\\\1", value)


def _before_cursor() -> str:
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    return line[: int(point)] if point.isdigit() else line


def _values(item: CompletionItem[Any], incomplete: str) -> Iterator[str]:
    """A value, or the files that stand for "a file goes here"."""
    if item.type not in ("file", "dir"):
        yield str(item.value)
        return
    option, sign, typed = incomplete.partition("=") if incomplete.startswith("--") else ("", "", incomplete)
    folder, _, begin = typed.rpartition("/")
    folder += "/" if "/" in typed else ""
    with contextlib.suppress(OSError), os.scandir(os.path.expanduser(folder) or ".") as entries:
        names = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name.startswith(begin))
        for name, is_folder in names[:_MOST_FILES]:
            if (is_folder or item.type == "file") and (begin.startswith(".") or not name.startswith(".")):
                yield f"{option}{sign}{folder}{name}{'/' * is_folder}"
