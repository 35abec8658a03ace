"""Everything that the rules and the token limit say of a prompt, in the order of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qwenops.image.catalogue import ImageModel, Source, sources
from qwenops.image.prompt import Prompt
from qwenops.image.prompt_rules import RULES, Asked, Level
from qwenops.image.prompt_tokens import TokenCount
from qwenops.image.sizes import Size

_SHOWN: Final = 60
_ORDER: Final = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One thing to mend or to know: where (line and column from 1), how bad, what was found, why, what to do."""

    line: int
    column: int
    level: Level
    code: str
    found: str
    why: str
    do: str
    source: Source


def check_prompt(
    prompt: Prompt, model: ImageModel, size: Size | None, tokens: TokenCount, *, size_asked: bool = False
) -> tuple[Finding, ...]:
    """Every finding of a prompt for a model and a picture of this size; nothing for one that is right."""
    asked = Asked(prompt, model, size, size_asked)
    found = [
        _finding(
            prompt,
            hit.start,
            hit.end,
            rule.level,
            rule.code,
            _joined(rule.why, hit.more),
            hit.do or rule.do,
            rule.source,
        )
        for rule in RULES
        for hit in rule.find(asked)
    ]
    found += _length(prompt, model, tokens)
    return tuple(sorted(found, key=lambda f: (f.line, f.column, _ORDER[f.level], f.code)))


def _length(prompt: Prompt, model: ImageModel, tokens: TokenCount) -> list[Finding]:
    most, usual = model.value("prompt_tokens"), model.value("prompt_tokens_default")
    source = model.facts["prompt_tokens"].source.id if most else ""
    end = len(prompt.text)
    if most and tokens.least > most:
        cut = (tokens.cuts or {}).get(most, end)
        n = f"{tokens.least}" if tokens.exact else f"at least {tokens.least}"
        why = f"{n} tokens, and diffusers reads {most} at most: what follows is cut off"
        return [_finding(prompt, cut, end, "error", "too-long", why, "say less, the important things first", source)]
    if usual and tokens.least > usual:
        cut = (tokens.cuts or {}).get(usual, end)
        why = f"diffusers reads {usual} tokens unless told otherwise: what follows is cut off there"
        return [_finding(prompt, cut, end, "warning", "long", why, f"max_sequence_length={most}, or say less", source)]
    if most and tokens.most > usual:
        why = f"{tokens.least} to {tokens.most} tokens; diffusers reads {usual} unless told otherwise, {most} at most"
        do = "--tokenizer MODEL.gguf, any Qwen2.5-VL or Qwen3-VL, counts them"
        return [_finding(prompt, end, end, "note", "length-unknown", why, do, source)]
    return []


def _finding(prompt: Prompt, start: int, end: int, level: Level, code: str, why: str, do: str, source: str) -> Finding:
    line, column = prompt.place(start)
    return Finding(line, column, level, code, _excerpt(prompt.text[start:end]), why, do, sources()[source])


def _joined(why: str, more: str) -> str:
    return f"{why} ({more})" if more else why


def _excerpt(text: str) -> str:
    """What was found on one line, with nothing in it that would command a terminal."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"
