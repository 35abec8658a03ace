"""Being somebody who may not do everything: tests of rights are worth nothing as root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Run the block as an ordinary user (nobody, when we are root); gives a folder that this user owns."""
    root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="qwenops-user-"))
    try:
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        for place in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
            place.chmod(0o700)
        shutil.rmtree(folder)
