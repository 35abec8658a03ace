"""The doctor tells a server that is stopped from one that hangs, is something else, or is elsewhere."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest

from qwenops.machine.detect import detect
from qwenops.runtime.discover import discover
from qwenops.setup.doctor_checks import attention_kernels, server
from qwenops.setup.findings import Finding, Patient
from qwenops.setup.versions import INSTALL
from tests.runtime.test_client import answering, free_port, silent_socket


def finding(host: str) -> Finding:
    """What is found of a server at this address, on a machine without an Ollama."""
    runtime = replace(discover(host, probe_devices=False), ollama_path=None)
    (found,) = server(Patient(detect("none"), runtime))
    assert (found.level, found.code) == ("problem", "server")
    return found


def test_a_hung_server_is_named_and_no_install_is_offered() -> None:
    with silent_socket() as host:
        found = finding(host)
    assert found.observed == f"The server at http://{host} did not answer within 3 s"
    assert re.fullmatch(rf"process {os.getpid()} \(.+\) holds port {host.rpartition(':')[2]}", found.evidence)
    assert "restart" in found.do[0]
    assert INSTALL not in found.do


def test_what_is_not_ollama_is_said_to_be_so() -> None:
    with answering(200, b"<html>") as host:
        found = finding(host)
    assert "is not Ollama" in found.observed
    assert found.do == ("set OLLAMA_HOST to the Ollama server's host:port",)


def test_another_machine_is_not_this_one() -> None:
    found = finding("no-such-host.invalid:1")
    assert found.evidence == "the address is another machine's"
    assert INSTALL not in found.do


def test_where_nothing_listens_and_nothing_is_installed_it_is_to_be_installed() -> None:
    found = finding(f"127.0.0.1:{free_port()}")
    assert found.observed == "not installed"
    assert found.do[0] == INSTALL


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ("GTX 1080", "neither FlashAttention 2 nor 3"),
        ("RTX 2080 Ti", "neither FlashAttention 2 nor 3"),
        ("RTX 3060 12GB", "FlashAttention 2, not 3 (Hopper's alone)"),
        ("RTX 4090", "FlashAttention 2, not 3 (Hopper's alone)"),
        ("H100 80GB", "FlashAttention 2 and 3"),
        ("RTX 5090", "FlashAttention 2 where it was built for this card; 3 is for Hopper alone"),
    ],
)
def test_a_card_has_its_flash_attention_and_ollama_its_own(gpu: str, said: str) -> None:
    machine = detect(gpu)
    (found,) = attention_kernels(Patient(machine, discover("127.0.0.1:9", probe_devices=False)))
    assert found.level == "ok"
    assert f": {said}" in found.title
    assert found.title.endswith("; Ollama uses llama.cpp's own kernels instead")


def test_cards_of_other_makers_and_unknown_ones_are_left_alone() -> None:
    for gpu in ("rocm:16GiB", "vulkan:8GiB", "cuda:12GiB", "none"):
        assert not list(attention_kernels(Patient(detect(gpu), discover("127.0.0.1:9", probe_devices=False))))
