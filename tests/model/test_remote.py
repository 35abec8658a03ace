"""A model that is not here is read by its header alone: few requests, few bytes, and its parts are found."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput, PartMissing
from qwenops.model import header_cache
from qwenops.model.gguf_header import read_header
from qwenops.model.quantizer import Recipe
from qwenops.model.quants import WHOLE_FILE_BITS
from qwenops.model.read import model_key, read_model
from qwenops.model.reference import download, read_references
from qwenops.model.requant import Requantizer, header_bytes
from qwenops.paths import cache_dir
from qwenops.units import MIB
from tests.model.elsewhere import REPO, read_one, same
from tests.model.make import model_file
from tests.support.web import Request, Web

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.mark.parametrize(("file", "most_requests"), [("Eyes-8B-Q4_K_M.gguf", 1), ("Wide-Q8_0.gguf", 2)])
def test_a_header_is_read_by_few_ranges(host: Web, shelf: Path, file: str, most_requests: int) -> None:
    model = read_one(host.file(f"/{file}", shelf / file))
    assert same(model, read_model(shelf / file, mmproj=None))
    assert len(host.requests) <= most_requests
    assert host.sent_bytes <= 16 * MIB


def test_a_whole_repository_costs_one_vocabulary(hub: Web, cdn: Web, shelf: Path) -> None:
    models = read_references([f"hf:{REPO}"])
    for model, quant in zip(models, ("Q8_0", "Q6_K", "Q4_K_M"), strict=True):
        assert same(model, read_model(shelf / f"Eyes-8B-{quant}.gguf"))
        assert model.remote == f"hf:{REPO}:Eyes-8B-{quant}.gguf"
        assert model.projector
        assert model.projector.remote == f"hf:{REPO}:mmproj-F16.gguf"
    assert cdn.sent_bytes < 9 * MIB
    # nobody is asked for anything else: the list, then each file at the hub and at its network
    assert [r.path for r in hub.requests if "/resolve/" not in r.path] == [f"/api/models/{REPO}?blobs=true"]
    assert len(hub.requests) == 1 + 4
    assert len(cdn.requests) == 1 + 2 * 2 + 1


def test_every_quant_of_a_repository_comes_to_less_than_16_mib(
    host: Web, cdn: Web, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    labels = [label for label in WHOLE_FILE_BITS if label not in ("F16", "F32")]
    host.repository("a/all", {f"Eyes-8B-{label}.gguf": shelf / "Eyes-8B-Q6_K.gguf" for label in labels}, cdn)
    assert len(read_references(["hf:a/all"])) == len(labels) > 25
    assert host.sent_bytes + cdn.sent_bytes < 16_000_000
    began = time.monotonic()
    read_references(["hf:a/all"], offline=True)
    print(f"{len(labels)} kept headers: {time.monotonic() - began:.2f} s")


def test_a_server_that_gives_less_than_it_is_asked_for_is_asked_again(host: Web, shelf: Path) -> None:
    file = shelf / "Eyes-8B-Q6_K.gguf"
    size = file.stat().st_size

    def little(web: Web, handler: Any, request: Request) -> bool:
        start = int(request.headers["Range"].removeprefix("bytes=").partition("-")[0])
        with file.open("rb") as source:
            source.seek(start)
            body = source.read(MIB)
        said = f"bytes {start}-{start + len(body) - 1}/{size}"
        handler.answer(request, 206, {"Content-Range": said, "ETag": '"x"'}, body)
        return True

    host.bad = little
    assert same(read_one(f"{host.url}/{file.name}"), read_model(file, mmproj=None))
    assert len(host.requests) == 6


def test_variants_with_another_vocabulary_are_read_straight_through(host: Web, tmp_path: Path) -> None:
    files = []
    for quant, word in (("Q4_0", "a"), ("Q8_0", "b")):
        file = tmp_path / f"odd-{quant}.gguf"
        tokens = [f"{word}{i}" for i in range(90_000)]
        model_file(file, general__name="odd", tokenizer__ggml__tokens=tokens)
        files.append(file)
    models = read_references([host.file(f"/{f.name}", f) for f in files])
    assert [model_key(m) for m in models] == [model_key(read_model(f, None)) for f in reversed(files)]


def test_a_server_that_ignores_ranges_is_left_as_soon_as_the_header_ended(host: Web, shelf: Path) -> None:
    host.ranges = False
    model = read_one(host.file("/m.gguf", shelf / "Eyes-8B-Q8_0.gguf"))
    assert model.file_bytes == (shelf / "Eyes-8B-Q8_0.gguf").stat().st_size > 8 * 1024 * MIB
    assert len(host.requests) == 1
    time.sleep(0.2)
    assert host.sent_bytes < 32 * MIB


def test_what_was_read_is_asked_for_by_one_small_request(host: Web, shelf: Path) -> None:
    url = host.file("/m.gguf", shelf / "Eyes-8B-Q4_K_M.gguf")
    first = read_one(url)
    host.requests.clear()
    assert model_key(read_one(url)) == model_key(first)
    assert [(r.sent_bytes, "If-None-Match" in r.headers) for r in host.requests] == [(0, True)]


def test_a_file_that_changed_is_read_anew(host: Web, shelf: Path, tmp_path: Path) -> None:
    file = model_file(tmp_path / "m.gguf", general__name="before")
    url = host.file("/m.gguf", file)
    assert read_one(url).name == "before"
    model_file(file, general__name="after it")
    assert read_one(url).name == "after it"


def test_without_a_validator_nothing_is_believed(host: Web, tmp_path: Path) -> None:
    host.etags = False
    file = model_file(tmp_path / "m.gguf", general__name="before")
    url = host.file("/m.gguf", file)
    read_one(url)
    os.truncate(model_file(file, general__name="after_"), file.stat().st_size)
    assert read_one(url).name == "after_"


def test_a_repository_read_before_costs_one_request(hub: Web, cdn: Web) -> None:
    read_references([f"hf:{REPO}"])
    hub.requests.clear()
    cdn.requests.clear()
    assert len(read_references([f"hf:{REPO}"])) == 3
    assert (len(hub.requests), len(cdn.requests)) == (1, 0)


@pytest.mark.parametrize("by", ["argument", "HF_HUB_OFFLINE"])
def test_offline_only_what_is_kept_is_used(hub: Web, cdn: Web, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    read_references([f"hf:{REPO}:Q6_K"])
    asked = len(hub.requests) + len(cdn.requests)
    if by == "HF_HUB_OFFLINE":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = by == "argument"
    model = read_one(f"hf:{REPO}:Q6_K", offline=offline)
    assert model.quant == "Q6_K"
    assert model.projector
    with pytest.raises(PartMissing, match="was not read before"):
        read_references([f"hf:{REPO}:Q8_0"], offline=offline)
    with pytest.raises(PartMissing, match="was not read before"):
        read_references(["hf:maker/Other-GGUF"], offline=offline)
    assert len(hub.requests) + len(cdn.requests) == asked


def test_a_damaged_cache_is_read_anew(hub: Web) -> None:
    read_references([f"hf:{REPO}:Q6_K"])
    for file in (cache_dir() / "headers").glob("*/*.gguf"):
        file.write_bytes(file.read_bytes()[:-9] + b"\xff" * 9)
    assert read_one(f"hf:{REPO}:Q6_K").quant == "Q6_K"


def test_the_cache_stays_below_its_bound(tmp_path: Path) -> None:
    for n in range(30):
        file = model_file(tmp_path / "m.gguf", general__name="x" * 300)
        header_cache.keep(f"https://h/{n}", "m.gguf", "etag x", file.read_bytes(), read_header(file), most_bytes=6000)
        assert header_cache.find(f"https://h/{n}")
    kept = [f.stat().st_size for f in header_cache.folder().glob("*/*")]
    assert 3000 < sum(kept) <= 6000
    assert not header_cache.find("https://h/0")


@pytest.mark.parametrize(
    ("wanted", "quants"),
    [
        ("", ["Q8_0", "Q6_K", "Q4_K_M"]),
        (":Q4_K_M", ["Q4_K_M"]),
        (":q8_0", ["Q8_0"]),
        (":Eyes-8B-Q6_K.gguf", ["Q6_K"]),
    ],
)
def test_a_quant_or_a_file_is_found(hub: Web, wanted: str, quants: list[str]) -> None:
    assert [m.quant for m in read_references([f"hf:{REPO}{wanted}"])] == quants


def test_dynamic_quants_and_shards_in_folders_are_found(
    host: Web, cdn: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    names = ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf", "m-UD-Q4_K_XL.gguf"]
    (tmp_path / "BF16").mkdir()
    for n, name in enumerate(names[:2]):
        keys: dict[str, Any] = {"split__no": n, "split__count": 2, "general__name": "m"}
        model_file(tmp_path / name, tensors=((f"blk.{n}.ffn_up.weight", (32, 4), 0),), **keys)
    model_file(tmp_path / names[2], general__name="m")
    model_file(tmp_path / "imatrix.gguf", general__type="imatrix")
    host.repository("a/b", {name: tmp_path / name for name in [*names, "imatrix.gguf"]}, cdn)
    split, dynamic = read_references(["hf:a/b"])
    assert (split.quant, [p.name for p in split.shards]) == (
        "BF16",
        ["m-BF16-00001-of-00002.gguf", "m-BF16-00002-of-00002.gguf"],
    )
    assert model_key(split) == model_key(read_model(tmp_path / names[1]))
    assert dynamic.quant == read_one("hf:a/b:Q4_K_XL").quant == "UD-Q4_K_XL"
    with pytest.raises(BadInput, match=r"has no Q2_K; it has BF16, UD-Q4_K_XL"):
        read_references(["hf:a/b:Q2_K"])


def test_an_address_on_the_hub_finds_the_projector_too(hub: Web) -> None:
    for kind in ("resolve", "blob"):
        model = read_one(f"{hub.url}/{REPO}/{kind}/main/Eyes-8B-Q6_K.gguf")
        assert model.remote == f"hf:{REPO}:Eyes-8B-Q6_K.gguf"
        assert model.projector
    assert len(read_references([f"{hub.url}/{REPO}"])) == 3


def test_another_projector_can_be_named(hub: Web, shelf: Path) -> None:
    for given in (f"hf:{REPO}:mmproj-F32.gguf", shelf / "mmproj-F32.gguf"):
        model = read_one(f"hf:{REPO}:Q6_K", mmproj=given)
        assert model.projector
        assert model.projector.path.name == "mmproj-F32.gguf"


def test_shards_at_an_address_are_found_beside_it(host: Web, tmp_path: Path) -> None:
    for n in range(3):
        name = f"m-{n + 1:05d}-of-00003.gguf"
        keys: dict[str, Any] = {"split__no": n, "split__count": 3}
        host.file(f"/x/{name}", model_file(tmp_path / name, tensors=((f"blk.{n}.w", (32, 4), 0),), **keys))
    assert len(read_one(f"{host.url}/x/m-00002-of-00003.gguf").shards) == 3
    del host.files["/x/m-00003-of-00003.gguf"]
    with pytest.raises(BadInput, match=r"m-00003-of-00003.gguf is not there \(status 404\)"):
        read_one(f"{host.url}/x/m-00001-of-00003.gguf")


def test_a_name_of_ollamas_registry_is_read_by_its_manifest(
    host: Web, cdn: Web, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWENOPS_REGISTRY", host.url)
    layers = {"model": shelf / "Eyes-8B-Q4_K_M.gguf", "projector": shelf / "mmproj-F16.gguf"}
    host.registry("library/eyes", "8b-q4_K_M", layers, cdn)
    host.json("/v2/library/eyes/manifests/cloud", {"layers": []})
    model = read_one("ollama:eyes:8b-q4_K_M")
    assert same(model, read_model(shelf / "Eyes-8B-Q4_K_M.gguf"))
    assert model.remote == "ollama:eyes:8b-q4_K_M"
    assert len(host.requests) == 3
    assert len(cdn.requests) == 2
    read_one("ollama:eyes:8b-q4_K_M")
    assert len(host.requests) == 4
    assert read_one("ollama:eyes:8b-q4_K_M", offline=True).projector
    with pytest.raises(BadInput, match="ollama:eyes:cloud has no GGUF: it runs in Ollama's cloud"):
        read_one("ollama:eyes:cloud")
    with pytest.raises(BadInput, match=r"ollama:eyes:latest is not there \(status 404\)"):
        read_one("ollama:eyes")


@pytest.mark.parametrize(
    ("reference", "command"),
    [
        ("hf:a/b:m.gguf", "hf download a/b m.gguf --local-dir ."),
        ("hf:a/b@v1:Q4_0", 'hf download a/b --include "*Q4_0*.gguf" "*mmproj*.gguf" --revision v1 --local-dir .'),
        ("ollama:qwen3-vl:8b", "ollama pull qwen3-vl:8b"),
        ("https://h/x.gguf", "curl -L -O -C - 'https://h/x.gguf'"),
    ],
)
def test_what_brings_a_reference_here(reference: str, command: str) -> None:
    assert download(reference) == command


def test_a_variant_of_what_is_not_here_is_the_variant_of_the_file(hub: Web, cdn: Web, shelf: Path) -> None:
    """Also where the header was put together from another variant's vocabulary."""
    for model in read_references([f"hf:{REPO}"]):
        local = read_model(shelf / model.path.name, mmproj=None)
        elsewhere, here = (Requantizer(m).variant(Recipe("IQ4_NL")) for m in (model, local))
        assert elsewhere.model.header == here.model.header
        assert header_bytes(elsewhere, model) == header_bytes(here, local)
        assert elsewhere.model.source == f"{model.source} as IQ4_NL"
