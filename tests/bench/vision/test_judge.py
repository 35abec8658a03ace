"""An answer is judged by what it says, however it says it; a box in the coordinates of its family."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.bench.vision.ground import Floats, box_in, in_picture, iou, system_of, words_for
from qwenops.bench.vision.judge import judge
from qwenops.bench.vision.scenes import Scene

COUNT = Scene("c", "count", "How many red circles are in the picture? Answer with a number.", "5", ())
LIES = Scene("r", "relation", "Is the red circle left of the blue square?", "left", (), shapes=("circle", "square"))
DIFFERS = Scene("d", "difference", "Which?", "red triangle", ())
FOUND = Scene("g", "ground", "red square", "red square", (), box=(320, 120, 480, 240))  # of 640 x 480


@pytest.mark.parametrize(
    ("scene", "said", "right"),
    [
        (COUNT, "5", True),
        (COUNT, "There are **five** red circles.", True),
        (COUNT, "2 above and 3 below, so 5", True),
        (COUNT, "<think>4? no</think>5", True),
        (COUNT, "５", True),
        (COUNT, "6", False),
        (COUNT, "15", False),
        (COUNT, "", False),
        (LIES, "Left.", True),
        (LIES, "The blue square is to the right of the red circle.", True),
        (LIES, "right", False),
        (LIES, "left or right", False),
        (DIFFERS, "The red triangle", True),
        (DIFFERS, "Color: Red\nShape: Triangle", True),
        (DIFFERS, "红色三角形", True),
        (DIFFERS, "red", False),
        (DIFFERS, "the blue triangle", False),
        (DIFFERS, "a red triangle or a blue one", False),
    ],
)
def test_answers(scene: Scene, said: str, right: bool) -> None:
    assert judge(scene, said).right is right


@pytest.mark.parametrize(
    ("said", "box"),
    [
        ('```json\n[{"bbox_2d": [500, 250, 750, 500], "label": "red square"}]\n```', (500, 250, 750, 500)),
        ('{"bbox": [750, 500, 500, 250]}', (500, 250, 750, 500)),
        ("It is at [500, 250, 750, 500].", (500, 250, 750, 500)),
        ("<|box_start|>(500,250),(750,500)<|box_end|>", (500, 250, 750, 500)),
        ("(500, 250, 750.5, 500)", (500, 250, 750.5, 500)),
        ('[{"label": "a"}, {"bbox_2d": [1, 2, 3, 4]}]', (1, 2, 3, 4)),
        ('{"bbox_2d": [1, 2, 3]}', None),
        ('{"bbox_2d": ["a", 2, 3, 4]}', None),
        ("in the middle", None),
        ("[" * 30000, None),
    ],
)
def test_a_box_is_found_in_what_was_said(said: str, box: Floats | None) -> None:
    assert box_in(said) == box


def test_the_same_box_in_the_coordinates_of_each_family() -> None:
    thousandths = '[{"bbox_2d": [500, 250, 750, 500]}]'
    pixels = '[{"bbox_2d": [588, 224, 882, 448]}]'  # of the picture resized to 1176 x 896
    assert judge(FOUND, thousandths, "thousandths", (1184, 896)).iou == 1
    assert judge(FOUND, pixels, "pixels", (1176, 896)).iou == pytest.approx(1)
    assert not judge(FOUND, pixels, "thousandths", (1176, 896)).right
    assert judge(FOUND, '[{"bbox_2d": [500, 250, 750, 390]}]', "thousandths").iou == pytest.approx(0.56)
    assert judge(FOUND, "nowhere", "thousandths") == judge(FOUND, "[9, 9, 9, 9]", "thousandths")
    assert [system_of(f) for f in ("qwen2.5-vl", "qwen3-vl", "qwen2-vl", "llava")] == [
        *("pixels", "thousandths", "thousandths", None),
    ]
    assert (
        words_for("qwen2.5-vl", "red square") == "Locate the red square, output its bbox coordinates using JSON format."
    )
    assert '"red square"' in words_for("qwen3-vl", "red square")


corner = st.floats(0, 1000)
boxes = st.tuples(corner, corner, corner, corner).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@given(boxes, boxes)
def test_overlap_is_a_share_the_same_both_ways_and_all_for_itself(one: Floats, other: Floats) -> None:
    assert 0 <= iou(one, other) <= 1 + 1e-9
    assert iou(one, other) == pytest.approx(iou(other, one))
    area = (one[2] - one[0]) * (one[3] - one[1])
    assert iou(one, one) == pytest.approx(1 if area > 0 else 0)


@given(boxes, st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
def test_scaling_both_boxes_leaves_their_overlap(box: Floats, size: tuple[int, int]) -> None:
    whole = (100.0, 100.0, 700.0, 600.0)
    scaled = [in_picture(b, "thousandths", size, size) for b in (box, whole)]
    assert iou(scaled[0], scaled[1]) == pytest.approx(iou(box, whole), abs=1e-6)
