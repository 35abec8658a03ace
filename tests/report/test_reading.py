"""The tables of what was read and seen: in eighty columns, every failure named, no page's text a command."""

from __future__ import annotations

from typing import Any

import pytest

from qwenops.report.terminal import render
from qwenops.result import Result


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value + 0.01}


def row(**more: Any) -> dict[str, Any]:
    return {
        "model": "m-Q4_K_M.gguf",
        "label": "Q4_K_M",
        "image_tokens": None,
        "temperature": 0.0,
        "status": "ok",
        "error": None,
        "do": [],
        "failed_pages": [],
        "answered": 42,
        "loops": 0,
        "empty": 0,
        "wrong": estimate(0.5),
        "cer": estimate(0.01),
        "wer": estimate(0.02),
        "forms": {"count": 3, "exact": estimate(1), "fields": estimate(1)},
        "seconds_per_page": estimate(1.25),
        "prompt_tokens_per_page": 1096.2,
        "tokens_per_page": 141.7,
        "kinds": {"clean": {"pages": 3, "cer": 0.001, "wrong": 1}, "table": {"pages": 3, "cer": 0.02, "wrong": 2}},
        "misread": [{"page": "codes-001", "kind": "codes", "truth": "…O0\x1b[31m…", "read": "…00…"}],
        **more,
    }


def shown(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], compared: list[dict[str, Any]]) -> str:
    data = {
        "set": "made s1",
        "pages": [{}] * 42,
        "spoiled": [],
        "saved": None,
        "results": rows,
        "compared": compared,
        "settings": {"seed": 1, "most_tokens": 2048, "strict": False},
        "stopped": False,
        "engine": {"name": "llama-cpp-python", "version": "0.3.36"},
    }
    render(Result("qwenops.ocr/1", data), width=80)
    return capsys.readouterr().out


def test_a_table_fits_eighty_columns_and_says_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    other = row(model="m-IQ4_XS.gguf", label="IQ4_XS", cer=estimate(0.012), loops=1, temperature=0.7)
    pair = {"best": 0, "other": 1, "pages": 42, "difference": estimate(0.002), "p": 0.71, "same": False, "shown": False}
    told = shown(capsys, [row(), other], [pair])
    assert max(map(len, told.splitlines())) <= 80
    assert "Q4_K_M T0 " in told
    assert "IQ4_XS T0.7" in told
    assert "1.0 % ±0.5" in told
    assert "1096+142" in told
    assert "loops" in told.splitlines()[0]
    assert "empty" not in told.splitlines()[0]
    assert "No difference shown between Q4_K_M T0 and IQ4_XS T0.7 (paired, 42 pages, p = 0.71)." in told.replace(
        "\n", " "
    )
    assert "\x1b" not in told


def test_a_real_difference_is_said_with_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"best": 1, "other": 0, "pages": 42, "difference": estimate(0.03), "p": 0.0005, "same": False, "shown": True}
    told = shown(capsys, [row(), row(model="m-Q8_0.gguf", label="Q8_0")], [pair]).replace("\n", " ")
    assert "Q8_0 reads better than Q4_K_M: CER lower by 3.0 points (3.0 to 4.0; paired, 42 pages, p = 0.0005)." in told
    assert "no loops, no empty answers" in told


def test_what_failed_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    lost = [{"page": f"p{n}", "why": "no room", "do": []} for n in range(5)]
    failed = row(label="a", status="failed", error="it died", do=["fewer --image-tokens"], answered=0)
    told = shown(capsys, [failed, row(label="b", answered=10, status="stopped"), row(label="c", failed_pages=lost)], [])
    for said in (
        "a: it died",
        "  fewer --image-tokens",
        "b: 10 of 42 pages",
        "c, p0: no room",
        "c: 5 pages failed in all",
    ):
        assert said in told
    assert "pages" in told.splitlines()[0]
