"""The page in a real browser: it opens offline, says nothing to the console, and its controls move what they should."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenops import history
from qwenops.model.read import read_variants
from qwenops.setup.answers import need_result
from qwenops.setup.report import report_result
from scripts.browser import Chromium, Page
from scripts.parts.layout import Layout
from tests.report.test_report_page import hostile_rows
from tests.support.report_rows import fill
from tests.support.shapes import TEXT, VISION, write_text, write_vision

pytestmark = pytest.mark.browser

CARD = "RTX 3060 12GB"
PHONE, DESKTOP = (360, 740), (1280, 800)
LOOKS = [(size, scheme) for size in (PHONE, DESKTOP) for scheme in ("light", "dark")]
IDS = ["phone light", "phone dark", "desktop light", "desktop dark"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Quants of a published model that sees, one that does not, a history of both, and their page."""
    place = tmp_path_factory.mktemp("page")
    models = place / "models"
    models.mkdir()
    for quant in ("Q8_0", "Q4_K_M"):
        write_text(models / f"qwen3-vl-2b-{quant}.gguf", TEXT["qwen3-vl-2b"], quant)
    write_vision(models / "mmproj-qwen3-vl-2b-F16.gguf", VISION["qwen3-vl-2b"])
    text_only = place / "smollm2-Q4_K_M.gguf"
    write_text(text_only, TEXT["smollm2-135m"], "Q4_K_M")
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("QWENOPS_HOME", str(place / "home"))
        with history.open() as kept:
            fill(kept, (*read_variants(models), *read_variants(text_only)))
        cards = (CARD, "4GiB", "cuda:12GiB,cuda:12GiB", "none")
        report_result((models, text_only), task="ocr", gpus=cards, output=place / "report.html")
        with history.open() as kept:
            kept.record_results(hostile_rows())
        report_result((), output=place / "hostile.html")
    return place


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Chromium, folder: Path) -> Page:
    return browser.open(folder / "report.html", width=1280, height=800)


def choose(page: Page, control: str, value: object) -> None:
    """Set a control as a hand does, with the event that follows."""
    page.run(
        f"(() => {{ const c = document.getElementById('x-{control}'); c.value = {json.dumps(str(value))};"
        "for (const name of ['input', 'change']) c.dispatchEvent(new Event(name, {bubbles: true})) })()"
    )


def text_of(page: Page, name: str) -> str:
    return str(page.run(f"document.getElementById('x-{name}').textContent"))


def bytes_shown(page: Page) -> dict[str, list[int]]:
    """The table of parts: a row of bytes by its name, a column a place."""
    return dict(
        page.run(
            "Object.fromEntries([...document.querySelectorAll('#x-parts tbody tr')].map(r => [r.cells[0].textContent,"
            "[...r.querySelectorAll('td')].map(c => Number(c.dataset.bytes))]))"
        )
    )


def context_steps(page: Page) -> list[int]:
    """The contexts that the chosen model can be asked."""
    chosen = "document.getElementById('x-model').value"
    return list(page.run(f"JSON.parse(document.getElementById('explorer-data').textContent).models[{chosen}].contexts"))


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=IDS)
@pytest.mark.parametrize("name", ["report.html", "hostile.html"])
def test_it_opens_without_a_word_to_the_console_or_a_request(
    browser: Chromium, folder: Path, name: str, size: tuple[int, int], scheme: str
) -> None:
    page = browser.open(folder / name, width=size[0], height=size[1], scheme=scheme)
    assert page.requests == [(folder / name).as_uri()]
    assert page.messages == []
    wide = page.run("[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
    assert wide == [size[0]] * 3
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.run("document.documentElement.scrollWidth") == size[0]
    dark = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 23)"
    assert dark == (scheme == "dark")


def test_a_request_would_have_been_seen_and_a_script_would_have_been_stopped(page: Page) -> None:
    page.run("document.body.append(Object.assign(new Image(), {src: 'http://example.invalid/x.png'}))")
    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert page.run("window.ran") is None
    assert any("Content Security Policy" in message for message in page.messages)


SETTINGS: list[dict[str, Any]] = [
    {"model": 0, "card": 0, "context": 2, "limit": 3, "kv": "f16", "flash": "auto"},
    {"model": 0, "card": 0, "context": 6, "limit": 0, "kv": "q8_0", "flash": "auto"},
    {"model": 1, "card": 1, "context": 4, "limit": 1, "kv": "q4_0", "flash": "auto"},
    {"model": 1, "card": 1, "context": 9, "limit": 3, "kv": "f16", "flash": "off"},
    {"model": 1, "card": 2, "context": 8, "limit": 2, "kv": "f16", "flash": "auto"},
    {"model": 0, "card": 3, "context": 3, "limit": 3, "kv": "f16", "flash": "auto"},
    {"model": 2, "card": 1, "context": 1, "limit": 0, "kv": "q8_0", "flash": "auto"},
]


@pytest.mark.parametrize("chosen", SETTINGS, ids=lambda s: " ".join(str(v) for v in s.values()))
def test_the_figures_and_the_verdict_are_those_of_need(page: Page, folder: Path, chosen: dict[str, Any]) -> None:
    for control, value in chosen.items():
        choose(page, control, value)
    words = re.findall(r"'[^']*'|\S+", text_of(page, "command"))
    assert words[:2] == ["qwenops", "need"]
    given = dict(zip(words[3::2], (w.strip("'") for w in words[4::2]), strict=True))
    path = next(folder.rglob(words[2]))
    data = need_result(
        path,
        None,
        gpu=given["--gpu"],
        rung="closed form",
        ctx=int(given["--ctx"]),
        ubatch=int(given.get("--ubatch", 512)),
        kv=given.get("--kv", "f16"),
        flash_attn=given.get("--flash-attn", "auto"),
        image_tokens=int(given.get("--image-tokens", 4096)),
    ).data
    shown = bytes_shown(page)
    used = [n for n in shown["total"] if n]  # one of two cards may be left out
    assert used == [*(d["total_bytes"] for d in data["devices"]), data["host"]["total_bytes"]]
    for name, part in (("weights", "weights"), ("KV cache", "kv"), ("compute", "compute"), ("other", "overhead")):
        devices = [d[f"{part}_bytes"] for d in data["devices"]]
        assert shown.get(name, [0] * len(devices))[: len(devices)] == devices
    if len(data["devices"]) == 1:
        assert (shown["at least"][0], shown["at most"][0]) == tuple(data["band_bytes"].values())
    word = {"yes": "Fits", "no": "Does not fit", "too close": "Too close to say"}[data["fits"]]
    assert word in text_of(page, "verdict")


def test_the_keyboard_moves_the_context_the_bar_and_the_verdict(page: Page) -> None:
    page.run("document.getElementById('x-context').focus()")
    page.press("Home")
    steps = context_steps(page)
    assert text_of(page, "context-said") == "2\u202f048"
    before = page.run("document.querySelector('#x-places svg rect:nth-of-type(3)').getBoundingClientRect().width")
    assert "Fits" in text_of(page, "verdict")
    page.press("ArrowRight", 2)
    assert text_of(page, "context-said").replace("\u202f", "") == str(steps[2])
    page.press("End")
    assert text_of(page, "context-said").replace("\u202f", "") == str(steps[-1])
    after = page.run("document.querySelector('#x-places svg rect:nth-of-type(3)').getBoundingClientRect().width")
    assert after > before
    assert "Does not fit" in text_of(page, "verdict")
    assert page.run("document.getElementById('x-context').getAttribute('aria-valuetext')") == f"{steps[-1]} tokens"


def test_pictures_are_counted_in_the_context_and_too_many_are_said(page: Page) -> None:
    choose(page, "context", 1)
    choose(page, "limit", 3)
    choose(page, "images", 1)
    assert "leaves" not in text_of(page, "tokens")
    assert "does not hold the pictures" in text_of(page, "verdict")
    choose(page, "images", 0)
    assert "does not hold" not in text_of(page, "verdict")
    choose(page, "model", 2)
    assert text_of(page, "tokens") == "The model reads no pictures."
    assert page.run("getComputedStyle(document.querySelector('.sees')).display") == "none"


def test_a_cache_that_needs_flash_attention_is_not_offered_without(page: Page) -> None:
    choose(page, "kv", "q8_0")
    choose(page, "flash", "off")
    assert page.run("document.getElementById('x-kv').value") == "f16"
    assert page.run("[...document.getElementById('x-kv').options].filter(o => o.disabled).length") == 2


def test_every_control_has_a_name_and_the_verdict_is_announced(page: Page) -> None:
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tree = page.tree()
    roles = {"combobox", "slider", "link", "DisclosureTriangle", "button", "region", "table", "image", "img"}
    used = [node for node in tree if node["role"] in roles]
    assert {"combobox", "slider", "table"} <= {node["role"] for node in used}
    assert [node for node in used if not node["name"]] == []
    names = {node["name"].split(" ")[0] for node in used if node["role"] in ("combobox", "slider")}
    assert {"Model", "Card", "Context", "Pictures", "Tokens", "KV", "Flash"} <= names
    assert page.run("document.getElementById('x-verdict').getAttribute('aria-live')") == "polite"
    assert any(node["role"] == "status" for node in tree)


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")], ids=["phone dark", "desktop light"])
def test_axe_finds_nothing(browser: Chromium, folder: Path, parts: Layout, size: tuple[int, int], scheme: str) -> None:
    """Every rule of axe-core, contrast among them, with all that can be opened open."""
    page = browser.open(folder / "report.html", width=size[0], height=size[1], scheme=scheme, reduced=True)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.run(parts.axe.read_text(encoding="utf-8") + ";0")
    done = page.run(
        "axe.run(document).then(r => ({passed: r.passes.map(p => p.id),"
        "violations: r.violations.map(v => `${v.id}: ${v.help}: ${v.nodes[0].html.slice(0, 120)}`)}))"
    )
    assert done["violations"] == []
    assert {"color-contrast", "label", "select-name"} <= set(done["passed"])


def test_on_paper_the_controls_are_gone_and_the_tables_open(page: Page) -> None:
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.look(width=794, height=1123, media="print")
    assert page.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert page.run("[...document.querySelectorAll('details')].every(d => d.open)")


def test_motion_is_still_for_who_asks_for_that(browser: Chromium, folder: Path) -> None:
    page = browser.open(folder / "report.html", width=1280, height=800, reduced=True)
    assert page.run("getComputedStyle(document.querySelector('#x-places svg rect')).transitionDuration") == "0s"
