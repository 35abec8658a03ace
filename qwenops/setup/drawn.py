"""Models as their published dimensions make them: for planning before any of their files is seen, or can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from qwenops.model.blueprint import blueprint
from qwenops.model.catalog import Entry, Named
from qwenops.model.types import Model

if TYPE_CHECKING:
    from qwenops.plan.best_quant import Published

LADDER: Final = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K")
"""The quants that are tried, the best first, where a repository does not list its own."""

_VOCABULARY_BYTES: Final = 12_000_000  # at most, in the header of a file; no device holds it


def drawn_variants(wanted: Named) -> tuple[Model, ...]:
    """What a name stands for, as its dimensions make it: the published quants, or the one that was named.

    Empty where no dimensions are known, or where the quant that was named is not one of the published.
    """
    made = [one.model for one in published_variants(wanted.entry)]
    return tuple(m for m in made if wanted.quant is None or m.quant.upper() == wanted.quant.upper())


def published_variants(entry: Entry) -> Iterator[Published]:
    """The quants of an entry that are published, the best first, as its dimensions make them; none without dimensions.

    Some publishers give tensors more bits than llama-quantize does by itself: where a file's size is known, what it has
    beyond ours counts too.
    """
    from qwenops.model.quantizer import Recipe
    from qwenops.model.requant import Requantizer
    from qwenops.plan.best_quant import Published

    whole = blueprint(entry)
    if whole is None:
        return
    requantizer = Requantizer(whole)
    for quant in published_quants(entry):
        model = requantizer.variant(Recipe(quant)).model
        yield Published(model, max(0, entry.model_bytes.get(quant, 0) - model.file_bytes - _VOCABULARY_BYTES))


def published_quants(entry: Entry) -> tuple[str, ...]:
    """The quants of the repositories that were seen; of one that does not list them the usual ones."""
    sure = [r for r in entry.repos if r.sure] or list(entry.repos)
    if any(not r.quants for r in sure):
        return LADDER
    listed = {q for r in sure for q in r.quants}
    return tuple(q for q in LADDER if q in listed)
