"""Settings of the Qwen-Image models: what their makers say, what is refused, and a source for everything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.image.catalogue import ImageModel, find, models, sources
from qwenops.image.compare import compare
from qwenops.image.settings import choose_settings
from qwenops.image.sizes import choose_size, multiple_of
from tests.support.cli import qwenops

QWEN = [model for model in models().values() if model.is_qwen]


@pytest.mark.parametrize(
    ("name", "wish", "values"),
    [
        ("qwen-image", {}, {"size": "1664x928", "steps": 50, "true_cfg_scale": 4.0, "negative_prompt": " "}),
        ("2512", {"size": "1:1"}, {"size": "1328x1328", "steps": 50, "true_cfg_scale": 4.0, "flow_shift": 3.0}),
        ("2512", {"size": "2:3"}, {"size": "1056x1584"}),
        ("2512", {"preset": "portrait"}, {"size": "1104x1472", "steps": 50}),
        ("edit-2509", {}, {"steps": 40, "true_cfg_scale": 4.0}),
        ("edit-2511", {}, {"steps": 40, "negative_prompt": " "}),
        ("2.1", {}, {"size": "2048x2048", "steps": 40, "true_cfg_scale": None, "flow_shift": None}),
        ("2.1", {"size": "16:9"}, {"size": "2752x1536"}),
        ("qwen-image", {"lightning_steps": 8}, {"steps": 8, "true_cfg_scale": 1.0, "flow_shift": 3.0}),
        ("2512", {"lightning_steps": 4, "steps": 6}, {"steps": 6, "true_cfg_scale": 1.0}),
        ("2512", {"size": "1024x1024"}, {"size": "1024x1024"}),
        ("2.1", {"size": "2048x2080"}, {"size": "2048x2080"}),
    ],
)
def test_the_settings_are_those_that_were_published(
    name: str, wish: dict[str, object], values: dict[str, object]
) -> None:
    chosen = choose_settings(find(name), **wish)
    for key, value in values.items():
        assert (str(chosen.size) if key == "size" else getattr(chosen, key)) == value, key


def test_the_negative_prompt_of_2512_is_its_makers_to_the_letter() -> None:
    assert choose_settings(find("2512")).negative_prompt == (
        "低分辨率，低画质，肢体畸形，手指畸形，画面过饱和，蜡像感，人脸无细节，过度光滑，画面具有AI感。构图混乱。文字模糊，扭曲。"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("2512", "--guidance-scale", "3.5"), "takes no such input"),
        (("2512", "--temperature", "0.1"), "draws no tokens"),
        (("2512", "--scheduler", "karras"), "without Karras sigmas"),
        (("2512", "--sampler", "dpm++2m_karras"), "without Karras sigmas"),
        (("2512", "--sampler", "magic"), "euler"),
        (("2512", "--scheduler", "bong"), "not a schedule"),
        (("qwen-image", "--size", "1472x1140"), "--size 1472x1104"),
        (("2512", "--size", "1000x1000"), "--size 992x992"),
        (("2.1", "--size", "1328x1328"), "multiples of 32"),
        (("2512", "--size", "21:9"), "16:9 (1664x928)"),
        (("2512", "--size", "huge"), "not a size"),
        (("2512", "--size", "0x16"), "not a size for a picture"),
        (("2512", "--size", "99999x16"), "not a size for a picture"),
        (("2512", "--preset", "text", "--lightning", "4"), "better without one"),
        (("2512", "--lightning", "5"), "--lightning with 4"),
        (("2.1", "--lightning", "4"), "leave --lightning out"),
        (("flux-dev",), "there for comparison"),
        (("qwen-imag",), "did you mean qwen-image"),
    ],
)
def test_what_has_no_effect_or_is_not_allowed_is_refused_with_the_reason(args: tuple[str, ...], said: str) -> None:
    answer = qwenops("image", "settings", *args)
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert answer.out == ""


def test_a_size_far_above_the_official_ones_is_allowed_and_said() -> None:
    answer = qwenops("image", "settings", "2512", "--size", "2512x2512")
    assert answer.code == 0
    assert "3.6 times" in answer.err


@pytest.mark.parametrize("model", QWEN, ids=lambda model: model.id)
def test_every_value_of_the_settings_has_a_source_or_says_that_it_is_unknown(model: ImageModel) -> None:
    data = json.loads(qwenops("image", "settings", model.id, "--json").out)
    named = {one["id"] for one in data["sources"]}
    for name, setting in data["settings"].items():
        assert setting["from"] in named or (setting["from"], setting["value"]) == ("unknown", None), name
    for one in data["lightning_sets"]:
        assert one["from"] in named


@pytest.mark.parametrize("model", QWEN, ids=lambda model: model.id)
def test_official_sizes_are_allowed_and_true_to_their_ratio(model: ImageModel) -> None:
    official = model.sizes
    assert "1:1" in official
    for ratio, (width, height) in official.items():
        across, down = map(int, ratio.split(":"))
        assert width % multiple_of(model) == height % multiple_of(model) == 0
        assert width / height == pytest.approx(across / down, rel=0.02)


@given(st.integers(1, 8192), st.integers(1, 8192))
def test_a_size_is_taken_as_it_is_or_refused_with_one_that_is_taken(width: int, height: int) -> None:
    model = find("2512")
    try:
        size = choose_size(model, f"{width}x{height}")
    except BadInput as refused:
        again = choose_size(model, refused.do[0].removeprefix("--size "))
        assert again.width % 16 == again.height % 16 == 0
    else:
        assert (size.width, size.height) == (width, height)


def test_every_row_of_the_comparison_rests_on_named_sources() -> None:
    rows = compare(list(models().values()))
    assert {"qwen-image", "qwen-image-2512", "qwen-image-edit-2509", "qwen-image-edit-2511", "qwen-image-2.1"} <= {
        row.model.id for row in rows
    }
    assert {"flux.1-dev", "flux.1-schnell", "flux.2-dev"} <= {row.model.id for row in rows}
    for row in rows:
        assert row.cells["licence"].value, row.model.id
        assert row.cells["steps"].value, row.model.id
        for name, cell in row.cells.items():
            assert (cell.value is None) == (cell.source is None), f"{row.model.id} {name}"
    assert all(one.url.startswith("https://") and one.title for one in sources().values())


def test_the_comparison_says_unknown_where_nobody_published_anything_and_gives_every_source() -> None:
    shown = qwenops("image", "compare")
    assert shown.code == 0
    assert "unknown" in shown.out
    data = json.loads(qwenops("image", "compare", "--json").out)
    ids = {one["id"] for one in data["sources"]}
    for row in data["models"]:
        assert row["from"]
        assert set(row["from"].values()) <= ids
        assert {name for name in row["from"] if row[name] is None} == set()
    picked = json.loads(qwenops("image", "compare", "2512", "flux.2", "--json").out)
    assert [row["title"] for row in picked["models"]] == ["Qwen-Image-2512", "FLUX.2 [dev]"]
