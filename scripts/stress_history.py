"""Write a history from two processes for a minute, kill writers at random moments, and count what is lost.

    python -m scripts.stress_history docs/history-verified.md      # about three minutes
    python -m scripts.stress_history --seconds 5 --kills 5         # shorter, printed

A row is finished when the call that keeps it has returned: the writer then prints its number and its content's digest.
After every kill each printed row must be there to the letter, no row may be in halves, and the file must take new ones.
Exit code 1 where anything is lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import selectors
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

LIMIT_S = 120
OLD_ROWS = 60_000
"""Rows of a history of an older schema: enough that bringing it up to date takes tenths of a second."""


@dataclass(frozen=True)
class Together:
    """Writers side by side: rows that each said to be finished, those that are there, the longest wait for a row."""

    writers: int
    seconds: float
    finished: int
    there: int
    longest_ms: float
    sound: bool


@dataclass(frozen=True)
class Killed:
    """Kills at random moments: rows said to be finished before them, and how many of those are gone or in halves."""

    kills: int
    finished: int
    lost: int
    broken: int
    unsaid: int  # kept, and killed before it could be said
    sound: bool


def main() -> int:
    """Run all three parts and write the page, or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--upgrades", type=int, default=20)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--writer", nargs=2, metavar=("PATH", "NAME"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.writer:
        write_for_ever(Path(args.writer[0]), args.writer[1])
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        chance = random.Random(args.seed)
        together = write_together(here / "together.sqlite3", 2, args.seconds)
        killed = kill_writers(here, args.kills, chance)
        upgraded = kill_upgrades(here, args.upgrades, chance)
    text = page(together, killed, upgraded, args.seed)
    if args.page:
        args.page.write_text(text, encoding="utf-8")
    print(text)
    fine = together.sound and together.there == together.finished
    return int(not (fine and all(k.sound and not k.lost and not k.broken for k in (killed, upgraded))))


def write_for_ever(path: Path, name: str) -> None:
    """Keep rows of every table, and say each one once the call that keeps it has returned: table, number, digest."""
    from qwenops import history
    from qwenops.history import Outcome

    chance = random.Random(name)
    with history.open(path) as kept:
        number = 0
        while True:
            number += 1
            text = "".join(chance.choices("abcdefgh", k=chance.randrange(20_000)))
            samples = tuple(chance.random() for _ in range(chance.randrange(1, 50)))
            about = {"number": number, "text": text}
            began = time.monotonic()
            outcomes = [Outcome(model=name, test=f"pp{n}", samples=samples, settings=about) for n in range(3)]
            ids = kept.record_results(outcomes)
            say("results", ids, (name, about, samples), began)
            began = time.monotonic()
            load = kept.record_load(name, "settings", "build", "CUDA0", about)
            kept.finish_load(load, about, ok=True)
            say("loads", (load,), (name, about, about), began)
            began = time.monotonic()
            say("plans", (kept.record_plan(name, about),), (name, about), began)


def say(table: str, ids: Sequence[int], content: object, began: float) -> None:
    """One line in one write, so that it is there whole or not at all."""
    line = f"{table} {','.join(map(str, ids))} {digest(content)} {time.monotonic() - began:.6f}\n"
    os.write(1, line.encode())


def digest(content: object) -> str:
    """A digest of plain JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def start(path: Path, name: str) -> subprocess.Popen[bytes]:
    """A writer in a process of its own."""
    command = [sys.executable, "-m", "scripts.stress_history", "--writer", str(path), name]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def write_together(path: Path, writers: int, seconds: float) -> Together:
    """Several writers on one file for some seconds; each is ended by a kill, as soon as the time is over."""
    processes = [start(path, f"writer {n}") for n in range(writers)]
    said: list[bytes] = [b""] * writers
    with selectors.DefaultSelector() as ready:
        for n, process in enumerate(processes):
            assert process.stdout
            os.set_blocking(process.stdout.fileno(), False)
            ready.register(process.stdout, selectors.EVENT_READ, n)
        first: float | None = None
        deadline = time.monotonic() + seconds + LIMIT_S
        while first is None or time.monotonic() < first + seconds:
            for key, _ in ready.select(timeout=0.1):
                said[key.data] += os.read(key.fd, 1 << 16)
            first = first or (time.monotonic() if all(said) else None)
            if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
                break
    for n, process in enumerate(processes):
        process.kill()
        assert process.stdout
        assert process.stderr
        os.set_blocking(process.stdout.fileno(), True)
        said[n] += process.stdout.read()
        if errors := process.stderr.read():
            print(errors.decode(), file=sys.stderr)
        process.wait()
    lines = [line for text in said for line in text.decode().splitlines()]
    there, _ = look(path, lines)
    waits = [float(line.split()[-1]) for line in lines]
    return Together(writers, seconds, rows(lines), there, 1000 * max(waits, default=0.0), is_sound(path))


def kill_writers(folder: Path, kills: int, chance: random.Random) -> Killed:
    """Start a writer and kill it, again and again; every fifth begins with no file, so that its making is hit too.

    Half of the kills fall within the first tenth of a second after the process began to write.
    """
    finished = lost = broken = unsaid = 0
    sound = True
    path = folder / "killed.sqlite3"
    said: list[str] = []
    before = 0
    for number in range(kills):
        if number % 5 == 0:
            path, said, before = folder / f"killed-{number}.sqlite3", [], 0
        process = start(path, f"doomed {number}")
        assert process.stdout
        wait_for(path if number % 5 == 0 else None, process)
        time.sleep(chance.uniform(0, 0.1) if number % 2 else chance.uniform(0, 1.0))
        process.kill()
        new = process.stdout.read().decode().splitlines()
        process.wait()
        finished += rows(new)
        said += new
        there, halves = look(path, said)
        lost += rows(said) - there
        broken += halves
        unsaid += stored(path) - rows(said) - before
        before = stored(path) - rows(said)
        said += go_on(path, number)
        sound = sound and is_sound(path)
    return Killed(kills, finished, lost, broken, unsaid, sound)


def wait_for(path: Path | None, process: subprocess.Popen[bytes]) -> None:
    """Until the file of a first writer is there, or until one on an existing file has said its first row."""
    assert process.stdout
    if path is None:
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            ready.select(timeout=LIMIT_S)
        return
    deadline = time.monotonic() + LIMIT_S
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.0005)


def go_on(path: Path, number: int) -> list[str]:
    """Keep one more row after a kill, as a line of its own."""
    from qwenops import history

    with history.open(path) as kept:
        content = ("after", {"number": number})
        return [f"plans {kept.record_plan(*content)} {digest(content)} 0"]


def kill_upgrades(folder: Path, kills: int, chance: random.Random) -> Killed:
    """Kill a process while it brings an older history up to date; then do that to the end and look at every row."""
    from qwenops import history

    old = folder / "old.sqlite3"
    write_old(old)
    first = upgrade(old_copy(old, folder / "timed.sqlite3"))
    began = time.monotonic()
    first.wait(timeout=LIMIT_S)
    whole_s = time.monotonic() - began
    lost = broken = hit = 0
    sound = True
    for number in range(kills):
        path = old_copy(old, folder / f"upgrade-{number}.sqlite3")
        process = upgrade(path)
        time.sleep(chance.uniform(0, 0.9) * whole_s)
        process.kill()
        process.wait()
        hit += process.returncode < 0
        sound = sound and is_sound(path)
        with history.open(path) as kept:
            found = kept.results()
        lost += OLD_ROWS - len(found)
        broken += sum(row.samples != (row.id,) or row.kind != "speed" for row in found)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    return Killed(hit, OLD_ROWS * kills, lost, broken, 0, sound)


def write_old(path: Path) -> None:
    """A history as a version before kinds and units wrote it."""
    from qwenops.history import migrations

    with sqlite3.connect(path) as db:
        db.execute("create table migrations (name text primary key, taken text not null)")
        for step in migrations.STEPS[:5]:
            step(db)
            db.execute("insert into migrations values (?, '2026-01-01')", (step.__name__,))
        db.executemany(
            "insert into results (created, model, test, settings, machine, samples) "
            "values ('2026-01-01T00:00:00+00:00', 'm', 'pp512', '{}', '{}', ?)",
            ((f"[{n}]",) for n in range(1, OLD_ROWS + 1)),
        )
    db.close()


def old_copy(old: Path, path: Path) -> Path:
    """A copy to bring up to date."""
    path.write_bytes(old.read_bytes())
    return path


def upgrade(path: Path) -> subprocess.Popen[bytes]:
    """A process that is about to open the file, which brings it up to date."""
    code = (
        "import sys, sqlite3; from pathlib import Path; from qwenops import history\n"
        "print(flush=True); history.open(Path(sys.argv[1])).count()"
    )
    command = [sys.executable, "-c", code, str(path)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


def rows(lines: Sequence[str]) -> int:
    """How many rows the lines speak of."""
    return sum(line.split()[1].count(",") + 1 for line in lines)


def stored(path: Path) -> int:
    """How many rows the file has."""
    from qwenops import history

    with history.open(path) as kept:
        return sum(kept.count().values())


def look(path: Path, lines: Sequence[str]) -> tuple[int, int]:
    """How many of the rows that were said are there with the content that was said; how many of all are in halves."""
    from qwenops import history

    with history.open(path) as kept:
        there = {("results", r.id): digest((r.model, r.settings, r.samples)) for r in kept.results()}
        loads = kept.loads()
        there |= {("loads", r.id): digest((r.model_key, r.predicted, r.measured)) for r in loads}
        there |= {("plans", r.id): digest((r.model_key, r.plan)) for r in kept.plans()}
        runs = [r.settings["number"] for r in kept.results()]
    found = 0
    for line in lines:
        table, ids, content, _ = line.split()
        found += sum(there.get((table, int(number))) == content for number in ids.split(","))
    # the three rows of one call are kept all or none
    return found, len(runs) % 3


def is_sound(path: Path) -> bool:
    """SQLite's own check of the whole file."""
    db = sqlite3.connect(path)
    try:
        return bool(db.execute("pragma integrity_check").fetchall() == [("ok",)])
    finally:
        db.close()


def page(together: Together, killed: Killed, upgraded: Killed, seed: int) -> str:
    """The figures as Markdown."""
    import sqlite3 as lite

    pace = together.finished / together.seconds
    said = f"""Written by `python -m scripts.stress_history docs/history-verified.md` (seed {seed}) on {os.cpu_count()}
processors, {platform.system()} {platform.machine()}, Python {platform.python_version()}, SQLite {lite.sqlite_version}.
A row is finished when the call that keeps it has returned; the writer then prints its number and the digest of its
content, and each of those is looked for afterwards. Rows are up to 20 KB and of all tables; results come three in a
transaction. After every kill the file must take a new row; every fifth writer begins with no file, so that its making
is hit too. Rows that were kept and not yet printed when the kill came count for nothing here."""
    table = [
        "| | | finished rows | lost or altered | in halves | `integrity_check` |",
        "|---|---|--:|--:|--:|---|",
        f"| {together.writers} writers at once | {together.seconds:.0f} s | {together.finished} "
        f"| {together.finished - together.there} | 0 | {_word(together.sound)} |",
        f"| a writer killed (SIGKILL) at random moments | {killed.kills} kills | {killed.finished} "
        f"| {killed.lost} | {killed.broken} | {_word(killed.sound)} |",
        f"| killed while an older file is brought up to date | {upgraded.kills} kills | {upgraded.finished} "
        f"| {upgraded.lost} | {upgraded.broken} | {_word(upgraded.sound)} |",
    ]
    pace_line = (
        f"The writers kept {pace:.0f} rows a second together; the longest that one waited for its turn was "
        f"{together.longest_ms:.0f} ms.\n{killed.unsaid} rows of the killed writers were kept and not yet printed."
    )
    return "\n\n".join(["# What the history keeps", said, "\n".join(table), pace_line]) + "\n"


def _word(fine: bool) -> str:
    return "ok" if fine else "FAILED"


if __name__ == "__main__":
    sys.exit(main())
