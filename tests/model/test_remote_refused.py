"""Servers that lie, stall, loop or want a login: refused in bounded time and memory; tokens go to the hub alone."""

from __future__ import annotations

import gzip
import json
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput, NotAGGUF, PartMissing, QwenopsError
from qwenops.model.hub import list_files, parse_hub, remote_file, token
from qwenops.model.reference import read_references
from qwenops.paths import cache_dir
from qwenops.units import MIB
from tests.model.elsewhere import QUICK, REPO, read_one
from tests.model.make import Gguf, model_file, string, strings
from tests.support.web import Request, Web, certificate, drip, proxying, serving

pytestmark = pytest.mark.usefixtures("own_environment")


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: Web, cdn: Web, monkeypatch: pytest.MonkeyPatch, shelf: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
    hub.token = "hf_secret"
    read_references([f"hf:{REPO}"])
    assert all(r.headers.get("Authorization") == "Bearer hf_secret" for r in hub.requests)
    read_one(cdn.file("/m.gguf", shelf / "Eyes-8B-Q6_K.gguf"))
    # a loop through another host and back does not carry it either
    hub.token = None
    back = cdn.redirect("/back", hub.file("/again.gguf", shelf / "Eyes-8B-Q6_K.gguf"))
    read_one(hub.redirect("/there.gguf", back))
    assert "Authorization" not in hub.requests[-1].headers
    assert not any("Authorization" in r.headers for r in cdn.requests)
    kept = b"".join(f.read_bytes() for f in cache_dir().rglob("*") if f.is_file() and f.suffix != ".gguf")
    assert b"secret" not in kept


@pytest.mark.parametrize("place", ["HF_TOKEN", "HF_HOME", "HF_TOKEN_PATH", "nowhere", "disabled"])
def test_the_token_is_found_where_the_official_client_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    if place in ("HF_TOKEN", "disabled"):
        monkeypatch.setenv("HF_TOKEN", " hf_x \n")
    if place in ("HF_HOME", "HF_TOKEN_PATH"):
        file = tmp_path / "home" / "token"
        file.parent.mkdir()
        file.write_text("hf_y\n")
        monkeypatch.setenv(place, str(file if place == "HF_TOKEN_PATH" else file.parent))
    if place == "disabled":
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    script = (
        "from huggingface_hub.utils import build_hf_headers as b; print(b().get('authorization', '')[len('Bearer '):])"
    )
    theirs = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    ours = token()
    assert (ours.secret if ours else "") == theirs
    assert ours is None or theirs not in repr(ours)


def test_the_official_client_sees_the_same_files_at_the_same_addresses(hub: Web, cdn: Web) -> None:
    reference = parse_hub(f"hf:{REPO}")
    ours = [
        (f.path, f.size_bytes, f.content, remote_file(reference, f).url) for f in list_files(reference, offline=False)
    ]
    script = f"""
import json
from huggingface_hub import HfApi, hf_hub_url
info = HfApi().model_info({REPO!r}, files_metadata=True)
url = lambda name: hf_hub_url({REPO!r}, name, revision=info.sha)
rows = [(s.rfilename, s.size, "sha256 " + s.lfs.sha256, url(s.rfilename)) for s in info.siblings]
print(json.dumps(rows))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])] == ours
    asked = [r.path for r in hub.requests if r.path.startswith("/api/models/")]
    assert len(set(asked)) == 1, asked


def answering(status: int, headers: dict[str, str], body: bytes = b"") -> Callable[[Web, Any, Request], bool]:
    def bad(web: Web, handler: Any, request: Request) -> bool:
        handler.answer(request, status, headers, body)
        return True

    return bad


GOOD = Gguf(pairs=[string("general.architecture", "llama")]).content()
PAGE = b"<!doctype html><title>Sign in</title>"


def ranged(said: str, body: bytes = GOOD, **more: str) -> Callable[[Web, Any, Request], bool]:
    return answering(206, {"Content-Range": said, **more}, body)


LIES: dict[str, tuple[Any, type[QwenopsError], str]] = {
    "a page": (answering(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE), NotAGGUF, "web page.*login"),
    "a page that says nothing": (answering(200, {}, PAGE), NotAGGUF, "web page.*login"),
    "login": (answering(401, {}), PartMissing, r"wants a login .*status 401"),
    "forbidden": (answering(403, {}), PartMissing, r"wants a login .*status 403"),
    "nothing there": (answering(404, {}), BadInput, "is not there"),
    "too many": (answering(429, {"Retry-After": "60"}), PartMissing, "too many requests"),
    "broken": (answering(502, {}), PartMissing, "status 502"),
    "another start": (ranged("bytes 5-23/24", GOOD[5:]), BadInput, "asked for bytes 0 to"),
    "beyond its end": (ranged("bytes 0-63/24", GOOD), BadInput, "answers with 'bytes 0-63/24'"),
    "a length that differs": (ranged("bytes 0-999/4000", GOOD), BadInput, "a length of"),
    "no range at all": (ranged("", GOOD), BadInput, "answers with ''"),
    "huge numbers": (ranged("bytes 0-" + "9" * 400 + "/" + "9" * 400, GOOD), BadInput, "asked for bytes"),
    "several ranges": (ranged("", GOOD, **{"Content-Type": "multipart/byteranges; boundary=x"}), BadInput, "asked for"),
    "compressed": (
        answering(200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(1 << 20))),
        BadInput,
        "comes compressed",
    ),
    "empty": (answering(200, {}), NotAGGUF, "the file is empty"),
    "nothing at byte 0": (answering(416, {"Content-Range": "bytes */0"}), NotAGGUF, "nothing is at byte 0"),
    "another file": (answering(200, {}, b"PK\x03\x04" + bytes(100)), NotAGGUF, "is a zip archive"),
    "no HTTP": (lambda w, h, r: bool(h.wfile.write(b"SSH-2.0-OpenSSH\r\n")), PartMissing, "not answer as a web server"),
    "a length of words": (answering(200, {"Content-Length": "much"}, GOOD), BadInput, "gives a length of 'much'"),
    "breaks off": (answering(200, {"Content-Length": "4000"}, GOOD[:9]), PartMissing, "broke off at byte 9"),
    "a string of 10 GB": (
        ranged(
            f"bytes 0-{len(GOOD)}/20000000000",
            struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q", 10**10) + GOOD[: len(GOOD) - 31],
        ),
        NotAGGUF,
        "the header is longer than",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_bad_answer_is_refused_with_its_reason(host: Web, lie: str) -> None:
    host.bad, error, said = LIES[lie]
    began = time.monotonic()
    with pytest.raises(error, match=f"(?s){said}"):
        read_one(f"{host.url}/m.gguf", limits=QUICK)
    assert time.monotonic() - began < 5
    assert len(host.requests) <= 6


def test_a_size_that_is_not_the_lists_is_refused(hub: Web, cdn: Web, shelf: Path) -> None:
    digest = next(path for path, file in cdn.files.items() if file.name == "Eyes-8B-Q6_K.gguf")
    cdn.files[digest] = shelf / "Eyes-8B-Q8_0.gguf"
    with pytest.raises(BadInput, match=r"contradicts itself: .* bytes by the list, .* by the server"):
        read_references([f"hf:{REPO}:Q6_K"])


def test_a_file_that_changes_between_two_ranges_is_refused(host: Web, shelf: Path) -> None:
    url = host.file("/m.gguf", shelf / "Wide-Q8_0.gguf")

    def other(web: Web, handler: Any, request: Request) -> bool:
        if len(web.requests) > 1:
            web.files["/m.gguf"] = shelf / "Eyes-8B-Q8_0.gguf"
        return False

    host.bad = other
    with pytest.raises(PartMissing, match="changed while it was read"):
        read_one(url)


@pytest.mark.parametrize("what", ["silent", "drips its headers", "drips its body"])
def test_a_server_that_stalls_is_left(host: Web, what: str) -> None:
    def stall(web: Web, handler: Any, request: Request) -> bool:
        if what == "silent":
            time.sleep(4)
        elif what == "drips its headers":
            drip(handler, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 60, 0.2)
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n")
            drip(handler, GOOD[:24] + bytes(60), 0.2)
        return True

    host.bad = stall
    began = time.monotonic()
    with pytest.raises(PartMissing, match=r"did not (answer|finish) within"):
        read_one(f"{host.url}/m.gguf", limits=QUICK)
    assert time.monotonic() - began < 4


def test_headers_without_end_are_refused(host: Web) -> None:
    def flood(web: Web, handler: Any, request: Request) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(2000):
            handler.wfile.write(b"X-More: " + b"a" * 30_000 + b"\r\n")
        return True

    host.bad = flood
    with pytest.raises(PartMissing):
        read_one(f"{host.url}/m.gguf", limits=QUICK)


def test_a_listing_without_end_is_refused(host: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", host.url)

    def flood(web: Web, handler: Any, request: Request) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
        for _ in range(1000):
            handler.wfile.write(b"[" * 65536)
        return True

    host.bad = flood
    with pytest.raises(BadInput, match="answers with more than"):
        read_references(["hf:a/b"])


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"not json", b"[" * 100_000, b'{"siblings": [{"rfilename": 7}]}', b'{"siblings": null}']
)
def test_a_listing_that_is_none_is_named(host: Web, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    host.pages["/api/models/a/b"] = (200, {}, body)
    with pytest.raises(PartMissing, match="is not the hub"):
        read_references(["hf:a/b"])


def test_a_gated_repository_says_what_to_do(hub: Web) -> None:
    hub.token = "hf_other"
    with pytest.raises(PartMissing, match="wants a login") as caught:
        read_references([f"hf:{REPO}"])
    assert any("HF_TOKEN" in step for step in caught.value.do)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("/loop.gguf", "redirects more than 5 times"),
        ("http://example.com/x.gguf", "not encrypted"),
        ("ftp://127.0.0.1/x.gguf", "neither https nor http"),
        ("file:///etc/passwd", "names no host"),
        ("http://user:word@127.0.0.1/x", "carries a user or a password"),
        ("http://127.0.0.1:99999/x", "is not an address"),
    ],
)
def test_a_redirect_is_not_followed_anywhere(host: Web, to: str, said: str) -> None:
    url = host.redirect("/loop.gguf", to)
    with pytest.raises(BadInput, match=said):
        read_one(url)
    assert len(host.requests) <= 6


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        ("http://example.com/x.gguf", BadInput, "not encrypted"),
        ("https://user:word@example.com/x.gguf", BadInput, "carries a user or a password"),
        ("https://", BadInput, "names no host"),
        ("https://[::1/x.gguf", BadInput, "is not an address"),
        ("hf:only-a-name", BadInput, "is not the name of a repository"),
        ("hf:a/../../b", BadInput, "is not the name of a repository"),
        ("ollama:a b", BadInput, "not a model name"),
        ("http://127.0.0.1:9/x.gguf", PartMissing, "cannot be reached: Connection refused"),
        ("https://name.invalid/x.gguf", PartMissing, "the host of https://name.invalid/x.gguf is not known"),
    ],
)
def test_a_wrong_reference_is_named(
    monkeypatch: pytest.MonkeyPatch, reference: str, error: type[QwenopsError], said: str
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(error, match=said) as caught:
        read_one(reference)
    assert "word" not in caught.value.message.replace("password", "")


def test_a_signature_in_an_address_is_neither_shown_nor_kept(host: Web, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_one(f"{host.url}/gone.gguf?X-Signature=secret")
    assert "secret" not in caught.value.message
    model = read_one(host.file("/m.gguf", model_file(tmp_path / "m.gguf")) + "?X-Signature=secret")
    assert "secret" not in model.source
    assert not any(b"secret" in f.read_bytes() for f in cache_dir().rglob("*") if f.is_file())


def test_this_machine_is_never_asked_through_a_proxy_and_others_are(
    host: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:word@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        read_one(host.file("/m.gguf", model_file(tmp_path / "m.gguf")))
        assert not proxy.requests
        with pytest.raises(PartMissing, match="cannot be reached: Tunnel connection failed: 501") as caught:
            read_one("https://example.com/x.gguf")
        assert "word" not in str(caught.value)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's certificate that only tmp_path/cert.pem vouches for."""
    made = certificate(tmp_path, "models.example")
    if made is None:
        pytest.skip("no openssl to make a certificate with")
    return made


def test_a_certificate_that_nobody_signed_is_not_trusted(tls: ssl.SSLContext, tmp_path: Path) -> None:
    with serving(tls=tls) as web:
        url = web.file("/m.gguf", model_file(tmp_path / "m.gguf")).replace("http:", "https:")
        with pytest.raises(PartMissing, match="certificate that is not trusted"):
            read_one(url, limits=QUICK)
        assert not web.requests


def test_a_host_elsewhere_is_reached_through_the_proxy_of_the_environment(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(tls=tls) as web, proxying(web) as (port, heads):
        monkeypatch.setenv("https_proxy", f"http://me:word@127.0.0.1:{port}")
        web.file("/m.gguf", model_file(tmp_path / "m.gguf", general__name="far away"))
        assert read_one("https://models.example/m.gguf").name == "far away"
        assert [head.split()[:2] for head in heads] == [["CONNECT", "models.example:443"]]
        assert "Proxy-Authorization: Basic bWU6d29yZA==" in heads[0]
        assert not {"Authorization", "Proxy-Authorization"} & set(web.requests[0].headers)
        # an unknown name behind the same certificate is not taken for the known one
        with pytest.raises(PartMissing, match="certificate that is not trusted"):
            read_one("https://other.example/m.gguf")


def test_a_cache_that_cannot_be_written_is_named(host: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("QWENOPS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(PartMissing, match="a header cannot be kept in"):
        read_one(host.file("/m.gguf", model_file(tmp_path / "m.gguf")))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_largest_vocabularies_take_little_memory(host: Web, tmp_path: Path) -> None:
    """Strings up to the bound of a header: refused or read within 256 MB, in a process of its own."""
    tokens = strings("tokenizer.ggml.tokens", ["x" * 40] * 700_000)
    file = Gguf(pairs=[string("general.architecture", "llama"), tokens]).write(tmp_path / "big.gguf")
    assert file.stat().st_size > 32 * MIB
    url = host.file("/big.gguf", file)
    script = f"""
import re
from pathlib import Path
from qwenops.errors import NotAGGUF
from qwenops.model.reference import read_references
try:
    read_references([{url!r}])
except NotAGGUF as e:
    print(e.message)
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    message, peak = done.stdout.splitlines()
    assert "no model's is longer than" in message
    assert int(peak) * 1024 < 256_000_000
