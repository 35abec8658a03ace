from __future__ import annotations

from qwenops.cli.main import run

if __name__ == "__main__":
    run()
