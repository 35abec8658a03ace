"""docs/modelfiles.md names every finding, every variable and every block there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from qwenops.modelfile.context import RenderContext
from qwenops.modelfile.render import shipped_templates

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "modelfiles.md").read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_-]+)`", text))


def test_every_finding_is_explained_and_none_is_made_up() -> None:
    sources = "".join(p.read_text() for p in (REPOSITORY / "qwenops" / "modelfile").glob("lint*.py"))
    codes = set(re.findall(r'"(?:error|warning)"(?: if [^"]*)?(?: else "warning")?,\s*"([a-z-]+)"', sources))
    codes |= {"unknown-renderer", "unknown-parser"}
    assert len(codes) > 30
    assert named(PAGE.split("## What `qwenops check` finds")[1]) - {"qwenops"} == codes


def test_every_variable_of_a_template_is_explained() -> None:
    table = PAGE.split("| Variable |")[1].split("## Where")[0]
    assert {f.name for f in fields(RenderContext)} | {"profile"} <= named(table)


def test_every_block_is_named() -> None:
    blocks = re.findall(r"{% block (\w+) %}", (shipped_templates() / "base.j2").read_text())
    (line,) = re.findall(r"^Blocks of `base.j2`: (.*)\.$", PAGE, re.MULTILINE)
    assert line.split(", ") == blocks
