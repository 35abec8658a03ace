"""Run a real command in a pseudo-terminal and keep its screen as an SVG picture for the README.

    python -m scripts.terminal_picture docs/up.svg -- qwenops up MODEL --for ocr

What is drawn is what the command wrote, colours included; only the time is missing.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import sys
from pathlib import Path

COLUMNS = 100


def main() -> int:
    """Run, draw, write."""
    target, _, *command = sys.argv[1:]
    screen = record(command)
    draw(Path(target), "$ " + shlex.join(command), screen)
    return 0


def record(command: list[str]) -> str:
    """Everything the command wrote to its terminal; lines that were drawn over keep their last state."""
    chunks: list[bytes] = []

    def read(fd: int) -> bytes:
        data = os.read(fd, 4096)
        chunks.append(data)
        return data

    os.environ.update(COLUMNS=str(COLUMNS), LINES="60", TERM="xterm-256color")
    pty.spawn(command, read)
    text = b"".join(chunks).decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [re.split(r"\r|\x1b\[K", line)[-1] for line in text.split("\n")]
    return "\n".join(line for line in lines if line.strip() or not lines).strip("\n")


def draw(target: Path, title: str, screen: str) -> None:
    """The screen as SVG, by rich's own exporter."""
    from rich.console import Console
    from rich.text import Text

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text(title, style="bold"))
        console.print(Text.from_ansi(screen))
        # The exporter's fonts come from elsewhere; a picture of ours asks nobody for anything.
        picture = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="qwenops"), flags=re.DOTALL)
        target.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
