"""`--gpu`: devices that are not here, described in words.

12GiB                       a CUDA card of 12 GiB
cuda:24GiB,cuda:12GiB       two of them; cuda, rocm, vulkan or metal may stand before a size or a name
RTX 3060 12GB               a known card, with the total that its driver reports
2x RTX 3090                 several of one kind
metal:36GiB                 a Mac with 36 GiB: the GPU's default share of it
RTX 3060 12GB 11.2GiB free  what is free stated by the user
none                        no GPU
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from qwenops.errors import BadInput
from qwenops.machine.apple import default_wired_limit_bytes
from qwenops.machine.cards import Card, find_card, nearest_cards
from qwenops.machine.types import Device, Kind
from qwenops.units import GIB, MIB, human, parse_size

# What is gone before the first program asks, by the difference between what nvidia-smi and what CUDA call the total
# in public Ollama and llama.cpp logs: RTX 4080 300 MiB, RTX 4090 about 380, RTX 3060 and RTX 4070 Laptop about 400,
# RTX 5090 419; with ECC and more memory A10 517, RTX A6000 569.
DRIVER_BYTES = 400 * MIB
DATACENTER_DRIVER_BYTES = 576 * MIB
# A plain Linux desktop holds 100 to 400 MiB of the card that drives it; a Windows desktop with a browser 600 to 1600.
DESKTOP_BYTES = 256 * MIB
# Total less free on an idle DGX Spark (llama.cpp's device list: 122500 and 117824 MiB).
UNIFIED_SYSTEM_BYTES = 4676 * MIB

_SMALLEST, _LARGEST = 256 * MIB, 2048 * GIB
_MOST_DEVICES = 64
_NOTHING = ("none", "cpu")
_NAMES: dict[Kind, str] = {"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan", "metal": "MTL"}
_KIND = re.compile(r"^(cuda|rocm|hip|vulkan|metal|mtl)\s*:\s*", re.IGNORECASE)
_COUNT = re.compile(r"^([0-9]{1,6})\s*[x×*]\s*(?=\S)", re.IGNORECASE)
# The B is asked for, else "RTX 2080 Ti" would be 2080 tebibytes; only "12G" may do without.
_SIZE = r"(?<![A-Za-z0-9.])([0-9]+(?:\.[0-9]+)?(?:\s*[MGT]i?B|G))(?![A-Za-z0-9])"
_FREE = re.compile(rf"[\s/]*{_SIZE}\s*free\s*$", re.IGNORECASE)
# A dash after a name is a separator ("rtx3060-12gb", "RTX 3060 - 12GB"); one with nothing before it is a sign.
_SIGNED = re.compile(r"(?:^|:)\s*[-\u2212+]\s*[.0-9]|\s[-\u2212+][.0-9]")
_HOW = 'write a size as in --gpu 12GiB, or a card as in --gpu "RTX 3060 12GB"'


@dataclass(frozen=True)
class _Described:
    """One described device before it has its place in the list."""

    kind: Kind
    description: str
    total_bytes: int
    held_bytes: int
    unified: bool = False
    compute_capability: tuple[int, int] | None = None


def parse_spec(text: str) -> tuple[Device, ...]:
    """The devices that a `--gpu` text describes, in its order; () for "none".

    `total_bytes` is what the driver of such a card reports; `free_bytes` is that less what driver and desktop
    typically hold (the constants above, with their source), or what the text itself states. Raises BadInput: the
    text is empty, a size cannot be, a card is unknown and has no size, or a kind does not fit a card.
    """
    if text.strip().lower() in _NOTHING:
        return ()
    described: list[_Described] = []
    for part in text.split(","):
        described.extend(_part(part.strip(), text))
    if len(described) > _MOST_DEVICES:
        raise BadInput(f"--gpu {text!r} describes {len(described)} devices", do=f"name at most {_MOST_DEVICES}")
    devices: list[Device] = []
    for index, one in enumerate(described):
        place = sum(1 for d in devices if d.kind == one.kind)
        devices.append(
            Device(
                name=f"{_NAMES[one.kind]}{place}",
                kind=one.kind,
                description=one.description,
                total_bytes=one.total_bytes,
                free_bytes=one.total_bytes - one.held_bytes,
                index=index,
                unified=one.unified,
                integrated=one.unified,
                source="--gpu",
                compute_capability=one.compute_capability,
            )
        )
    return tuple(devices)


def spec_notes(devices: tuple[Device, ...]) -> tuple[str, ...]:
    """What was assumed about described devices, said once for each kind of assumption."""
    notes = [
        f"{device.description}: free is taken as {human(device.free_bytes)} of {human(device.total_bytes)}, which "
        f"leaves {human(device.used_bytes)} to the driver and the desktop; state yours as in "
        f'"{human(device.free_bytes).replace(" ", "")} free" after the card'
        for device in devices
        if device.used_bytes
    ]
    notes += [
        f"{device.description}: {human(device.total_bytes)} is what macOS lets a GPU hold of such a Mac's memory"
        for device in devices
        if device.kind == "metal"
    ]
    return tuple(dict.fromkeys(notes))


def _part(part: str, whole: str) -> list[_Described]:
    """The devices of one comma-separated part."""
    if not part:
        raise BadInput(f"--gpu {whole!r} has an empty part", do=_HOW)
    if part.lower() in _NOTHING:
        raise BadInput(f"--gpu {whole!r}: {part} stands alone", do=f"--gpu {part}")
    count, rest = 1, part
    if match := _COUNT.match(rest):
        count, rest = int(match.group(1)), rest[match.end() :]
    kind: Kind | None = None
    if match := _KIND.match(rest):
        kind, rest = _kind(match.group(1)), rest[match.end() :]
    if match := _COUNT.match(rest):  # "cuda:2x RTX 3090" reads as well as "2x cuda:24GiB"
        count, rest = count * int(match.group(1)), rest[match.end() :]
    if not 1 <= count <= _MOST_DEVICES:
        raise BadInput(f"--gpu {part!r} asks for {count} devices", do=f"name 1 to {_MOST_DEVICES}")

    if _SIGNED.search(rest):
        raise BadInput(f"--gpu {part!r} has a size with a sign", do=_HOW)
    free_bytes: int | None = None
    if match := _FREE.search(rest):
        free_bytes, rest = parse_size(match.group(1)), rest[: match.start()]
    size_bytes: int | None = None
    if match := re.search(_SIZE, rest, re.IGNORECASE):
        size_bytes = parse_size(match.group(1))
        rest = f"{rest[: match.start()]} {rest[match.end() :]}"
    name = " ".join(rest.split()).strip(" -,:/")

    if name:
        one = _named(name, size_bytes, kind, part)
    else:
        one = _unnamed(size_bytes if size_bytes is not None else free_bytes, kind, part)
    _check_size(one.total_bytes, part)
    if free_bytes is not None:
        if free_bytes > one.total_bytes:
            raise BadInput(f"--gpu {part!r}: {human(free_bytes)} free is more than its total, {human(one.total_bytes)}")
        one = replace(one, held_bytes=one.total_bytes - free_bytes)
    elif one.held_bytes >= one.total_bytes:
        one = replace(one, held_bytes=one.total_bytes // 4)
    return [one] * count


def _kind(word: str) -> Kind:
    kinds: dict[str, Kind] = {
        "cuda": "cuda",
        "rocm": "rocm",
        "hip": "rocm",
        "vulkan": "vulkan",
        "metal": "metal",
        "mtl": "metal",
    }
    return kinds[word.lower()]


def _unnamed(size_bytes: int | None, kind: Kind | None, part: str) -> _Described:
    """A device known by its size alone; on metal the size is the Mac's memory."""
    if size_bytes is None:
        raise BadInput(f"--gpu {part!r} has no size", do=_HOW)
    if kind == "metal":
        return _mac("Apple GPU", size_bytes)
    kind = kind or "cuda"
    return _Described(kind, f"{human(size_bytes)} {kind} device", size_bytes, DRIVER_BYTES + DESKTOP_BYTES)


def _named(name: str, size_bytes: int | None, kind: Kind | None, part: str) -> _Described:
    """A card by its name, or an unknown one that comes with a size."""
    card = find_card(name)
    if card is None:
        return _unknown(name, size_bytes, kind, part)
    if kind not in (None, card.kind, "vulkan") or (kind == "vulkan" and card.kind == "metal"):
        raise BadInput(
            f"--gpu {part!r}: {card.name} does not run on {kind}",
            do=f"write {card.kind}:{card.name}" + ("" if card.kind == "metal" else f", or vulkan:{card.name}"),
        )
    if card.kind == "metal":
        if size_bytes is None:
            raise BadInput(
                f"--gpu {part!r}: an {card.name} is sold with several memory sizes",
                do=f'add the Mac\'s, as in --gpu "{card.name} 36GB"',
            )
        return _mac(f"Apple {card.name}", size_bytes)
    total = _total(card, size_bytes, part)
    if card.unified:
        held = UNIFIED_SYSTEM_BYTES if card.sizes_bytes else 0
    elif card.desktop:
        held = DRIVER_BYTES + DESKTOP_BYTES
    else:
        held = DATACENTER_DRIVER_BYTES
    return _Described(kind or card.kind, card.name, total, held, card.unified, card.compute_capability)


def _total(card: Card, size_bytes: int | None, part: str) -> int:
    """The total of the variant that is meant."""
    if size_bytes is not None:
        return card.total_bytes(size_bytes)
    if len(card.sizes_bytes) == 1:
        return card.sizes_bytes[0][1]
    if not card.sizes_bytes:
        raise BadInput(
            f"--gpu {part!r}: {card.name} uses the computer's memory",
            do=f'add how much the GPU may use, as in --gpu "{card.name} 96GiB"',
        )
    sold_gib = [gib for gib, _ in card.sizes_bytes]
    raise BadInput(
        f"--gpu {part!r}: {card.name} is sold with {' and '.join(f'{n} GiB' for n in sold_gib)}",
        do=f'add the size, as in --gpu "{card.name} {sold_gib[-1]}GB"',
    )


def _unknown(name: str, size_bytes: int | None, kind: Kind | None, part: str) -> _Described:
    if size_bytes is not None:
        if kind == "metal":
            return _mac(name, size_bytes)
        return _Described(kind or "cuda", name, size_bytes, DRIVER_BYTES + DESKTOP_BYTES)
    if name.replace(".", "").isdigit():
        raise BadInput(f"--gpu {part!r} has no unit", do=_HOW)
    near = nearest_cards(name)
    hint = f"; the nearest known: {', '.join(near)}" if near else ""
    raise BadInput(f"--gpu {part!r}: no such card is known{hint}", do=f'add its size, as in --gpu "{name} 12GB"')


def _mac(description: str, memory_bytes: int) -> _Described:
    """The GPU of a Mac with this much memory, with macOS's default share; Metal calls all of that free."""
    return _Described("metal", description, default_wired_limit_bytes(memory_bytes), 0, unified=True)


def _check_size(total_bytes: int, part: str) -> None:
    if not _SMALLEST <= total_bytes <= _LARGEST:
        raise BadInput(f"--gpu {part!r}: {human(total_bytes)} is no size for a GPU", do=_HOW)
