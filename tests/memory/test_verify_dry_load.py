"""What the verification of dry loads calls within the bar."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from qwenops.memory.closed_form import closed_form
from qwenops.memory.load_log import parse_load_log
from qwenops.units import MIB
from scripts.verify.__main__ import main
from scripts.verify.cases import grid
from scripts.verify.dry_load import PARTS, Done, Row, compare, jobs, page
from tests.support.shapes import text_model

JOB = jobs()[0]


def row(off_mib: float, part: str) -> Row:
    """A dry load that said exactly what the log shows, but for one part."""
    said = closed_form(text_model(JOB.case.dims, JOB.case.quant), JOB.settings[0], ())
    host = replace(said.host, state_bytes=64 * MIB)
    lines = [
        f"x:  CPU {kind} buffer size = {getattr(host, f'{name}_bytes') / MIB:.2f} MiB" for name, kind in PARTS.items()
    ]
    changed = replace(host, **{f"{part}_bytes": getattr(host, f"{part}_bytes") + round(off_mib * MIB)})
    return compare(replace(said, host=changed), parse_load_log("\n".join(lines)))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("off_mib", "within"), [(0.0, True), (0.9, True), (-0.9, True), (1.1, False), (-1.1, False)])
def test_a_row_is_as_good_as_its_worst_part(part: str, off_mib: float, within: bool) -> None:
    judged = row(off_mib, part)
    assert judged.within is within
    if off_mib:
        assert judged.worst[1] == part


def test_what_is_kept_is_the_same_when_it_is_read_again_and_shown() -> None:
    done = Done(JOB.name, "qwen3", "a digest", (row(0.0, "kv"), row(1.1, "kv")), 2.5, "0.3.36")
    again = Done.from_data(json.loads(json.dumps(asdict(done))))
    assert again == done
    lines = page([again, Done("another", "mamba", "a digest", refused="it is too old")]).splitlines()
    assert "- 1 of 2 rows within the bar: every part within 1 MiB." in lines
    assert "- Not loaded: another: it is too old" in lines
    assert [line.endswith("| +1.10 (kv) | NO |") for line in lines if line.startswith(f"| {JOB.name} ")] == [
        False,
        True,
    ]


def test_every_text_model_of_the_grid_is_asked_about_under_all_its_settings() -> None:
    asked = {job.case.shape: set(job.settings) for job in jobs()}
    for case in grid():
        if case.vision is None:
            assert replace(case.settings(), gpu_layers="all", image_tokens=4096) in asked[case.shape]
    assert all({"server", "library"} == {s.outputs for s in settings} for settings in asked.values())


@pytest.mark.library
def test_a_model_with_sliding_windows_is_asked_loaded_and_within_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dry-load", "--only", "gemma-3-270m", "--no-write"]) == 0
    assert "8 of 8 rows within the bar" in capsys.readouterr().out
