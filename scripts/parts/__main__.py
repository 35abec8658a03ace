"""Command line: list the parts, or make some or all of them."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable

from scripts.parts.layout import Layout, default_root
from scripts.parts.recipes import PARTS, Part
from scripts.parts.workshop import PartFailed, Unavailable, Workshop, say


def main(arguments: Iterable[str] | None = None) -> int:
    """Returns the exit code: 0 all that was asked for is there, 1 something is not."""
    parser = argparse.ArgumentParser(prog="python3 -m scripts.parts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is and what is missing")
    commands.add_parser("folder", help="print the parts folder")
    get = commands.add_parser("get", help="make these parts and what they need")
    get.add_argument("names", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    every = commands.add_parser("all", help="make every part")
    for making in (get, every):
        making.add_argument(
            "--possible",
            action="store_true",
            help="what this machine cannot make is named and left out, and is no failure",
        )
    options = parser.parse_args(None if arguments is None else list(arguments))
    workshop = Workshop(Layout(default_root()))
    if options.command == "list":
        return show(workshop)
    if options.command == "folder":
        print(workshop.layout.root)
        return 0
    names = list(PARTS) if options.command == "all" else options.names
    return make(workshop, names, lenient=options.possible)


def show(workshop: Workshop) -> int:
    """Print the table of parts."""
    say(f"parts in {workshop.layout.root}")
    for part in PARTS.values():
        say(f"  {part.name:13} {'there' if part.is_done(workshop) else 'missing':8} {part.what}")
    return 0


def make(workshop: Workshop, names: Iterable[str], *, lenient: bool) -> int:
    """Make the named parts and their needs, in the table's order. One that fails does not stop the rest."""
    wanted = _with_needs(names)
    missing: dict[str, str] = {}
    with workshop.locked():
        for part in (part for part in PARTS.values() if part.name in wanted):
            lacking = [need for need in part.needs if need in missing]
            if lacking:
                missing[part.name] = f"needs {', '.join(lacking)}"
                say(f"{part.name}: left out, {missing[part.name]}")
            elif (why := _make_one(workshop, part)) is not None:
                missing[part.name] = why
    if not missing:
        say(f"parts: all there, in {workshop.layout.root}")
        return 0
    say(f"parts missing: {', '.join(missing)}")
    return 0 if lenient else 1


def _make_one(workshop: Workshop, part: Part) -> str | None:
    if part.is_done(workshop):
        return None
    say(f"{part.name}: {part.what}; {part.duration}")
    began = time.monotonic()
    try:
        part.make(workshop)
    except Unavailable as lack:
        say(f"{part.name}: left out, {lack}")
        return str(lack)
    except PartFailed as failure:
        say(f"{part.name}: failed: {failure}")
        return str(failure)
    workshop.stamp(part.name, part.key, native=part.native)
    say(f"{part.name}: done in {time.monotonic() - began:.0f} s")
    return None


def _with_needs(names: Iterable[str]) -> set[str]:
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(PARTS[name].needs)
    return wanted


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # So that a stopped run stops its compilers too.
    signal.signal(signal.SIGTERM, _leave)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("parts: stopped; what was finished is kept")
        sys.exit(130)
