"""The models to calibrate with: small, of zeros, holes on the disk, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.machine.types import Device
from qwenops.memory.calibration import SAMPLES, SETTINGS, calibration_files
from qwenops.memory.closed_form import closed_form
from qwenops.memory.ghost import PREFIX
from qwenops.model.read import model_key, read_model
from qwenops.units import GIB, MIB

CARD = Device("CUDA0", "cuda", "A card", 8 * GIB, 7 * GIB)


def test_they_are_three_different_models_from_a_few_to_some_dozen_mib(tmp_path: Path) -> None:
    with calibration_files(tmp_path) as files:
        assert [file.stem for file in files] == [sample.name for sample in SAMPLES]
        sizes = [file.stat().st_size for file in files]
        assert 5 * MIB < sizes[0] < sizes[1] < sizes[2] < 100 * MIB
        assert all(abs(size - sample.size_bytes) < MIB for size, sample in zip(sizes, SAMPLES, strict=True))
        assert sum(file.stat().st_blocks * 512 for file in files) < 3 * MIB
        models = [read_model(file) for file in files]
        assert len({model_key(model) for model in models}) == 3
        for model, size in zip(models, sizes, strict=True):
            need = closed_form(model, SETTINGS, (CARD,))
            assert need.layers.on_device == need.layers.total
            assert 0.9 * size < need.devices[0].weights_bytes < size
            assert need.notes == ()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_it_is_broken_off(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), calibration_files(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}999999999-x").mkdir()
    with calibration_files(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
