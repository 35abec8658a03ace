"""Where a prompt goes wrong with the words that are to be seen: no marks, wrong marks, no place. Pure, by tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from qwenops.image.prompt import Prompt, in_chinese_quotes

Found = Iterator[tuple[int, int, str]]
"""Start, end, and what to add to the reason."""


def unclosed(prompt: Prompt) -> Found:
    """A mark that nothing closes."""
    start = prompt.scan[1]
    if start is not None:
        yield start, start + 1, ""


def foreign_marks(prompt: Prompt) -> Found:
    """Texts of an English prompt in any marks but straight double ones."""
    if prompt.language == "en":
        for one in prompt.quoted:
            if one.opened != '"' or one.closed != '"':
                yield one.start, one.end, ""


def english_in_chinese(prompt: Prompt) -> Found:
    """Texts of a Chinese prompt in marks that are not Chinese."""
    if prompt.language == "zh":
        for one in prompt.quoted:
            if not in_chinese_quotes(one):
                yield one.start, one.end, ""


def single(prompt: Prompt) -> Found:
    """Texts in single quotes: after a word that announces text, or in the marks that are no apostrophes."""
    for m in _SINGLE.finditer(prompt.prose):
        if m[0][0] in "‘`" or _ANNOUNCES.search(prompt.prose[max(0, m.start() - 60) : m.start()]):
            yield m.start(), m.end(), ""


def unquoted(prompt: Prompt) -> Found:
    """Words after "the sign reads" or 写着 where no quoted text follows in the sentence."""
    prose = prompt.prose
    for m in _SAYS.finditer(prose):
        rest = _rest(prose, m.end())
        words = _WORDS.match(rest)
        if "\0" in rest or not words or _SINGLE.match(rest.lstrip()) or _mark_follows(rest):
            continue
        first = words[1].split()[0]
        shown = first[0].isupper() or first[0].isdigit()
        if shown or ((m["carrier"] or m["words"]) and first.lower().strip("'") not in _NO_TEXT):
            start = m.end() + words.start(1)
            yield start, start + len(_TAIL.sub("", _THEN_PLACE.split(words[1])[0])), ""
    for m in _WRITES.finditer(prose):
        rest = _rest(prose, m.end())
        if "\0" not in rest and rest.strip(" ：:，,") and not _mark_follows(rest) and not _WRITING.match(rest):
            yield m.end(), m.end() + len(re.split(r"[，,；;]", rest)[0]), ""


def vague(prompt: Prompt) -> Found:
    """Text that is announced and never given, where the prompt has no quoted text at all."""
    if prompt.quoted:
        return
    for m in _VAGUE.finditer(prompt.prose):
        yield m.start(), m.end(), ""


def without_place(prompt: Prompt) -> Found:
    """Of several texts, those of which nothing says where they stand.

    What stands between two texts may place either: the one before takes the first phrase of place if it has none yet,
    and what is left over is for the one behind.
    """
    texts = prompt.quoted
    if len(texts) < 2:
        return
    left = _places(prompt.text[: texts[0].start])
    for number, one in enumerate(texts):
        end = texts[number + 1].start if number + 1 < len(texts) else len(prompt.text)
        behind = _places(prompt.text[one.end : end])
        if left:
            left = behind
        elif behind:
            left = behind - 1
        else:
            yield one.start, one.end, ""


def _places(text: str) -> int:
    """How many phrases of place there are: words of one phrase count once."""
    count, last = 0, None
    for m in _PLACE.finditer(text):
        between = "" if last is None else text[last : m.start()]
        if last is None or len(between) > 24 or re.search(r"[,，;；.。]|\band\b|、", between):
            count += 1
        last = m.end()
    return count


def _rest(prose: str, start: int) -> str:
    """What is left of the sentence."""
    end = re.search(r"[.。!！?？;；\n](?:\s|\0|$)|[。！？；\n]", prose[start:])
    return prose[start : start + end.start()] if end else prose[start:]


def _mark_follows(rest: str) -> bool:
    return bool(re.match(r"\s*[：:]?\s*[\"“”「『«„]", rest))


_CARRIER: Final = (
    r"(?:neon )?(?:sign(?:s|board|post)?|banners?|posters?|billboards?|placards?|plaques?|labels?|stickers?|badges?|"
    r"captions?|titles?|headlines?|subtitles?|slogans?|logos?|screens?|displays?|(?:chalk|white|black|score|letter)?boards?|"
    r"(?:t-)?shirts?|sweaters?|mugs?|cups?|caps?|hats?|covers?|cards?|menus?|notes?|letters?|flags?|tombstones?|"
    r"gravestones?|plates?|license plates?|doormats?|tattoos?|graffiti|text|lettering|inscription|speech bubble|"
    r"balloons?|cakes?|newspapers?|headers?|footers?|bottles?|packages?|packaging|box(?:es)?|tags?|marquees?|awnings?)"
)
_HAS: Final = r"\b(?:with|bearing|showing|has|and|of)"
_SAYS: Final = re.compile(
    rf"(?P<carrier>\b{_CARRIER}\b(?:[ \w'-]{{0,30}}?)(?:\b(?:that|which) )?"
    r"\b(?:say(?:s|ing)?|read(?:s|ing)?|spell(?:s|ing)?(?: out)?))\b:?"
    r"|\b(?:labell?ed|titled|captioned|inscribed|engraved|emblazoned|printed)(?: with)?(?: as)?\b:?"
    rf"|{_HAS} (?P<words>the words?)\b:?"
    rf"|{_HAS} (?:the|a) (?:\w+ )?(?:texts?|title|slogan|caption|inscription|headline|lettering)\b:?"
    r"|\b(?:says|reads) (?=[A-Z]{2,})",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(r"\s*(?:[-–—:]\s*)?((?:[\w&$€£#@%'’!+-][^\s,\0]*)(?:\s[\w&$€£#@%'’!+-][^\s,\0]*){0,7})")
_THEN_PLACE: Final = re.compile(r" (?=(?:in|on|at|above|below|over|under|across|along|lies|hangs?|glows?|stands?)\b)")
_TAIL: Final = re.compile(r"(?::[\d.]+)?[)\]]+$|[ ,]+$")
_NO_TEXT: Final = frozenset(
    re.findall(
        r"\w+",
        """a an the his her their its our my your this that these those in on at of from to by for with and or but is
        are was were about above below under over near beside as it he she they quietly silently softly aloud something
        nothing anything written painted printed made which who what glows glowing hangs hanging while when""",
    )
)
_ANNOUNCES: Final = re.compile(
    r"\b(?:say(?:s|ing)?|read(?:s|ing)?|spell(?:s|ing)?|titled|labell?ed|captioned|inscribed|texts?|words?|title|slogan|"
    rf"headline|caption|lettering|{_CARRIER})\b[\w ,:]{{0,20}}$",
    re.IGNORECASE,
)
_SINGLE: Final = re.compile(
    r"(?<!\w)(?:'(?=[^\s'])(?!\d0s)[^'\n\0]{0,80}?(?<=[^\s])'(?!\w)|‘[^‘’\n\0]{1,80}’(?!\w)|`[^`\n\0]{1,80}`)"
)
_WRITES: Final = re.compile(
    r"(?:写着|写有|写上|印着|印有|印上|刻着|刻有|标着|标有|题着|绣着|喷涂着|显示着|显示出|上书)(?:[:：])?"
    r"|(?:文字|标题|标语|字样|口号|大字|店名)(?:内容)?(?:为|是|[:：])[:：]?"
)
_WRITING: Final = re.compile(
    r"(?:一[封首篇张行]|几[行个])?(?:家)?(?:信|作业|字(?!样)|日记|代码|书法|诗|笔记|文章|论文|小说|作文|什么)"
)
_VAGUE: Final = re.compile(
    r"\b(?:with|has|bearing|featuring|including|add|and) "
    r"(?:(?:some|a|the|bold|large|small|elegant|stylish|catchy|nice|big|decorative) ){0,3}"
    r"(?:texts?|title|slogan|headline|caption|lettering|tagline|inscription)"
    r"(?= ?[,.;]|\s*$| (?:in|on|at|above|below|across|over|along)\b)"
    r"|(?:配有|带有|写有|印有|加上|包含)(?:一些|一段|一行|几行|醒目的|漂亮的)?(?:文字|标题|标语|字幕)(?=[，。,.;；]|$)",
    re.IGNORECASE,
)
_PLACE: Final = re.compile(
    r"\b(?:upper|lower|top|bottom|left|right|cent(?:er|re)(?:ed|d)?|middle|corner|above|below|beneath|under(?:neath)?|over|"
    r"beside|behind|across|along|inside|next to|in front of|foreground|background|first|second|third|line|front|back|"
    r"side|edge|side by side|at the (?:foot|head)|on (?:the|a|an|his|her|its|their|each|both|one|another|either))\b"
    rf"|\b{_CARRIER}\b"
    r"|[左右上下顶底中][方侧边部角面央间]|(?:正)?中间|角落|前景|背景|上面|下面|旁边|胸前|背后|第[一二三四五]行"
    r"|招牌|海报|黑板|白板|标题|标牌|牌子|横幅|屏幕|封面|衣服|T恤|墙上|门上|玻璃|书上|杯子|包装",
    re.IGNORECASE,
)
