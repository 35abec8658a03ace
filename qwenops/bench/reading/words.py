"""Text that no model knows by heart: sentences drawn by the seed from parts of our own, made-up names and codes."""

from __future__ import annotations

import random
from typing import Any, Final

from qwenops.tables import load_table

_CONSONANTS: Final = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "tr", "gl", "st")
_VOWELS: Final = ("a", "e", "i", "o", "u")
_CYRILLIC: Final = (("б", "в", "г", "д", "к", "л", "м", "н", "р", "т"), ("а", "е", "и", "о", "у"))


def script(name: str) -> dict[str, Any]:
    """The parts of one script's sentences, or the words of shops."""
    table: dict[str, Any] = load_table("qwenops.bench.reading", "words.toml")[name]
    return table


def name(chance: random.Random, of: str = "latin") -> str:
    """A made-up name of two or three syllables."""
    consonants, vowels = _CYRILLIC if of == "cyrillic" else (_CONSONANTS, _VOWELS)
    syllables = chance.choice((2, 3))
    made = "".join(chance.choice(consonants) + chance.choice(vowels) for _ in range(syllables))
    return (made + chance.choice(("", chance.choice(consonants)[0]))).capitalize()


def number(chance: random.Random) -> str:
    """A number of one to four digits."""
    return str(chance.randrange(2, 10 ** chance.choice((1, 2, 2, 3, 4))))


def sentence(chance: random.Random, of: str) -> str:
    """One sentence in a script."""
    parts = script(of)
    made = _clause(chance, parts, of)
    if chance.random() < 0.3:
        more = _clause(chance, parts, of)
        made += chance.choice(parts["joins"]) + (more if of in ("chinese", "accents") else more[0].lower() + more[1:])
    return made + str(parts["end"])


def paragraph(chance: random.Random, of: str, least: int) -> str:
    """Sentences until there are at least so many characters."""
    between = script(of)["between"]
    made = sentence(chance, of)
    while len(made) < least:
        made += between + sentence(chance, of)
    return made


def code(chance: random.Random) -> str:
    """A serial number, an account, a hash, a date, an amount: what cannot be guessed from its neighbours."""
    upper, digits = "ABCDEFGHJKLMNPQRSTUVWXYZ", "0123456789"
    letters = "".join(chance.choice(upper) for _ in range(4))
    figures = "".join(chance.choice(digits) for _ in range(16))
    makes = (
        f"{letters[:2]}{figures[:2]} {figures[2:6]} {figures[6:10]} {figures[10:14]}",
        f"{letters}-{figures[:4]}-{figures[4:8]}",
        "".join(chance.choice("0123456789abcdef") for _ in range(16)),
        f"{1950 + chance.randrange(99)}-{1 + chance.randrange(12):02}-{1 + chance.randrange(28):02}",
        f"{chance.randrange(1, 999)},{chance.randrange(1000):03}.{chance.randrange(100):02} {letters[:3]}",
        f"+{figures[:2]} ({figures[2:5]}) {figures[5:8]}-{figures[8:12]}",
        f"#{figures[:6]}/{letters[:1]}{figures[6:8]}",
        f"{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}",
    )
    return chance.choice(makes)


def money(cents: int) -> str:
    """An amount as receipts print it."""
    return f"{cents // 100}.{cents % 100:02}"


def _clause(chance: random.Random, parts: dict[str, Any], of: str) -> str:
    subject, predicate, place = (chance.choice(parts[key]) for key in ("subjects", "predicates", "places"))
    pieces = (subject, place, predicate) if parts.get("order") == "place-first" else (subject, predicate, place)
    made: str = parts["between"].join(pieces)
    while "{name}" in made:
        made = made.replace("{name}", name(chance, of), 1)
    while "{number}" in made:
        made = made.replace("{number}", number(chance), 1)
    return made
