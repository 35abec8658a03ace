"""Values and Modelfiles that are hard to say, from a seed, for the laws of the grammar."""

from __future__ import annotations

import random

from qwenops.errors import BadInput
from qwenops.modelfile.grammar import ROLES, say
from qwenops.modelfile.types import Command, Modelfile

PIECES = (
    *(
        '"',
        '""',
        '"""',
        '""""',
        "'",
        "\\",
        "\\n",
        '\\"',
        "#",
        "# no comment",
        "FROM x",
        "PARAMETER stop y",
        "{{ .Prompt }}",
    ),
    *(" ", "  ", "\t", "\n", "\n\n", "\r\n", "\r", " \n", "\t\n", '"\n', '" \n', '"""\n', "\n#", "\n "),
    *("word", "a b", "=", ": ", "user: hi", "<|im_end|>", "0.7", "-1", "/models/a b.gguf", "~", "%s", "$HOME"),
    *("ünïcode", "漢字", "日本語テキスト", "😀", "é", "ﷺ", "עברית", "Ω", "\N{REPLACEMENT CHARACTER}"),
    *(
        "\ufeff",
        "\x00",
        "\x07",
        "\u200d",
        "\xa0",
        "\u3000",
        "\u2028",
        "👩‍💻",
        "\x85",
        "\x1c",
        "\x0b",
        "\ue000",
        "\u0378",
    ),
)
NAMES = ("temperature", "stop", "num_ctx", "top_k", "Temperature", "x", "0", "_", "template_", "from", "parameter")
FREE = ("template", "system", "license", "adapter", "renderer", "parser", "requires", "draft")


def value(rng: random.Random) -> str:
    """Up to eight pieces in a row: most can be said, some cannot."""
    return "".join(rng.choice(PIECES) for _ in range(rng.choice((0, 1, 1, 2, 3, 4, 6, 8))))


def command(rng: random.Random) -> Command:
    """One command of any kind with a hard value."""
    kind = rng.randrange(4)
    if kind == 0:
        return Command(rng.choice(NAMES), value(rng))
    if kind == 1:
        return Command("message", f"{rng.choice(ROLES)}: {value(rng)}")
    if kind == 2:
        return Command("model", value(rng))
    return Command(rng.choice(FREE), value(rng))


def sayable(rng: random.Random) -> Command:
    """A command that can be said, drawn until one is found."""
    while True:
        drawn = command(rng)
        try:
            say(drawn)
        except BadInput:
            continue
        return drawn


def modelfile(rng: random.Random) -> Modelfile:
    """A Modelfile of up to nine commands, with a FROM somewhere among them."""
    commands = [sayable(rng) for _ in range(rng.randrange(9))]
    commands.insert(rng.randrange(len(commands) + 1), Command("model", "/models/a.gguf"))
    return Modelfile(tuple(commands))


def text(rng: random.Random) -> str:
    """Anything that looks like a Modelfile, right or wrong, for reading."""
    words = (
        "FROM ",
        "from\t",
        "PARAMETER ",
        "PARAMETER  ",
        "Message ",
        "MESSAGE user ",
        "SYSTEM ",
        "TEMPLATE  ",
        "# ",
        "",
    )
    lines = ("\n", "\n", "\r\n", "\r", "\n\n", "")
    body = "".join(
        rng.choice(words) + rng.choice((rng.choice(NAMES) + " ", "")) + value(rng) + rng.choice(lines)
        for _ in range(rng.randrange(1, 6))
    )
    return rng.choice(("", "FROM a\n", "\ufeff", "\ufeffFROM a\n", "  \n# x\nFROM a\n")) + body
