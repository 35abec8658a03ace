"""A process that writes to a history: many of these at once are what the history must bear.

python -m tests.history.writer PATH NAME COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path

from qwenops import history


def main(path: str, name: str, count: str) -> None:
    """Write `count` rows of each kind under `name`, each in its own transaction."""
    with history.open(Path(path)) as notes:
        for number in range(int(count)):
            notes.record_plan(name, {"number": number})
            load = notes.record_load(name, "settings", "b10434", "CUDA0", {"number": number})
            notes.finish_load(load, {"number": number}, ok=True)
            notes.record_result(history.Outcome(model=name, test=f"pp{number}", samples=(number,)))
            notes.record_made("file", "shared", "/one/place", {"by": name, "number": number})


if __name__ == "__main__":
    main(*sys.argv[1:])
