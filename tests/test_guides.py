"""The guides' commands run as they are written, and answer what the guides say they answer."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.cli import qwenops

GUIDES = Path(__file__).resolve().parent.parent / "docs" / "guides"
GAP = "…"
# What these do, other tests try: they need a server, weights or a network.
NOT_HERE = ("up", "bench", "register", "server", "quants")


def shown() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every command of a console block, with the lines that the guide shows below it."""
    for guide in sorted(GUIDES.glob("*.md")):
        for block in re.findall(r"```console\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *lines = part.rstrip("\n").split("\n")
                yield guide.stem, command, tuple(lines)


def named() -> Iterator[tuple[str, str]]:
    """Every command that stands in a table or in the text and runs anywhere."""
    for guide in sorted(GUIDES.glob("*.md")):
        text = re.sub(r"```.*?```", "", guide.read_text(encoding="utf-8"), flags=re.DOTALL)
        for command in dict.fromkeys(re.findall(r"`(qwenops [^`]+)`", text)):
            if shlex.split(command)[1] not in NOT_HERE and "MODEL" not in command:
                yield guide.stem, command


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a scanned page, and no network."""
    Image.new("L", (2550, 3300), 255).save(tmp_path / "page.png", dpi=(300, 300))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.mark.parametrize(("guide", "command", "lines"), shown())
def test_a_shown_command_answers_what_is_shown(guide: str, command: str, lines: tuple[str, ...]) -> None:
    answer = qwenops(*shlex.split(command)[1:])
    assert answer.code in (0, 1), answer.err
    printed = iter(line.rstrip() for line in answer.out.splitlines())
    anywhere = False
    for line in lines:
        if line == GAP:
            anywhere = True
            continue
        found = next(printed, None)
        while anywhere and found is not None and found != line:
            found = next(printed, None)
        assert found == line, f"{guide}: {command}\n{answer.out}"
        anywhere = False


@pytest.mark.parametrize(("guide", "command"), named())
def test_a_named_command_runs(guide: str, command: str) -> None:
    answer = qwenops(*shlex.split(command)[1:])
    assert answer.code in (0, 1), f"{guide}: {command}\n{answer.err}"


def test_every_claim_has_a_verdict_and_what_can_be_tested_a_command() -> None:
    rows = [
        line.split("|")[1:-1] for line in (GUIDES / "claims.md").read_text(encoding="utf-8").splitlines() if "|" in line
    ]
    claims = [[cell.strip() for cell in row] for row in rows[2:]]
    assert len(claims) > 15
    assert all(len(row) == 5 and all(row[:3]) for row in claims)
    assert all(row[3] or row[4] for row in claims)
