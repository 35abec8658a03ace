"""OLLAMA_HOST is read as Ollama reads it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.runtime.host import Endpoint, endpoint, parse_host
from tests.runtime.oracle_build import Oracle

CASES = [
    ("", "http://127.0.0.1:11434"),
    ("1.2.3.4", "http://1.2.3.4:11434"),
    ("1.2.3.4:", "http://1.2.3.4:11434"),
    (":1234", "http://127.0.0.1:1234"),
    ("example.com", "http://example.com:11434"),
    ("example.com:56789", "http://example.com:56789"),
    ("http://example.com", "http://example.com:80"),
    ("https://example.com", "https://example.com:443"),
    ("https://example.com:1234/ollama/", "https://example.com:1234/ollama"),
    ("example.com/ollama", "http://example.com:11434/ollama"),
    ("ollama.com", "https://ollama.com:443"),
    ("[::1]", "http://[::1]:11434"),
    ("[::1]:1337", "http://[::1]:1337"),
    ("::1", "http://[::1]:11434"),
    ("0.0.0.0", "http://127.0.0.1:11434"),
    ("0.0.0.0:8080", "http://127.0.0.1:8080"),
    ("[::]:8080", "http://[::1]:8080"),
    (" \"'1.2.3.4'\" ", "http://1.2.3.4:11434"),
    ("example.com:99999", "http://example.com:11434"),
    ("https://example.com:-1", "https://example.com:443"),
    ("ftp://example.com", "ftp://example.com:11434"),
    ("::ffff:10.0.0.1", "http://10.0.0.1:11434"),
]


@pytest.mark.parametrize(("text", "url"), CASES)
def test_a_value_of_ollama_host_names_this_server(text: str, url: str) -> None:
    assert endpoint(None, {"OLLAMA_HOST": text}).url == url


def test_an_address_that_was_typed_goes_before_the_environment() -> None:
    assert endpoint("10.0.0.5", {"OLLAMA_HOST": "10.0.0.9"}).url == "http://10.0.0.5:11434"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("LocalHost.", True),
        ("10.0.0.1", False),
        ("a.b", False),
    ],
)
def test_loopback_is_told_by_the_address(host: str, loopback: bool) -> None:
    assert Endpoint(host=host).loopback is loopback


@given(st.text(max_size=40))
def test_anything_can_be_read(text: str) -> None:
    assert 0 <= parse_host(text).port_number <= 65535


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_reads_every_value_so(oracle: Oracle) -> None:
    schemes = ["", "http://", "https://", "x://"]
    pieces = ["", "[", "]", ":", "::", "::1", "1.2.3.4", "a.b", "/", "/p/q", "80", "0", "-1", "70000"]
    texts = [text for text, _ in CASES]
    texts += ["".join(parts) for parts in product(schemes, pieces, pieces, pieces, ("", ":80", "/x"))]
    answers = oracle.ask({"op": "host", "env": {"OLLAMA_HOST": text}} for text in texts)
    for text, answer in zip(texts, answers, strict=True):
        ours = parse_host(text)
        assert (ours.scheme, ours.netloc, ours.path) == (answer["scheme"], answer["host"], answer["path"]), text
        if ours.host:
            assert endpoint(text).netloc == answer["connectable"], text
