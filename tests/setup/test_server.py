"""qwenops server on a real Ollama: what is in force, what is written, and who stays loaded beside whom."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.runtime.client import Client
from qwenops.units import MIB
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.shapes import TEXT, VISION, write_text, write_vision

pytestmark = [pytest.mark.server, pytest.mark.slow]


def env_of(server: OllamaServer, tmp_path: Path) -> Mapping[str, str]:
    return {
        "OLLAMA_HOST": server.url,
        "OLLAMA_MODELS": str(server.store),
        "QWENOPS_HOME": str(tmp_path / "home"),
    }


def test_show_and_check_read_the_servers_own_environment(
    start_server: Callable[..., OllamaServer], tmp_path: Path
) -> None:
    server = start_server(settings={"OLLAMA_KV_CACHE_TYPE": "q8_0"}, gpu=False)
    env = env_of(server, tmp_path)
    shown = {s["name"]: s for s in qwenops("server", "show", "--json", env=env).data["settings"]}
    assert shown["OLLAMA_KV_CACHE_TYPE"]["value"] == "q8_0"
    assert "process" in shown["OLLAMA_KV_CACHE_TYPE"]["source"]
    assert qwenops("server", "check", "OLLAMA_KV_CACHE_TYPE=q8_0", env=env).code == 0
    wrong = qwenops("server", "check", "OLLAMA_KV_CACHE_TYPE=q4_0", "OLLAMA_NUM_PARALLEL=1", env=env)
    assert wrong.code == 1
    assert "no" in wrong.out


def test_write_shows_and_changes_nothing(start_server: Callable[..., OllamaServer], tmp_path: Path) -> None:
    env = env_of(start_server(gpu=False), tmp_path)
    answer = qwenops("server", "write", "OLLAMA_KV_CACHE_TYPE=q8_0", env=env)
    assert answer.code == 0, answer.err
    assert "Nothing was written or changed." in answer.out
    target = tmp_path / "90-qwenops.conf"
    assert qwenops("server", "write", "OLLAMA_KV_CACHE_TYPE=q8_0", "--as", "systemd", "-o", target, env=env).code == 0
    assert target.read_text() == '[Service]\nEnvironment="OLLAMA_KV_CACHE_TYPE=q8_0"\n'


# the shape of each model, that of its projector, its context
CASES: dict[str, list[tuple[str, str | None, int]]] = {
    "two that stay": [("qwen3-0.6b", None, 2048), ("smollm2-135m", None, 2048)],
    "one leaves": [("qwen3-0.6b", None, 8192), ("qwen2.5-0.5b", None, 16384)],
    "three": [("smollm2-135m", None, 2048), ("qwen2.5-0.5b", None, 4096), ("qwen3-0.6b", None, 4096)],
    "a projector on the GPU": [("qwen3.5-0.8b", "qwen3.5-0.8b", 8192), ("smollm2-135m", None, 2048)],
    "a projector without room": [("qwen3-0.6b", None, 8192), ("qwen3.5-0.8b", "qwen3.5-0.8b", 8192)],
    "one with a projector leaves": [("qwen3.5-0.8b", "qwen3.5-0.8b", 4096), ("qwen3-vl-2b", "qwen3-vl-2b", 2048)],
    "three, one sees": [
        ("smollm2-135m", None, 2048),
        ("qwen3.5-0.8b", "qwen3.5-0.8b", 4096),
        ("qwen2.5-0.5b", None, 2048),
    ],
    "three, one sees on the CPU": [
        ("qwen3-0.6b", None, 4096),
        ("qwen2.5-0.5b", None, 4096),
        ("qwen3.5-0.8b", "qwen3.5-0.8b", 4096),
    ],
    "two caches": [("gemma-3-270m", None, 8192), ("qwen3-0.6b", None, 4096)],
}


@pytest.mark.vulkan
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_plan_is_what_the_server_then_does(
    start_server: Callable[..., OllamaServer], tmp_path: Path, case: Sequence[tuple[str, str | None, int]]
) -> None:
    server = start_server()
    env = env_of(server, tmp_path)
    names = []
    for number, (shape, sees, num_ctx) in enumerate(case):
        path = write_text(tmp_path / f"{number}.gguf", TEXT[shape], "Q4_K_M", vocabulary="full")
        eyes = (write_vision(tmp_path / f"mmproj-{number}.gguf", VISION[sees]),) if sees else ()
        spec = Spec(shards=(path,), projectors=eyes, parameters={"num_ctx": num_ctx})
        register(spec, f"m{number}", runtime_of(server))
        names.append(f"m{number}")
    planned = qwenops("server", "plan", *names, "--json", env=env)
    assert planned.code in (0, 1), planned.err
    client = Client(server.url)
    for name, stay in zip(names, planned.data["stays"], strict=True):
        before = len(server.log())
        client.load(name)
        log = server.log()[before:]
        layers = re.findall(r"offloaded (\d+)/(\d+) layers", log)[-1]
        assert (stay["layers"]["on_device"], stay["layers"]["total"]) == tuple(map(int, layers)), name
        clip = re.findall(r"CLIP using (\S+) backend", log)
        if clip:
            assert (stay["projector_on_cpu"] is not None) == (clip[-1] == "CPU"), name
        time.sleep(0.5)
    seen = {m.name: m.size_vram_bytes for m in client.ps()}
    assert set(planned.data["loaded"]) == set(seen)
    counted = {s["name"]: s["size_vram_bytes"] for s in planned.data["stays"]}
    for name, size in seen.items():
        assert abs(counted[name] - size) < MIB, name


@pytest.mark.vulkan
def test_names_of_one_file_share_what_is_loaded_or_load_it_anew(
    start_server: Callable[..., OllamaServer], tmp_path: Path
) -> None:
    server = start_server()
    path = write_text(tmp_path / "one.gguf", TEXT["smollm2-135m"], "Q4_K_M", vocabulary="full")
    for name, params in (("a", {"num_ctx": 2048}), ("b", {"num_ctx": 2048, "top_k": 5}), ("c", {"num_ctx": 4096})):
        register(Spec(shards=(path,), parameters=params), name, runtime_of(server))
    planned = qwenops("server", "plan", "a", "b", "c", "--json", env=env_of(server, tmp_path)).data["stays"]
    client, loads = Client(server.url), []
    for name in ("a", "b", "c"):
        before = len(server.log())
        client.load(name)
        loads.append("offloaded" in server.log()[before:])
        time.sleep(0.5)
    assert loads == [s["shares"] is None for s in planned] == [True, False, True]
    assert planned[2]["sends_away"] == ["a:latest"]
    assert [m.name.removesuffix(":latest") for m in client.ps()] == ["c"]
