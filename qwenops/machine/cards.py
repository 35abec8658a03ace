"""The known cards: what `--gpu "RTX 3060 12GB"` stands for. The figures lie in cards.json, one source a group."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import cast

from qwenops.machine.types import Kind
from qwenops.units import MIB

# Words of a full product name that tell no two cards apart.
_NOISE = {
    "nvidia", "geforce", "amd", "radeon", "ati", "apple", "intel", "tesla", "quadro", "gpu", "graphics", "generation",
    "workstation", "server", "edition", "pcie", "sxm", "sxm2", "sxm3", "sxm4", "sxm5", "hbm2", "hbm2e", "hbm3", "hbm3e",
    "card", "instinct", "oam",
}  # fmt: skip
_SAME = {"mobile": "laptop", "notebook": "laptop"}
_SAME_SIZE = 0.08
_FAMILIES = ("rtx", "gtx", "rx", "arc")


@dataclass(frozen=True)
class Card:
    """One known card. `sizes_bytes` are the totals that the driver reports, by the size it is sold with in GiB.

    No sizes means that the machine around it decides (unified memory): a size must be given.
    """

    name: str
    kind: Kind
    sizes_bytes: tuple[tuple[int, int], ...]
    compute_capability: tuple[int, int] | None
    unified: bool
    desktop: bool

    def total_bytes(self, stated_bytes: int) -> int:
        """The total that the driver reports for the variant of about this size, else the stated size itself.

        Makers count in different units and leave parts unused (a B200 is called 180 or 192 GB and has 179 GiB), so
        the nearest variant within 8 % is meant; anything else is a rebuilt card, and its owner knows best.
        """
        totals = [total for _, total in self.sizes_bytes]
        nearest = min(totals, key=lambda total: abs(total - stated_bytes), default=stated_bytes)
        return nearest if abs(nearest - stated_bytes) <= nearest * _SAME_SIZE else stated_bytes


@functools.cache
def known_cards() -> tuple[Card, ...]:
    """Every card of cards.json."""
    from importlib.resources import files

    groups = json.loads((files("qwenops.machine") / "cards.json").read_text(encoding="utf-8"))["groups"]
    cards = []
    for group in groups:
        for name, sizes in group["cards"].items():
            capability = group.get("compute_capability")
            cards.append(
                Card(
                    name=name,
                    kind=cast("Kind", group["kind"]),
                    sizes_bytes=tuple((int(sold), mib * MIB) for sold, mib in sizes.items()),
                    compute_capability=(capability[0], capability[1]) if capability else None,
                    unified=group.get("unified", False),
                    desktop=group["desktop"],
                )
            )
    return tuple(cards)


def find_card(name: str) -> Card | None:
    """The card of this name, however it is written: "RTX 4090", "rtx4090", "4090", "NVIDIA GeForce RTX 4090"."""
    wanted = _key(name)
    if not wanted:
        return None
    by_key = {_key(card.name): card for card in known_cards()}
    if wanted in by_key:
        return by_key[wanted]
    bare = [card for key, card in by_key.items() if any(key == family + wanted for family in _FAMILIES)]
    return bare[0] if len(bare) == 1 else None


def nearest_cards(name: str, count: int = 3) -> tuple[str, ...]:
    """The known names that look most like `name`."""
    import difflib

    by_key = {_key(card.name): card.name for card in known_cards()}
    return tuple(by_key[key] for key in difflib.get_close_matches(_key(name), by_key, n=count, cutoff=0.4))


def _key(name: str) -> str:
    """The telling words of a name, joined: case, spaces, dashes and the maker's words do not matter."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\((tm|r|c)\)", " ", name.lower()))
    return "".join(_SAME.get(word, word) for word in words if word not in _NOISE)
