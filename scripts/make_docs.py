"""Write docs/commands.md from the commands' own help, or say with --check that it is stale.

python -m scripts.make_docs [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEAD = "# Commands\n\nWritten by `scripts/make_docs.py` from the commands' own help; do not edit.\n"


def main() -> int:
    """Write the page, or compare it with what would be written."""
    text = page()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        print(f"{TARGET.name} is stale: python -m scripts.make_docs", file=sys.stderr)
        return 1
    return 0


def page() -> str:
    """The help of the program and of every command, at 100 columns."""
    import click
    from click.testing import CliRunner

    from qwenops.cli.main import COMMANDS, cli

    runner = CliRunner()
    parts = [HEAD, _block("qwenops", _help(runner, cli, []))]
    for name in COMMANDS:
        parts.append(_block(f"qwenops {name}", _help(runner, cli, [name])))
        command = cli.get_command(click.Context(cli), name)
        for part in getattr(command, "commands", ()):
            parts.append(_block(f"qwenops {name} {part}", _help(runner, cli, [name, part])))
    return "\n".join(parts)


def _help(runner: Any, cli: Any, command: list[str]) -> str:
    return str(runner.invoke(cli, [*command, "--help"], prog_name="qwenops", terminal_width=100).output)


def _block(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.rstrip().splitlines())
    return f"## {title}\n\n```\n{lines}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
