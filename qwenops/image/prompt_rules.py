"""What is wrong with a prompt for Qwen-Image, as a table: a rule has a name, a weight, the reason, a source, a mend.

An error is something that the model cannot read as it is meant; a warning goes against what its makers ask for; a note
is worth knowing. Sources are those of models.toml.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from qwenops.image import prompt_texts
from qwenops.image.catalogue import ImageModel
from qwenops.image.prompt import Prompt
from qwenops.image.sizes import Size

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Asked:
    """A prompt with the model and the size that it is for; `size` is None where none is known."""

    prompt: Prompt
    model: ImageModel
    size: Size | None
    size_asked: bool = False


@dataclass(frozen=True)
class Hit:
    """Where a rule found something: offsets, and what to add to the reason or say in place of the usual mend."""

    start: int
    end: int
    more: str = ""
    do: str = ""


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong. `find` gives every place; `source` is an id of models.toml."""

    code: str
    level: Level
    why: str
    do: str
    source: str
    find: Callable[[Asked], Iterable[Hit]]


def _everywhere(pattern: str, flags: int = re.IGNORECASE) -> Callable[[Asked], Iterator[Hit]]:
    """Every match in the words around the quoted texts."""
    compiled = re.compile(pattern, flags)

    def find(asked: Asked) -> Iterator[Hit]:
        for m in compiled.finditer(asked.prompt.prose):
            yield Hit(m.start(), m.end())

    return find


def _control(asked: Asked) -> Iterator[Hit]:
    """Control characters, marks that turn the direction of writing, and blanks without width; emoji keep theirs."""
    for place, character in enumerate(asked.prompt.text):
        kind = unicodedata.category(character)
        if (kind == "Cc" and character not in "\n\t") or character in _INVISIBLE:
            yield Hit(place, place + 1, f"U+{ord(character):04X}")


def _broken(asked: Asked) -> Iterator[Hit]:
    for m in re.finditer("\ufffd+", asked.prompt.text):
        yield Hit(m.start(), m.end())


def _quality(asked: Asked) -> Iterator[Hit]:
    """Words of praise; the ending of the August model's own example is its makers' and stays unmarked."""
    own = _OWN_ENDING.search(asked.prompt.text) if asked.model.id == "qwen-image" else None
    for m in _QUALITY.finditer(asked.prompt.prose):
        if own is None or m.start() < own.start():
            yield Hit(m.start(), m.end())


def _soup(asked: Asked) -> Iterator[Hit]:
    """A row of short pieces in place of sentences: most of the prompt stands in pieces of one to three words."""
    prose = asked.prompt.prose
    pieces = [(m.start(), m[0]) for m in re.finditer(r"[^,，、;；\n.。!！?？]+", prose) if m[0].strip("\0 ")]
    short = [(at, piece) for at, piece in pieces if _is_tag(piece)]
    total = sum(_weight(piece) for _, piece in pieces)
    if len(short) >= 6 and sum(_weight(piece) for _, piece in short) >= 0.6 * total:
        first, (last, piece) = short[0][0], short[-1]
        yield Hit(first + _indent(prose, first), last + len(piece), f"{len(short)} of {len(pieces)} pieces are tags")
        return
    tags = list(_BOORU.finditer(prose))
    if len(tags) >= 2 or any(_COUNTED.fullmatch(m[0]) for m in tags):
        yield Hit(tags[0].start(), tags[-1].end())


def _is_tag(piece: str) -> bool:
    plain = piece.strip("\0 ")
    if any("\u4e00" <= c <= "\u9fff" for c in plain):
        return len(plain) <= 5
    return len(plain.split()) <= 3 and "\0" not in piece


def _weight(piece: str) -> int:
    plain = piece.strip("\0 ")
    return len(plain) if any("\u4e00" <= c <= "\u9fff" for c in plain) else len(plain.split())


def _indent(text: str, start: int) -> int:
    return len(text[start:]) - len(text[start:].lstrip())


def _sizes(asked: Asked) -> Iterator[tuple[Hit, bool]]:
    """Every shape that the prompt names, and whether the picture has it."""
    prose, size = asked.prompt.prose, asked.size
    for pattern, shape in _SHAPES:
        for m in pattern.finditer(prose):
            wanted = shape(m)
            if wanted is None:
                continue
            agrees = size is None or wanted(size.width / size.height, size)
            yield Hit(m.start(), m.end()), agrees


def _contradicted(asked: Asked) -> Iterator[Hit]:
    for hit, agrees in _sizes(asked):
        if not agrees:
            ratio = _asked_ratio(asked, hit)
            do = f"--size {ratio}, and nothing about it in the prompt" if ratio else ""
            set_by = "" if asked.size_asked else ", as its makers' example"
            yield Hit(hit.start, hit.end, f"the picture will be {asked.size}{set_by}", do)


def _named(asked: Asked) -> Iterator[Hit]:
    return (hit for hit, agrees in _sizes(asked) if agrees)


def _asked_ratio(asked: Asked, hit: Hit) -> str | None:
    """The official size that was meant, where the words name one."""
    said = asked.prompt.text[hit.start : hit.end]
    ratio = re.search(r"(\d{1,2})\s*[:：]\s*(\d{1,2})", said)
    if ratio:
        name = f"{int(ratio[1])}:{int(ratio[2])}"
    elif re.search(r"square|正方|方形", said, re.IGNORECASE):
        name = "1:1"
    elif re.search(r"portrait|vertical|tall|竖", said, re.IGNORECASE):
        name = "3:4"
    elif re.search(r"landscape|horizontal|wide|横", said, re.IGNORECASE):
        name = "16:9"
    else:
        pixels = re.search(r"(\d{3,4})\s*[x×*]\s*(\d{3,4})", said, re.IGNORECASE)
        return f"{pixels[1]}x{pixels[2]}" if pixels else None
    return name if not asked.model.sizes or name in asked.model.sizes else None


def _brackets(asked: Asked) -> Iterator[Hit]:
    """Brackets and backslashes that are words of the prompt: no weights, which have a rule of their own."""
    taken = [(m.start(), m.end()) for m in _WEIGHT.finditer(asked.prompt.prose)]
    for m in re.finditer(r"(?<!\\)[(\[][^()\[\]\n]*[)\]]", asked.prompt.text):
        if not any(start < m.end() and m.start() < end for start, end in taken):
            yield Hit(m.start(), m.end())


def _texts(find: Callable[[Prompt], Iterable[tuple[int, int, str]]]) -> Callable[[Asked], Iterator[Hit]]:
    def hits(asked: Asked) -> Iterator[Hit]:
        for start, end, more in find(asked.prompt):
            yield Hit(start, end, more)

    return hits


Shape = Callable[[float, Size], bool]


def _ratio(m: re.Match[str]) -> Shape | None:
    pair = (int(m[1]), int(m[2]))
    if pair not in _RATIOS:
        return None
    wanted = pair[0] / pair[1]
    return lambda ratio, _size: abs(ratio / wanted - 1) < 0.04


def _pixels(m: re.Match[str]) -> Shape:
    wanted = (int(m[1]), int(m[2]))
    return lambda _ratio, size: wanted == (size.width, size.height)


_INVISIBLE: Final = frozenset(
    "\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_RATIOS: Final = {
    *((1, 1), (16, 9), (9, 16), (4, 3), (3, 4), (3, 2), (2, 3), (21, 9), (9, 21), (5, 4), (4, 5), (16, 10), (10, 16)),
    *((2, 1), (1, 2)),
}
_KIND: Final = r"(?:format|orientation|aspect(?: ratio)?|composition|image|picture|canvas|crop|layout)"
_SHAPES: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Shape | None]], ...]] = (
    (re.compile(r"(?<![\d:])(\d{1,2})\s*[:：]\s*(\d{1,2})(?![\d:])"), _ratio),
    (re.compile(r"(?<!\d)(\d{3,4})\s*[x×*]\s*(\d{3,4})(?!\d)", re.IGNORECASE), _pixels),
    (
        re.compile(rf"\bsquare {_KIND}\b|正方形(?:构图|画幅|图片|画面)|方形(?:构图|画幅)", re.IGNORECASE),
        lambda _: lambda ratio, _size: abs(ratio - 1) < 0.04,
    ),
    (
        re.compile(
            rf"\b(?:landscape|horizontal|widescreen) {_KIND}\b|横版|横屏|横幅构图|横构图|横向构图", re.IGNORECASE
        ),
        lambda _: lambda ratio, _size: ratio > 1.04,
    ),
    (
        re.compile(
            rf"\b(?:vertical|tall|portrait[- ]orient(?:ed|ation)|portrait) {_KIND}\b|竖版|竖屏|竖构图|竖幅|竖向构图",
            re.I,
        ),
        lambda _: lambda ratio, _size: ratio < 0.96,
    ),
)
_QUALITY: Final = re.compile(
    r"\bmasterpieces?\b|\b(?:best|high|highest|top|premium|amazing) quality\b"
    r"|\bultra[- ]?(?:hd|high[- ]res(?:olution)?|detailed|realistic|sharp|quality)\b"
    r"|\bhyper[- ]?(?:realistic|detailed)\b"
    r"|\b(?:4|8|16|32)k\b(?!\s*(?:tv|television|monitor|screen|display|camera))(?: resolution\b)?"
    r"|\bu?hdr?\b(?= ?[,.]|$)"
    r"|\buhd\b|\bfull hd\b|\bhighly detailed\b|\bextremely detailed\b|\b(?:intricate|insane) details?\b"
    r"|\btrending on \w+|\baward[- ]winning\b|\bunreal engine\b(?: \d)?|\boctane render\b|\babsurdres\b|\bhighres\b"
    r"|\bscore_\d\w*|杰作|(?:最高|最佳|顶级|超高)(?:质量|画质|品质)|超高清|超清|大师(?:级)?作品|极致细节|虚幻引擎|获奖作品",
    re.IGNORECASE,
)
_OWN_ENDING: Final = re.compile(r"[,，]\s*(?:Ultra HD, 4K, cinematic composition|超清，4K，电影级构图)[.。]?\s*$")
_BOORU: Final = re.compile(r"\b(?:\d\+?(?:girl|boy|other)s?|[a-z]+(?:_[a-z]+)+)\b", re.IGNORECASE)
_COUNTED: Final = re.compile(r"\d\+?(?:girl|boy|other)s?", re.IGNORECASE)
_WEIGHT: Final = re.compile(
    r"\([^()\n]*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|\({2,}[^()\n]+\){2,}|\[[^\[\]\n]*:\s*(?:\d+\.?\d*|\.\d+)\s*\]"
    r"|\{{2,}[^{}\n]+\}{2,}|(?<=\w)::-?\d+(?:\.\d+)?|\b[A-Za-z]+\+{2,}(?!\w)|\bBREAK\b"
)

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "control",
        "error",
        "a control character or an invisible mark, which the encoder reads as something else than you see",
        "take it out",
        "diffusers",
        _control,
    ),
    Rule(
        "broken",
        "error",
        "a character that was lost when the text was read in a wrong encoding",
        "write it again",
        "diffusers",
        _broken,
    ),
    Rule(
        "chat-marks",
        "error",
        "a mark of the encoder's own chat, which ends or breaks the message that the prompt is put into",
        "take it out",
        "diffusers",
        lambda asked: (Hit(m.start(), m.end()) for m in re.finditer(r"<\|[a-z_]+\|>", asked.prompt.text)),
    ),
    Rule(
        "lora",
        "error",
        "a tag of other programs: only sd-cli takes it for a LoRA, diffusers and the encoder read it as words",
        "qwenops image settings MODEL --lightning STEPS lists the LoRAs made for it; give it to the program, not here",
        "sdcpp",
        _everywhere(r"<(?:lora|lyco|hypernet|embedding):[^<>\n]*>|\bembedding:\w+"),
    ),
    Rule(
        "weight",
        "error",
        "a weight: diffusers reads it as words, and no maker's text for these models has one",
        "say it in words: how large, how bright, how near",
        "diffusers",
        lambda asked: (Hit(m.start(), m.end()) for m in _WEIGHT.finditer(asked.prompt.prose)),
    ),
    Rule(
        "flags",
        "error",
        "a flag of another program: here it is only words",
        "use the command's options: --size, --seed, --negative",
        "diffusers",
        _everywhere(
            r"(?<!\S)--(?:ar|aspect|v|version|q|quality|s|stylize|chaos|seed|no|niji|style|iw|tile|cfg|steps)\b[^-\n]{0,12}"
        ),
    ),
    Rule(
        "wildcards",
        "error",
        "a wildcard of another program: nothing is put in its place",
        "write what is to be seen",
        "diffusers",
        _everywhere(r"__\w+__|\{[^{}\n|]+(?:\|[^{}\n|]+)+\}"),
    ),
    Rule(
        "tags",
        "error",
        "a row of tags: the encoder is a language model that was made for sentences",
        "say in one passage what is where, how it looks, and in which light; "
        'qwenops image prompt write "..." --by MODEL does it',
        "rewriter",
        _soup,
    ),
    Rule(
        "quote-open",
        "error",
        "a quotation mark that nothing closes: it is not clear which words are to be seen",
        'close it; inches are better written out ("24 inch")',
        "rewriter",
        _texts(prompt_texts.unclosed),
    ),
    Rule(
        "quotes-curly",
        "error",
        "words to be seen in curly or foreign marks: an English prompt has them in straight double quotes",
        'write "..."',
        "rewriter",
        _texts(prompt_texts.foreign_marks),
    ),
    Rule(
        "quotes-single",
        "error",
        "words to be seen in single quotes, which are apostrophes to everybody else",
        'write "..."',
        "rewriter",
        _texts(prompt_texts.single),
    ),
    Rule(
        "quotes-chinese",
        "warning",
        "words to be seen in English marks: a Chinese prompt has them in Chinese ones",
        "write “…”",
        "rewriter",
        _texts(prompt_texts.english_in_chinese),
    ),
    Rule(
        "unquoted",
        "error",
        "words to be seen without quotation marks: they are taken as a description",
        'put them in quotes to the letter, with place, font and colour: the sign above the door reads "OPEN" in red',
        "rewriter",
        _texts(prompt_texts.unquoted),
    ),
    Rule(
        "vague-text",
        "warning",
        "text is announced and not given: the model makes some up",
        "give the words in quotes, or say that there is no recognizable text",
        "rewriter",
        _texts(prompt_texts.vague),
    ),
    Rule(
        "no-place",
        "warning",
        "one of several texts without a place: they may be mixed up or drawn over each other",
        'say where each stands: at the top "...", below it in small letters "..."',
        "rewriter",
        _texts(prompt_texts.without_place),
    ),
    Rule(
        "size-contradicts",
        "error",
        "the prompt names another shape than the picture will have",
        "--size, and nothing about it in the prompt",
        "qi",
        _contradicted,
    ),
    Rule(
        "size-named",
        "note",
        "the shape is an argument, not a word of the prompt",
        "it can go",
        "qi",
        _named,
    ),
    Rule(
        "quality",
        "warning",
        "praise is nothing that can be seen; its makers' newer examples have none",
        "say what makes it good: the light, the material, the lens, the style",
        "qi",
        _quality,
    ),
    Rule(
        "reasoning",
        "warning",
        "the prompt is encoded once; there is no step in which anything could think",
        "say what is to be seen; qwenops image prompt write has a language model think before",
        "diffusers",
        _everywhere(
            r"\b(?:think|reason) step[- ]by[- ]step\b|\blet'?s think\b|\bchain[- ]of[- ]thought\b|一步一步(?:地)?思考"
        ),
    ),
    Rule(
        "list",
        "warning",
        "a list or a heading: the makers' own tool writes one continuous passage",
        "make sentences of it",
        "rewriter",
        _everywhere(r"^[ \t]*(?:[-*•][ \t]+\S|#{1,6}[ \t]+\S|\d{1,2}[.)][ \t]+\S)[^\n]*", re.MULTILINE),
    ),
    Rule(
        "brackets",
        "note",
        "stable-diffusion.cpp takes brackets for weights and leaves them out; diffusers reads them as they are",
        "do without, or write \\( and \\) for stable-diffusion.cpp alone",
        "sdcpp",
        _brackets,
    ),
)
