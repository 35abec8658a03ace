"""The NVML of the tests, compiled once, and empty file system roots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.nvml import FakeNvml, build_library


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole library."""
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path) -> FakeNvml:
    """The whole library with a scenario folder of this test's own."""
    return FakeNvml(nvml_library, tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system root with nothing in it."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder
