"""A short wish made one descriptive passage: what is asked of a model, what must be kept, and whether it was. Pure.

Kept to the letter: texts in quotes, addresses, names, numbers. Names are words with a capital letter within an English
sentence, and Latin words and 《titles》 in a Chinese one; a Chinese name that nothing marks is not known as one: put
what must not change in quotes. What the model gives is taken as it is or refused, never changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from qwenops.bench.reading.score import said
from qwenops.image.catalogue import ImageModel
from qwenops.image.prompt import Language, Prompt, prompt_of
from qwenops.image.prompt_check import check_prompt
from qwenops.image.prompt_tokens import TokenCount

Kind = Literal["text", "address", "name", "number"]

MOST_WORDS: Final = 300
"""English words; the makers' rewriter asks for about 200 for a portrait (prompt_utils_2512.py)."""
MOST_CHARACTERS: Final = 500
"""Of a Chinese passage; the rewriter asks for about 150."""


@dataclass(frozen=True)
class Kept:
    """Something of the wish that must come back to the letter; case aside where it opens a sentence."""

    kind: Kind
    text: str
    any_case: bool = False


def kept_of(wish: Prompt) -> tuple[Kept, ...]:
    """What a passage must keep of a wish, each once, texts in quotes first."""
    prose = wish.prose
    found = [Kept("text", text) for text in wish.texts() if text.strip()]
    taken: list[tuple[int, int]] = []
    for kind, pattern in _PATTERNS:
        for m in pattern.finditer(prose):
            if any(start < m.end() and m.start() < end for start, end in taken):
                continue
            taken.append((m.start(), m.end()))
            found.append(Kept(kind, m[0], kind == "number"))
    names = _chinese_names if wish.language == "zh" else _english_names
    found += [one for start, one in names(prose) if not any(s <= start < e for s, e in taken)]
    return tuple(dict.fromkeys(found))


def complaints(wish: Prompt, answer: str, model: ImageModel) -> tuple[str, ...]:
    """Everything for which a passage must be refused, as the writer is told it; empty for one that is right."""
    text = said(answer).strip()
    if not text:
        return ("There was no text.",)
    passage = prompt_of(text)
    return (
        *_form(wish, passage),
        *_not_kept(wish, passage),
        *_added(wish, passage),
        *(f"{f.found}: {f.why}." for f in check_prompt(passage, model, None, TokenCount(1, 1)) if f.level == "error"),
    )


def system_prompt(language: Language) -> str:
    """What the writer is told to do, in the language of the wish."""
    return _SYSTEM[language]


def again(language: Language, found: tuple[str, ...]) -> str:
    """What the writer is told after a passage that was refused."""
    head, tail = _AGAIN[language]
    return "\n".join([head, *(f"- {one}" for one in found[:12]), tail])


def _form(wish: Prompt, passage: Prompt) -> Iterator[str]:
    """One passage of the wish's language, of a length that is read, without talk around it."""
    text = passage.text
    if passage.language != wish.language:
        yield "It must be in Chinese, as the wish is." if wish.language == "zh" else "It must be in English."
    if "\n" in text.strip():
        yield "It must be one passage without line breaks, lists or headings."
    if _TALK.match(text):
        yield "It must be the description alone, without any words to the reader."
    length = len(text) if wish.language == "zh" else len(text.split())
    most = MOST_CHARACTERS if wish.language == "zh" else MOST_WORDS
    if length > most:
        yield f"It is too long: at most {most} {'characters' if wish.language == 'zh' else 'words'}."
    if len(text) <= len(wish.text):
        yield "It must say more than the wish: light, material, place, style."


def _not_kept(wish: Prompt, passage: Prompt) -> Iterator[str]:
    wanted = Counter(text for text in wish.texts() if text.strip())
    there = Counter(passage.texts())
    for text, times in wanted.items():
        if there[text] < times:
            marks = f"“{text}”" if passage.language == "zh" else f'"{text}"'
            yield f"The text {marks} must stand in it in quotation marks, to the letter."
    for one in kept_of(wish):
        if one.kind != "text" and not _stands_in(one, passage.prose):
            yield f"The {one.kind} {one.text} must stand in it, to the letter."


def _added(wish: Prompt, passage: Prompt) -> Iterator[str]:
    """Words to be seen that nobody asked for: they would be painted."""
    known = set(wish.texts())
    for text in dict.fromkeys(passage.texts()):
        if text not in known:
            yield f"Nobody asked for the text {text[:60]!r} in the picture: leave it out."


def _stands_in(one: Kept, prose: str) -> bool:
    flags = re.IGNORECASE if one.any_case else 0
    before = r"(?<!\w)(?<!\d[.,:])" if one.text[0].isascii() and one.text[0].isalnum() else ""
    after = r"(?![\w])(?![.,:]\d)" if one.text[-1].isascii() and one.text[-1].isalnum() else ""
    if any("\u4e00" <= c <= "\u9fff" for c in prose):  # no blanks around a Latin word among Chinese ones
        before, after = before.replace(r"\w", "[A-Za-z0-9]"), after.replace(r"[\w]", "[A-Za-z0-9]")
    return re.search(before + re.escape(one.text) + after, prose, flags) is not None


def _english_names(prose: str) -> Iterator[tuple[int, Kept]]:
    """Capitalized words within a sentence, several in a row as one; at its beginning where what follows shows it."""
    for m in _CAPITALS.finditer(prose):
        words, start = m[0].split(), m.start()
        if _OPENS.search(prose[:start]):
            first = words[0]
            if first.lower().removesuffix("'s") in _COMMON or first == "I":
                start += len(first) + 1
                words = words[1:]
            elif len(words) == 1 and not _VERB.match(prose[m.end() :]) and not re.search(r"[A-Z].*[A-Z]|\d|'s$", first):
                continue
            elif len(words) == 1:
                yield start, Kept("name", first.removesuffix("'s"), True)
                continue
        words = [word for word in words if word not in ("I", "A")]
        if words:
            yield start, Kept("name", " ".join(words).removesuffix("'s").removesuffix("’s"))


def _chinese_names(prose: str) -> Iterator[tuple[int, Kept]]:
    for m in re.finditer(r"《[^》\n]+》|[A-Za-z][A-Za-z0-9.&'-]*(?: [A-Z][A-Za-z0-9.&'-]*)*", prose):
        yield m.start(), Kept("name", m[0])


_PATTERNS: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("address", re.compile(r"\b(?:https?://|www\.)[^\s\0，。！？）)]*[^\s\0，。！？）).,;:!?]", re.IGNORECASE)),
    ("address", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    (
        "address",
        re.compile(r"\b[a-z0-9-]+\.(?:com|org|net|io|de|cn|co\.uk|fr|eu|app|dev)(?:/[\w./-]*\w)?\b", re.IGNORECASE),
    ),
    ("address", re.compile(r"(?<!\w)[@#][A-Za-z_]\w+")),
    ("number", re.compile(r"(?<![\w.,])[$€£¥]?\d+(?:[.,:/-]\d+)*(?:\s?%|‰|°[CF]?)?")),
    (
        "number",
        re.compile(
            r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|"
            r"eighty|ninety|hundred|thousand|dozen)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "number",
        re.compile(
            r"(?:[二两三四五六七八九]|十|百|千)[一二三四五六七八九十百千万]*[个只位条张匹朵棵辆座名头本杯把岁年月日]"
        ),
    ),
)
_CAPITALS: Final = re.compile(
    r"\b[A-Z][\w&.'’-]*[\w](?: (?:(?:of|de|van|von|da|del|la) )?[A-Z][\w&.'’-]*[\w])*|\b[A-Z]\b(?= [A-Z])"
)
_OPENS: Final = re.compile(r"(?:^|[.!?:;\n]\s+|^[\s\0]+)$")
_VERB: Final = re.compile(r"\s+(?:[a-z]+s|and|with|has|had|in|on|at|by|sitting|standing|wearing|holding|playing|,)\b")
_COMMON: Final = frozenset(
    re.findall(
        r"\w+",
        """a an the this that these those my your his her its our their some two three four five six seven eight nine
        ten one draw paint make create generate show design write give photo photograph picture image portrait poster
        logo
        illustration painting drawing watercolor watercolour sketch close view in on at by under over behind with from
        there it he she they we you please old young small large big red blue green black white yellow cats dogs people
        men women children birds flowers trees houses mountains clouds ships cars books""",
    )
)
_TALK: Final = re.compile(
    r"\s*(?:sure|certainly|of course|okay|here(?:'s| is| are)|this is (?:a|the) (?:rewritten|prompt)|rewritten|"
    r"(?:the )?(?:rewritten |improved |enhanced |final )?(?:prompt|description|passage|output)\s*:|"
    r"当然|好的|以下是|改写(?:后|输出)|提示词\s*[:：])",
    re.IGNORECASE,
)
_SYSTEM: Final[dict[Language, str]] = {
    "en": (
        "You turn a short wish for a picture into one description of that picture in English. Write one continuous "
        "passage of full sentences, at most 200 words, with no list, no heading, no line break and no word to the "
        "reader. Describe only what can be seen: subject, surroundings, composition, light, colours, materials, and at "
        "the end the style. Keep a simple scene simple. Copy names, numbers and web addresses letter by letter. Words "
        "that the wish puts in quotation marks are painted into the picture: repeat them unchanged, never translated, "
        "in straight double quotes, and say where they stand and how they look, for example: the sign above the door "
        'reads "OPEN" in red letters. Add no other words in quotation marks. Use no praise such as masterpiece or 8k, '
        "and do not mention the picture's size or shape. If the wish is an instruction, describe the picture that it "
        "asks for; do not answer it."
    ),
    "zh": (
        "把一句简短的愿望扩写成一段对这幅画面的中文描述。只写一段连贯的话，不超过二百字，不要列表、标题、换行，也不要对读者说话。"
        "只描述看得见的东西：主体、环境、构图、光线、颜色、材质，最后点明风格；简单的画面保持简单。名字、数字和网址逐字照抄。"
        "愿望里引号中的文字会画进画面：必须原样保留，不翻译，放在中文双引号里，并写明位置和样子，例如：门上方的招牌写着红色的“营业中”。"
        "不要添加其他带引号的文字，不要写杰作、8K之类的赞美，也不要提画面的尺寸和比例。如果愿望是一句指令，就描述它想要的画面，不要回答它。"
    ),
}
_AGAIN: Final[dict[Language, tuple[str, str]]] = {
    "en": ("That cannot be used:", "Write the whole passage again with this mended, and nothing else."),
    "zh": ("这段不能用：", "请改正后把整段重新写一遍，不要写别的。"),
}
