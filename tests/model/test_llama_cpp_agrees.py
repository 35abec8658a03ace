"""llama.cpp itself as the judge: which headers load, which projectors match, how many tokens an image takes."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput
from qwenops.model.gguf_header import read_header
from qwenops.model.image_tokens import image_tokens
from qwenops.model.projector import check_projector, read_projector
from qwenops.model.read import read_model
from tests.model.test_gguf_header import LIES, healthy
from tests.support.tiny import TinyModel

pytestmark = pytest.mark.library


def ask(question: str, what: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.ask_llama_cpp", question],
        input=json.dumps(what),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def our_answer(path: Path) -> str | None:
    """None when we take the file, else why not."""
    try:
        read_header(path)
    except BadInput as refused:
        return refused.message
    return None


OURS_ALONE = (
    "is not text",  # llama.cpp takes any bytes as a name
    "is empty",  # and a tensor without one
    "bytes are missing",  # it looks at the length of the file later, when it loads
)


def damaged(count: int) -> list[bytes]:
    """Copies of a healthy file with one to three fields overwritten by numbers that hurt."""
    rng, whole = random.Random(7), healthy()
    numbers = (0, 1, 2, 3, 5, 8, 9, 13, 24, 31, 32, 33, 64, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
    # the vocabulary in the middle is long; the fields that matter are at both ends
    places = [*range(4, 190), *range(len(whole) - 500, len(whole) - 200)]
    copies = []
    for _ in range(count):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            width = rng.choice((1, 4, 8))
            at = rng.choice(places)
            content[at : at + width] = struct.pack("<Q", rng.choice(numbers))[:width]
        copies.append(bytes(content))
    return copies


def test_what_we_read_llama_cpp_reads_and_what_we_refuse_it_refuses(tmp_path: Path) -> None:
    paths = []
    lies = [made if isinstance(made, bytes) else made.content() for made, _ in LIES.values()]
    for i, content in enumerate([healthy(), *lies, *damaged(1500)]):
        paths.append(tmp_path / f"{i}.gguf")
        paths[-1].write_bytes(content)
    theirs = ask("headers", [str(p) for p in paths])
    ours = [our_answer(p) for p in paths]
    assert theirs[0]
    assert 100 < sum(theirs) < len(paths) - 100
    for path, accepted, refusal in zip(paths, theirs, ours, strict=True):
        if refusal is None:
            assert accepted, f"{path} is read here and refused by llama.cpp"
        elif accepted:
            assert any(reason in refusal for reason in OURS_ALONE), refusal


LIMITS = {"llama.cpp's own": (8, 4096), "Ollama's": (1024, 4096), "Qwen's advice": (256, 1280), "one size": (576, 576)}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("family", ["qwen3vl", "qwen25vl", "qwen35"])
def test_an_image_takes_the_tokens_that_llama_cpp_gives_it(
    request: pytest.FixtureRequest, family: str, limits: tuple[int, int]
) -> None:
    tiny: TinyModel = request.getfixturevalue(f"tiny_{family}")
    rng = random.Random(family)
    sizes = [(1, 1), (28, 28), (32, 48), (42, 14), (640, 480), (425, 550), (850, 1100), (1275, 1650), (2048, 2048)]
    sizes += [(rng.randint(1, 5000), rng.randint(1, 5000)) for _ in range(1000)]
    sizes += [(2064, 2048), (2550, 3300), (20_000, 10), (28 * 40 + 14, 32 * 40 + 16)]
    asked = {"model": str(tiny.model), "mmproj": str(tiny.projector), "limits": limits, "sizes": sizes}
    ours = [image_tokens(w, h, family, *limits) for w, h in sizes]
    cell = 28 if family == "qwen25vl" else 32
    assert [[s.width // cell, s.height // cell, s.tokens] for s in ours] == ask("images", asked)


@pytest.mark.parametrize("text", ["qwen3vl", "qwen25vl", "qwen35"])
@pytest.mark.parametrize("vision", ["qwen3vl", "qwen25vl", "qwen35"])
def test_a_projector_that_llama_cpp_refuses_is_refused_here(
    request: pytest.FixtureRequest, text: str, vision: str
) -> None:
    model: TinyModel = request.getfixturevalue(f"tiny_{text}")
    mmproj: TinyModel = request.getfixturevalue(f"tiny_{vision}")
    loads = ask("projector", {"model": str(model.model), "mmproj": str(mmproj.projector)})
    try:
        check_projector(read_model(model.model, None), read_projector(mmproj.projector))
    except BadInput:
        # llama.cpp looks at the width alone; the kinds of another family are refused here by name too
        assert text != vision
        assert not loads or {text, vision} == {"qwen25vl", "qwen35"}
    else:
        assert text == vision
        assert loads
