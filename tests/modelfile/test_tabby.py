"""TabbyAPI's config.yml is YAML that says what the plan says, and nothing that is secret."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenops.errors import BadInput
from qwenops.memory.exl import ExlSettings
from qwenops.memory.exl_cache import CacheBits, parse_bits
from qwenops.model.exl import ExlModel, read_exl
from qwenops.modelfile.tabby import download_line, tabby_config
from tests.support.exl import Dims, config, tensors, write

FIELDS = {
    "network": {"host", "port", "disable_auth"},
    "model": {
        *("model_dir", "model_name", "backend", "max_seq_len", "cache_size", "cache_mode", "chunk_size"),
        *("max_batch_size", "vision"),
    },
}
"""Those that are written, as config_sample.yml of theroyallab/tabbyAPI names them (e632af4)."""


def model(folder: Path, engine: str = "exl3") -> ExlModel:
    dims = Dims() if engine == "exl3" else Dims(architecture="Qwen2_5_VLForConditionalGeneration")
    return read_exl(write(folder, tensors(dims, engine), config(dims, engine, 4.0)))


def read_back(text: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(text)
    assert {section: set(values) for section, values in read.items()} == FIELDS
    return read


@pytest.mark.parametrize(
    ("engine", "bits", "mode"),
    [
        ("exl3", "16", "FP16"),
        ("exl3", "8", "8,8"),
        ("exl3", "6,4", "6,4"),
        ("exl2", "16", "FP16"),
        ("exl2", "8", "Q8"),
        ("exl2", "6", "Q6"),
        ("exl2", "4", "Q4"),
    ],
)
def test_it_reads_back_as_the_plan(tmp_path: Path, engine: Any, bits: str, mode: str) -> None:
    found = model(tmp_path / "Eyes-8B", engine)
    asked = ExlSettings(20000, parse_bits(bits, engine), chunk=1024)
    read = read_back(tabby_config(found, asked, sees=True, head=("one", "two: three")))
    assert read["network"]["host"] == "127.0.0.1"
    assert read["network"]["disable_auth"] is False
    assert read["model"] == {
        "model_dir": str(tmp_path),
        "model_name": "Eyes-8B",
        "backend": "exllamav2" if engine == "exl2" else "exllamav3",
        "max_seq_len": 20224,
        "cache_size": 20224,
        "cache_mode": mode,
        "chunk_size": 1024,
        "max_batch_size": 1,
        "vision": True,
    }


@pytest.mark.parametrize("name", ["no", "1.0", "a: b", "# c", "'q\"", "模型", "trailing ", "{x}", "*x", "😀"])
def test_any_name_of_a_folder_stays_a_text(tmp_path: Path, name: str) -> None:
    found = model(tmp_path / name)
    read = read_back(tabby_config(found, ExlSettings(4096, CacheBits(16, 16)), sees=False, head=(name,)))
    assert read["model"]["model_name"] == name
    assert read["model"]["vision"] is False


def test_a_line_break_cannot_leave_its_place(tmp_path: Path) -> None:
    found = replace(model(tmp_path / "m"), folder=None, name="x\nnetwork:\n  disable_auth: true")
    asked = ExlSettings(4096, CacheBits(16, 16))
    with pytest.raises(BadInput, match="cannot be written"):
        tabby_config(found, asked, sees=True, head=())
    fine = tabby_config(replace(found, name="m"), asked, sees=True, head=(found.name,))
    assert read_back(fine)["network"]["disable_auth"] is False


def test_a_repository_says_how_it_is_brought(tmp_path: Path) -> None:
    there = replace(model(tmp_path / "m"), folder=None, source="hf:maker/Eyes-exl3@4.0bpw", name="Eyes-exl3@4.0bpw")
    assert download_line(there) == ("hf download maker/Eyes-exl3 --revision 4.0bpw --local-dir models/Eyes-exl3-4.0bpw")
    read = read_back(tabby_config(there, ExlSettings(4096, CacheBits(16, 16)), sees=True, head=()))
    assert (read["model"]["model_dir"], read["model"]["model_name"]) == ("models", "Eyes-exl3-4.0bpw")
