"""What the verification of dry loads calls within the bar."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.memory.closed_form import closed_form
from qwenops.memory.probe_log import parse_load_log
from qwenops.units import MIB
from scripts.verify_dry_load import CASES, PARTS, Row, main
from tests.support.shapes import text_model


def row(off_mib: float, part: str) -> Row:
    """A dry load that said exactly what the log shows, but for one part."""
    case = CASES[0]
    said = closed_form(text_model(case.dims, case.quant), case.settings[0], ())
    host = replace(said.host, state_bytes=64 * MIB)
    lines = [
        f"x:  CPU {kind} buffer size = {getattr(host, f'{name}_bytes') / MIB:.2f} MiB" for name, kind in PARTS.items()
    ]
    changed = replace(host, **{f"{part}_bytes": getattr(host, f"{part}_bytes") + round(off_mib * MIB)})
    return Row(case, replace(said, host=changed), parse_load_log("\n".join(lines)))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("off_mib", "within"), [(0.0, True), (0.9, True), (-0.9, True), (1.1, False), (-1.1, False)])
def test_a_row_is_as_good_as_its_worst_part(part: str, off_mib: float, within: bool) -> None:
    judged = row(off_mib, part)
    assert judged.within is within
    if off_mib:
        assert judged.worst[1] == part


@pytest.mark.library
def test_a_model_with_sliding_windows_is_asked_loaded_and_within_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "gemma-3-1b", "--no-write"]) == 0
    assert "3 of 3 rows within the bar" in capsys.readouterr().out
