"""The mixes of llama-quantize: which type a tensor gets under each file type, by its role and its place in the model.

A file type names a mix, not a type: most tensors get its base, those that quality hangs on get more bits, and some in
the first or last layers too. The rules are those of src/llama-quant.cpp (b10435); a test holds every one of them
against llama-quantize itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from qwenops.errors import BadInput
from qwenops.model.ggml_types import FILE_TYPES


class Role(Enum):
    """What a tensor is to the quantizer, by its name."""

    HEAD = "output head"
    EMBEDDING = "token embedding"
    VALUE = "attention value"
    KEY = "attention key"
    QUERY = "attention query"
    ATTENTION_OUT = "attention output"
    DOWN = "feed-forward down"
    GATE = "feed-forward gate"
    UP = "feed-forward up"
    OTHER = "other"


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: the `index`-th of `count` layers (or of its kind), in a model of this shape."""

    index: int
    count: int
    experts: int
    imatrix: bool
    falcon: bool
    heads_per_kv: int | None

    @property
    def grouped(self) -> bool:
        """Four or more query heads share a value head, so its tensor is small and more bits cost little."""
        if self.heads_per_kv is None:
            raise BadInput("llama-quantize aborts on this type: it asks for heads, and a projector's layers have none")
        return self.heads_per_kv >= 4

    @property
    def sensitive(self) -> bool:
        """The first and the last eighth, and every third layer between them."""
        eighth = self.count // 8
        return self.index < eighth or self.index >= 7 * self.count // 8 or (self.index - eighth) % 3 == 2


Rule = Callable[[Place], str | None]
"""The type a rule wants at a place; None leaves the base."""


def always(type_: str) -> Rule:
    """Everywhere."""
    return lambda _: type_


def grouped(type_: str, otherwise: str | None = None) -> Rule:
    """Where value heads are shared by four or more."""
    return lambda place: type_ if place.grouped else otherwise


def sensitive(type_: str) -> Rule:
    """In the layers that are sensitive."""
    return lambda place: type_ if place.sensitive else None


def first_part(parts: int, type_: str, otherwise: str | None = None) -> Rule:
    """In the first of `parts` equal parts of the layers."""
    return lambda place: type_ if place.index < place.count // parts else otherwise


def first_few(count: int, type_: str, otherwise: str | None = None) -> Rule:
    """In the first `count` of its kind."""
    return lambda place: type_ if place.index < count else otherwise


def without_imatrix(rule: Rule) -> Rule:
    """Only where no importance matrix guards the layer."""
    return lambda place: None if place.imatrix else rule(place)


def with_imatrix(rule: Rule) -> Rule:
    """Only where there is an importance matrix."""
    return lambda place: rule(place) if place.imatrix else None


def by_family(falcon: Rule | None, others: Rule | None) -> Rule:
    """One rule for Falcon, another for the rest."""

    def rule(place: Place) -> str | None:
        chosen = falcon if place.falcon else others
        return chosen(place) if chosen else None

    return rule


def eight_experts(type_: str) -> Rule:
    """Where a layer has exactly eight experts, as Mixtral: attention is a small part of it."""
    return lambda place: type_ if place.experts == 8 else None


def first_of(*rules: Rule) -> Rule:
    """The first rule that wants something."""
    return lambda place: next((type_ for rule in rules if (type_ := rule(place))), None)


def _attention_out(dense: str | None = None, eight: str | None = "Q5_K", falcon: str | None = None) -> Rule:
    def rule(place: Place) -> str | None:
        if place.falcon:
            return falcon
        return eight if place.experts == 8 else dense

    return rule


def _grouped_or_many_experts(type_: str, otherwise: str) -> Rule:
    # The order is the quantizer's: heads are asked for first, and a projector has none to tell.
    return lambda place: type_ if place.grouped or place.experts >= 4 else otherwise


@dataclass(frozen=True)
class Mix:
    """One file type: its number in general.file_type, its base and what departs from it.

    `extreme` mixes are the lowest: they know nothing of the bumps that all others share.
    """

    number: int
    base: str
    rules: Mapping[Role, Rule] = field(default_factory=dict)
    head: str = "Q6_K"
    embedding: str | None = None
    extreme: bool = False


def _extreme(name: str, base: str, *, richer: str, embedding: str, attention_out: str | None) -> Mix:
    rules = {
        Role.VALUE: _grouped_or_many_experts("Q4_K", richer),
        Role.KEY: eight_experts("Q4_K"),
        Role.DOWN: first_part(8, richer),
        Role.ATTENTION_OUT: lambda place: "Q5_K" if place.experts == 8 else attention_out,
    }
    return Mix(_NUMBERS[name], base, rules, head="Q5_K", embedding=embedding, extreme=True)


def _mix(name: str, base: str | None = None, rules: Mapping[Role, Rule] | None = None, **more: str) -> Mix:
    return Mix(_NUMBERS[name], base or name, rules or {}, **more)  # type: ignore[arg-type]


_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items()}
_V, _K, _Q, _O, _D = Role.VALUE, Role.KEY, Role.QUERY, Role.ATTENTION_OUT, Role.DOWN


def _middle(type_: str) -> Rule:
    return lambda place: type_ if place.count // 8 <= place.index < 7 * place.count // 8 else None


def _mixes() -> dict[str, Mix]:
    iq4 = {
        _V: grouped("Q5_K"),
        _D: without_imatrix(first_part(8, "Q5_K")),
        _O: _attention_out(),
    }
    return {
        "Q1_0": _mix("Q1_0"),
        "Q2_0": _mix("Q2_0", embedding="Q4_K"),
        "IQ1_S": _extreme("IQ1_S", "IQ1_S", richer="Q2_K", embedding="Q2_K", attention_out="IQ2_XXS"),
        "IQ1_M": _extreme("IQ1_M", "IQ1_M", richer="Q2_K", embedding="Q2_K", attention_out="IQ2_XXS"),
        "TQ1_0": _mix("TQ1_0", embedding="Q4_K"),
        "TQ2_0": _mix("TQ2_0", embedding="Q4_K"),
        "IQ2_XXS": _extreme("IQ2_XXS", "IQ2_XXS", richer="Q2_K", embedding="Q2_K", attention_out=None),
        "IQ2_XS": _extreme("IQ2_XS", "IQ2_XS", richer="Q2_K", embedding="Q2_K", attention_out=None),
        "IQ2_S": _extreme("IQ2_S", "IQ2_XS", richer="IQ3_S", embedding="IQ3_S", attention_out="IQ3_S"),
        "IQ2_M": _extreme("IQ2_M", "IQ2_S", richer="IQ3_S", embedding="IQ3_S", attention_out="IQ3_S"),
        "Q2_K_S": _mix("Q2_K_S", "Q2_K", {_V: grouped("Q4_K"), _D: first_part(8, "Q4_K")}),
        "Q2_K": _mix("Q2_K", rules={_V: grouped("Q4_K", "Q3_K"), _D: always("Q3_K"), _O: _attention_out("Q3_K")}),
        "IQ3_XXS": _mix(
            "IQ3_XXS",
            rules={
                _V: first_of(grouped("Q4_K"), without_imatrix(always("IQ3_S"))),
                _K: always("IQ2_S"),
                _Q: always("IQ2_S"),
                _D: without_imatrix(first_part(8, "Q4_K", "Q3_K")),
                _O: _attention_out("IQ3_S"),
            },
            head="Q5_K",
            embedding="IQ3_S",
        ),
        "IQ3_XS": _mix(
            "IQ3_XS",
            "IQ3_S",
            {
                _V: grouped("Q4_K"),
                _K: always("IQ3_XXS"),
                _Q: always("IQ3_XXS"),
                _O: _attention_out(),
                Role.GATE: _middle("IQ3_XXS"),
                Role.UP: _middle("IQ3_XXS"),
            },
        ),
        "Q3_K_S": _mix("Q3_K_S", "Q3_K", {_O: _attention_out()}),
        "IQ3_S": _mix("IQ3_S", rules={_V: grouped("Q4_K"), _O: _attention_out()}),
        "IQ3_M": _mix(
            "IQ3_M",
            "IQ3_S",
            {
                _V: always("Q4_K"),
                _D: first_of(
                    first_part(8, "Q4_K"), lambda place: "Q4_K" if place.experts == 8 and place.sensitive else None
                ),
                _O: _attention_out("Q4_K"),
            },
        ),
        "Q3_K_M": _mix(
            "Q3_K_M",
            "Q3_K",
            {
                _V: first_few(2, "Q5_K", "Q4_K"),
                _D: first_of(first_part(16, "Q5_K"), by_family(sensitive("Q4_K"), always("Q4_K"))),
                _O: _attention_out("Q4_K"),
            },
        ),
        "Q3_K_L": _mix(
            "Q3_K_L",
            "Q3_K",
            {
                _V: always("Q5_K"),
                _D: by_family(always("Q4_K"), always("Q5_K")),
                _O: _attention_out("Q5_K", eight=None, falcon="Q4_K"),
            },
        ),
        "IQ4_XS": _mix("IQ4_XS", rules=iq4),
        "IQ4_NL": _mix("IQ4_NL", rules=iq4),
        "Q4_0": _mix("Q4_0", rules={_D: with_imatrix(first_part(8, "Q4_1"))}),
        "Q4_K_S": _mix(
            "Q4_K_S",
            "Q4_K",
            {_V: first_few(4, "Q5_K"), _D: by_family(None, first_part(8, "Q5_K")), _O: _attention_out()},
        ),
        "Q4_K_M": _mix(
            "Q4_K_M",
            "Q4_K",
            {
                _V: sensitive("Q6_K"),
                _D: by_family(first_of(first_part(16, "Q6_K"), sensitive("Q5_K")), sensitive("Q6_K")),
                _O: _attention_out(),
            },
        ),
        "MXFP4_MOE": _mix("MXFP4_MOE", "MXFP4", head="Q8_0"),
        "Q4_1": _mix("Q4_1"),
        "Q5_0": _mix("Q5_0", rules={_D: with_imatrix(first_part(8, "Q5_1"))}),
        "Q5_K_S": _mix("Q5_K_S", "Q5_K"),
        "Q5_K_M": _mix("Q5_K_M", "Q5_K", {_V: sensitive("Q6_K"), _D: sensitive("Q6_K")}),
        "Q5_1": _mix("Q5_1"),
        "Q6_K": _mix("Q6_K"),
        "Q8_0": _mix("Q8_0", head="Q8_0"),
        "F16": _mix("F16"),
        "BF16": _mix("BF16"),
        "F32": _mix("F32"),
    }


MIXES: Final[dict[str, Mix]] = _mixes()
"""Every file type that llama-quantize makes, the fewest bits first."""

ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
"""Names that llama-quantize takes for another."""


def quant_named(name: str) -> str:
    """The file type that a name or a number means. Raises BadInput, with the names there are, for none."""
    word = name.strip().upper()
    word = ALIASES.get(word, word)
    if word.isdigit():
        word = FILE_TYPES.get(int(word), word)
    if word in MIXES:
        return word
    import difflib

    near = difflib.get_close_matches(word, MIXES, n=3)
    raise BadInput(
        f"{name!r} is no type that llama-quantize makes" + (f"; near it: {', '.join(near)}" if near else ""),
        do=f"one of {' '.join(MIXES)}",
    )
