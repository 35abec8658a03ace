"""A wrong name is answered with the right ones that are nearest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenops.errors import BadInput, QwenopsError
from qwenops.model.nearby import files_like, library_tags_like, like, repositories_like
from qwenops.model.read import read_model
from qwenops.model.reference import read_references
from qwenops.ollama.models import show_model
from tests.model.make import model_file
from tests.ollama.support import store_alone
from tests.support.web import Web, serving

QWEN = "hf:Qwen/Qwen3-VL-8B-Instruct-GGUF"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    files = {f"Eyes-{quant}.gguf": model_file(tmp_path / f"Eyes-{quant}.gguf") for quant in ("Q4_K_M", "Q8_0")}
    with serving() as web, serving("127.0.0.2") as cdn:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        monkeypatch.setenv("QWENOPS_REGISTRY", web.url)
        web.repository("maker/eyes", files, cdn)
        web.repository("Qwen/Qwen3-VL-8B-Instruct", {}, cdn)
        yield web


WRONG = [
    ("hf:Qwen/Qwen3-VL-8B-Instrct-GGUF", f"qwenops plan {QWEN}"),
    ("hf:qwen/qwen3-vl-8b-instruct-gguf", f"qwenops plan {QWEN}"),
    ("hf:Qwen/Qwen3-VL-8B-Instruct", f"qwenops plan {QWEN}"),
    ("hf:maker/eyes:Q4KM", "qwenops plan hf:maker/eyes:Q4_K_M"),
    ("hf:maker/eyes:q8", "qwenops plan hf:maker/eyes:Q8_0"),
    ("ollama:qwen3-vl:8b-instruct-q8", "qwenops plan ollama:qwen3-vl:8b-instruct-q8_0"),
    ("ollama:qwn3-vl:8b", "qwenops plan ollama:qwen3-vl:8b"),
    ("hf:nobody/nothing-at-all", "look at the spelling, upper and lower case too"),
]


@pytest.mark.parametrize(("typed", "first"), WRONG)
def test_a_wrong_reference_leads_to_the_right_one(typed: str, first: str, hub: Web) -> None:
    with pytest.raises(QwenopsError) as error:
        read_references([typed])
    assert error.value.do[0] == first


def test_a_repository_of_the_catalogue_that_wants_a_login_is_not_taken_for_another(hub: Web) -> None:
    assert repositories_like("Qwen/Qwen3-VL-8B-Instruct-GGUF") == ()
    hub.token = "secret"
    with pytest.raises(QwenopsError) as error:
        read_references([QWEN])
    assert not error.value.do[0].startswith("qwenops plan")


def test_a_file_that_is_not_there_leads_to_one_that_is(tmp_path: Path) -> None:
    model_file(tmp_path / "Eyes-Q4_K_M.gguf")
    assert files_like(tmp_path / "eyes-q4km.gguf") == (tmp_path / "Eyes-Q4_K_M.gguf",)
    with pytest.raises(BadInput) as error:
        read_model(tmp_path / "Eyes-Q4_K.gguf")
    assert error.value.do[0].startswith(str(tmp_path / "Eyes-Q4_K_M.gguf"))
    assert files_like(tmp_path / "none" / "x.gguf") == ()


def test_a_model_that_ollama_has_not_leads_to_one_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "manifests/registry.ollama.ai/library/receipts/latest"
    path.parent.mkdir(parents=True)
    path.write_text('{"layers": []}')
    with pytest.raises(BadInput) as error:
        show_model(store_alone(tmp_path), "reciepts")
    assert error.value.do[0] == "qwenops show receipts:latest"


def test_what_is_like_nothing_gets_no_answer() -> None:
    assert like("zebra", ("qwen3-vl", "qwen2.5vl")) == ()
    assert library_tags_like("zebra") == ()
