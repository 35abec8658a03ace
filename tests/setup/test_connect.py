"""What clients are told: true of the real server, reachable from where they run, each with its source."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwenops.cli.connect import CLIENTS
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.runtime.bound import bound_addresses, only_loopback
from qwenops.runtime.client import Client
from qwenops.runtime.host import parse_host
from qwenops.runtime.types import Runtime
from qwenops.setup.connect import clients, conditions, filled, values_of
from qwenops.setup.connect_address import Address, address_for
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel

HOLDS = {"temperature", "top_p", "num_ctx", "no_num_ctx", "thinking", "pixels"}


def test_every_line_of_the_table_has_its_source_and_only_values_that_exist() -> None:
    assert set(clients()) == set(CLIENTS)
    runtime = Runtime(place="none", url="http://127.0.0.1:9")
    values = values_of("eyes", {"temperature": 0.7, "top_p": 0.8, "num_ctx": 8192}, Address("http://a:1"), runtime)
    values["pixels"] = "4194304"
    for client in clients().values():
        rows = [*client["settings"], *client["limits"]]
        assert all(row["source"] for row in rows)
        assert {row["when"] for row in rows if "when" in row} <= HOLDS
        told = filled(rows, values, frozenset(HOLDS))
        assert len(told) == len(rows)
        assert "$" not in json.dumps(told)
        assert client["runs_in"] in ("host", "docker")


@pytest.mark.parametrize(
    ("parameters", "capabilities", "holds"),
    [
        ({}, (), {"no_num_ctx"}),
        ({"num_ctx": 8192}, ("vision",), {"num_ctx"}),
        ({"num_ctx": "8192", "temperature": "0.7", "top_p": 1}, ("thinking",), HOLDS - {"no_num_ctx", "pixels"}),
    ],
)
def test_lines_hold_for_what_the_model_has(
    parameters: dict[str, Any], capabilities: tuple[str, ...], holds: set[str]
) -> None:
    runtime = Runtime(place="none", url="http://127.0.0.1:9")
    assert conditions(values_of("eyes", parameters, Address("http://a:1"), runtime), capabilities) == holds


@pytest.mark.parametrize(
    ("value", "told"), [(0.7, "0.7"), ("0.7", "0.7"), (1, "1"), (1.0, "1"), (0.699999988, "0.7"), (8192, "8192")]
)
def test_a_parameter_is_told_as_it_was_typed(value: Any, told: str) -> None:
    runtime = Runtime(place="none", url="http://127.0.0.1:9")
    assert values_of("eyes", {"temperature": value}, Address("http://a:1"), runtime)["temperature"] == told


HERE, WIDE = frozenset({"127.0.0.1"}), frozenset({"::"})


@pytest.mark.parametrize(
    ("server", "client", "changes", "url", "reach"),
    [
        pytest.param("", "host", {}, "http://127.0.0.1:11434", "yes", id="beside the server"),
        pytest.param("10.0.0.7", "docker", {}, "http://10.0.0.7:11434", "yes", id="another machine"),
        pytest.param("", "docker", {}, "http://host.docker.internal:11434", "no", id="loopback alone"),
        pytest.param("", "docker", {"bound": WIDE}, "http://host.docker.internal:11434", "yes", id="all addresses"),
        pytest.param("", "docker", {"bound": None}, "http://host.docker.internal:11434", "unknown", id="not seen"),
        pytest.param("", "docker", {"linux": False}, "http://host.docker.internal:11434", "yes", id="Docker Desktop"),
        pytest.param(
            "localhost:8080/ollama",
            "docker",
            {"bound": WIDE},
            "http://host.docker.internal:8080/ollama",
            "yes",
            id="path",
        ),
        pytest.param(
            "[::1]", "docker", {"bound": frozenset({"::1"})}, "http://host.docker.internal:11434", "no", id="v6"
        ),
    ],
)
def test_the_address_is_the_one_seen_from_where_the_client_runs(
    server: str, client: Any, changes: dict[str, Any], url: str, reach: str
) -> None:
    about: dict[str, Any] = {"place": "local", "bound": HERE, "linux": True, **changes}
    address = address_for(parse_host(server), client, **about)
    assert (address.url, address.reach) == (url, reach)
    assert bool(address.do) == bool(address.why) == (reach != "yes")
    if reach == "no":
        assert "qwenops server write OLLAMA_HOST=0.0.0.0:" in address.do[0]
    if changes.get("bound") is WIDE:
        assert "asks nobody for a password" in address.notes[-1]


def test_a_server_in_a_container_has_a_shorter_name() -> None:
    address = address_for(parse_host(""), "docker", place="container", bound=WIDE, linux=True)
    assert "http://ollama:11434" in address.notes[0]


@pytest.mark.parametrize(("family", "where"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0")])
def test_where_a_port_is_listened_on_is_read_from_the_system(family: socket.AddressFamily, where: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((where, 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = bound_addresses(port)
        if found is None:
            pytest.skip("this system shows no sockets to this user")
        assert found == {where}
        assert only_loopback(found) == (where == "127.0.0.1")
    assert bound_addresses(port) == frozenset()
    assert not only_loopback(frozenset())


@pytest.fixture
def eyes(start_server: Callable[..., OllamaServer], tiny_qwen3vl: TinyModel) -> OllamaServer:
    server = start_server(gpu=False)
    parameters = {"num_ctx": 4096, "temperature": 0.3, "top_p": 0.6, "top_k": 7}
    spec = Spec(shards=(tiny_qwen3vl.model,), projectors=(tiny_qwen3vl.projector,), parameters=parameters)
    register(spec, "eyes", runtime_of(server))
    return server


def environment_of(server: OllamaServer, home: Path) -> Mapping[str, str]:
    return {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(home)}


def posted(url: str, key: str, body: Mapping[str, Any]) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.server
@pytest.mark.slow
def test_what_openai_clients_are_told_is_so_on_the_real_server(eyes: OllamaServer, tmp_path: Path) -> None:
    told = qwenops("connect", "openai", "--json", env=environment_of(eyes, tmp_path))
    assert told.code == 0, told.err
    compile(told.data["snippet"]["text"], "snippet", "exec")
    given = {s["name"]: s["value"] for s in told.data["settings"]}
    png = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(png, "PNG")
    picture = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"

    def ask(url: str = picture, **more: Any) -> tuple[int, Any]:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Read it."}]
        body = {"model": given["model"], "messages": [{"role": "user", "content": parts}], **more}
        return posted(given["OPENAI_BASE_URL"], given["OPENAI_API_KEY"], body)

    def sampled() -> tuple[str, ...]:
        """top_k, top_p and temperature of the last request, by llama-server's own log."""
        found = re.findall(r"top_k = (\S+), top_p = (\S+),.* temp = (\S+)", eyes.log())
        return tuple(found[-1])

    status, answer = ask()
    assert status == 200
    assert answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["prompt_tokens"] > 1024
    assert sampled() == ("7", "1.000", "1.000")  # the model's top_k holds, its temperature and top_p do not
    ask(temperature=float(given["temperature"]), top_p=float(given["top_p"]))
    assert sampled() == ("7", "0.600", "0.300")

    assert ask(max_completion_tokens=2)[1]["choices"][0]["finish_reason"] == "stop"
    assert ask(max_tokens=2)[1]["choices"][0]["finish_reason"] == "length"
    assert ask(options={"num_ctx": 2048}, num_ctx=2048)[0] == 200
    assert Client(eyes.url).ps()[0].context_length == 4096
    status, refused = ask("http://127.0.0.1:9/picture.png")
    assert status == 400
    assert "base64" in refused["error"]["message"]
    schema = {"type": "object", "properties": {"paid": {"type": "boolean"}}, "required": ["paid"]}
    by_schema = {"type": "json_schema", "json_schema": {"name": "bill", "schema": schema}}
    status, answer = ask(response_format=by_schema, temperature=0, max_tokens=200)
    assert status == 200
    assert answer["choices"][0]["message"]["content"].lstrip().startswith("{")


@pytest.mark.server
@pytest.mark.slow
def test_a_client_in_a_container_is_told_that_it_cannot_reach_a_server_on_loopback(
    eyes: OllamaServer, tmp_path: Path, smollm: Path
) -> None:
    env = environment_of(eyes, tmp_path)
    told = qwenops("connect", "paperless-gpt", "eyes", "--json", env=env)
    assert told.code == 1
    assert told.data["reach"] == "no"
    port = eyes.url.rpartition(":")[2]
    for line in (
        f'OLLAMA_HOST: "http://host.docker.internal:{port}"',
        'VISION_LLM_MODEL: "eyes"',
        'VISION_LLM_TEMPERATURE: "0.3"',
        'IMAGE_MAX_TOTAL_PIXELS: "4194304"',
        '- "host.docker.internal:host-gateway"',
    ):
        assert line in told.data["snippet"]["text"]
    shown = qwenops("connect", "paperless-gpt", "eyes", env=env)
    assert told.data["snippet"]["text"] in shown.out
    assert f"qwenops server write OLLAMA_HOST=0.0.0.0:{port}" in shown.out

    beside = qwenops("connect", "paperless-gpt", "eyes", "--in", "host", env=env)
    assert beside.code == 0
    assert f"OLLAMA_HOST={eyes.url}\n" in beside.out

    register(Spec(shards=(smollm,), parameters={"num_ctx": 256}), "blind", runtime_of(eyes))
    assert qwenops("connect", "paperless-gpt", "blind", env=env).code == 1
    assert "takes no pictures" in qwenops("connect", "open-webui", "blind", "--in", "host", env=env).err
    for args, said in ((("paperless",), "is not one of"), (("openai", "nobody"), "no model nobody")):
        wrong = qwenops("connect", *args, env=env)
        assert (wrong.code, wrong.out) == (2, "")
        assert said in wrong.err
