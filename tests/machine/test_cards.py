"""The table of known cards holds together, and real product names find their card."""

from __future__ import annotations

import pytest

from qwenops.machine.cards import find_card, known_cards, nearest_cards

MIB = 1024**2
GIB = 1024**3


@pytest.mark.parametrize(
    ("full_name", "card"),
    [
        ("NVIDIA GeForce GTX 1080 Ti", "GTX 1080 Ti"),
        ("NVIDIA GeForce RTX 3060", "RTX 3060"),
        ("NVIDIA GeForce RTX 3060 Ti", "RTX 3060 Ti"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", "RTX 3060 Laptop"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell"),
        ("Tesla T4", "T4"),
        ("NVIDIA A100-PCIE-40GB", None),  # the size is the spec's to take out
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA GB10", "GB10"),
        ("AMD Radeon RX 7900 XTX", "RX 7900 XTX"),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("Intel(R) Arc(TM) A770 Graphics", "Arc A770"),
        ("Apple M3 Ultra", "M3 Ultra"),
        ("", None),
        ("NVIDIA", None),
        ("RTX 9999", None),
    ],
)
def test_full_names_find_their_card(full_name: str, card: str | None) -> None:
    found = find_card(full_name)
    assert (found.name if found else None) == card


def test_every_card_is_found_by_its_own_name_and_no_other() -> None:
    cards = known_cards()
    assert len(cards) > 60
    assert [find_card(card.name) for card in cards] == list(cards)


def test_every_total_is_near_the_size_that_the_card_is_sold_with() -> None:
    for card in known_cards():
        for sold_gib, total_bytes in card.sizes_bytes:
            assert 0.93 <= total_bytes / (sold_gib * GIB) <= 1.02, card.name
            assert total_bytes % MIB == 0


def test_every_cuda_card_has_its_compute_capability() -> None:
    assert all((card.compute_capability is not None) == (card.kind == "cuda") for card in known_cards())


@pytest.mark.parametrize(("name", "near"), [("RTX 3O60", "RTX 3060"), ("RX7900XXT", "RX 7900 XTX"), ("H10O", "H100")])
def test_a_slip_of_the_pen_has_the_right_name_near(name: str, near: str) -> None:
    assert near in nearest_cards(name)
