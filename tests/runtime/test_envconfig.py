"""Environment variables mean to us what they mean to Ollama, and no secret among them is kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.runtime import envconfig as e
from tests.runtime.oracle_build import Oracle


@pytest.mark.parametrize(
    ("text", "off", "on"),
    [("", False, True), ("1", True, True), ("0", False, False), (" 'false' ", False, False), ("yes", True, True)],
)
def test_a_switch(text: str, off: bool, on: bool) -> None:
    assert (e.boolean({"X": text}, "X"), e.boolean({"X": text}, "X", default=True)) == (off, on)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 300), ("10", 10), ("1h2m3.5s", 3723.5), ("-1", math.inf), ("-1s", math.inf), ("0", 0), ("x", 300), ("1", 1)],
)
def test_keep_alive(text: str, seconds: float) -> None:
    assert e.keep_alive_s({"OLLAMA_KEEP_ALIVE": text}) == seconds


def test_only_what_decides_how_models_run_is_kept_and_no_secret() -> None:
    environment = {
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "LLAMA_ARG_FIT_TARGET": "64",
        "OLLAMA_API_KEY": "secret",
        "LLAMA_API_KEY": "secret",
        "HF_TOKEN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HTTPS_PROXY": "http://me:secret@proxy:3128",
        "PATH": "/bin",
        "HOME": "/root",
    }
    kept = e.relevant(environment)
    assert kept == {
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "LLAMA_ARG_FIT_TARGET": "64",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    assert "secret" not in str(kept)


@given(st.text(max_size=30))
def test_any_duration_can_be_read(text: str) -> None:
    assert e.keep_alive_s({"OLLAMA_KEEP_ALIVE": text}) >= 0


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_reads_its_variables_so(oracle: Oracle) -> None:
    texts = ["", "0", "1", "-1", "+5", "5m", "1h30m", "-2h", "1.5s", ".5s", "1.s", "1s1", "true", "False", "tRUE"]
    texts += ["yes", "10000000000", "-9223372036854775808"]
    texts += [" 12 ", "'12'", '"q8_0"', "Q8_0", "18446744073709551615", "18446744073709551616", "1_000", "0x10", "1µs"]
    names = ("KEEP_ALIVE", "FLASH_ATTENTION", "NUM_PARALLEL", "CONTEXT_LENGTH", "GPU_OVERHEAD", "SCHED_SPREAD")
    cases = [{f"OLLAMA_{n}": t for n in (*names, "KV_CACHE_TYPE", "VULKAN")} for t in texts]
    answers = oracle.ask({"op": "env", "Env": c} for c in cases)
    for environment, answer in zip(cases, answers, strict=True):
        ours: dict[str, Any] = {
            "flash_off": e.boolean(environment, "OLLAMA_FLASH_ATTENTION"),
            "flash_on": e.boolean(environment, "OLLAMA_FLASH_ATTENTION", default=True),
            "parallel": e.unsigned(environment, "OLLAMA_NUM_PARALLEL", 1),
            "context": e.unsigned(environment, "OLLAMA_CONTEXT_LENGTH"),
            "overhead": e.unsigned(environment, "OLLAMA_GPU_OVERHEAD"),
            "spread": e.boolean(environment, "OLLAMA_SCHED_SPREAD"),
            "kv": e.var(environment, "OLLAMA_KV_CACHE_TYPE").lower(),
            "vulkan": e.boolean(environment, "OLLAMA_VULKAN", default=True),
        }
        keep_alive = answer.pop("keep_alive")
        assert ours == answer, environment
        forever = keep_alive > 9e9
        assert e.keep_alive_s(environment) == (math.inf if forever else pytest.approx(keep_alive)), environment
