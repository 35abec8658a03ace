"""One load for real: ghosts of true shapes, and two ways to start them, each ended once the buffers stand.

Through Ollama, as a user's request does it, and through the same llama-server with the flags and the environment that
Ollama gives it, which is faster. The buffers stand, and are logged, before the model is warmed up; what comes after
says nothing about memory and takes long on a CPU that plays GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from qwenops.machine.types import Device
from qwenops.memory.probe_question import question_of
from qwenops.memory.probe_run import listen, scratch_folder
from qwenops.memory.types import LoadSettings
from qwenops.model.read import read_model
from qwenops.model.types import Model
from qwenops.runtime.devices import list_devices
from qwenops.runtime.envconfig import relevant
from qwenops.runtime.find import llama_server_build, this_os
from qwenops.runtime.fit_target import FIT_TARGET
from qwenops.runtime.flags import flags_of, server_environment
from qwenops.runtime.types import Backend, Runtime
from qwenops.units import MIB
from scripts.verify.cases import Case
from tests.support.parts import layout, software_gpu_environment
from tests.support.server import OllamaServer, start_ollama
from tests.support.shapes import write_text, write_vision

LOAD_SECONDS = 240


class Lab(Protocol):
    """Somewhere to load a model: the runtime that would be asked about it, and the load itself."""

    runtime: Runtime

    def load(self, model: Model, settings: LoadSettings) -> str:
        """Load, let go, and return the log of it."""

    def close(self) -> None:
        """Leave nothing behind."""


class Ghosts:
    """Files of true headers without data, each written once. A name is a digest's, so that a store takes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def model(self, case: Case) -> Model:
        """The ghost of a case's model, with its projector."""
        text, eyes = (self._path(digest) if digest else None for digest in case.ghosts)
        assert text is not None
        if not text.exists():
            write_text(text, case.dims, case.quant)
        if eyes is not None and case.eyes is not None and not eyes.exists():
            write_vision(eyes, case.eyes)
        return read_model(text, mmproj=eyes)

    def _path(self, digest: str) -> Path:
        # Not the digest of the contents: gigabytes of zeros need not be hashed, and the server does not check.
        return self._folder / f"sha256-{digest}"


def environment_of(case: Case, target_mib: int | None) -> dict[str, str]:
    """The environment of a server for this case."""
    target = {} if target_mib is None else {FIT_TARGET: str(target_mib)}
    return {**software_gpu_environment(), **case.environment, **target}


class ServerLab:
    """llama-server alone, under Ollama's flags and environment."""

    def __init__(self, environment: Mapping[str, str], devices: tuple[Device, ...]) -> None:
        backends = tuple(Backend(d.name, "Vulkan", "0") for d in devices)
        self.runtime = Runtime(
            place="local",
            url="",
            version="",
            ollama_path=layout().ollama,
            llama_server_path=layout().llama_server,
            llama_server_build=llama_server_build(layout().llama_server, {**os.environ, **environment}),
            devices=devices,
            backends=backends,
            environment=dict(environment),
        )

    def load(self, model: Model, settings: LoadSettings) -> str:
        """Load until the buffers stand; the process is ended there."""
        question = question_of(model, settings, self.runtime, self.runtime.devices)
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA_", "LLAMA_ARG_"))}
        environment = server_environment(
            question.load,
            question.facts,
            {**outside, **self.runtime.environment},
            llama_server=layout().llama_server,
            backends=self.runtime.backends,
            os=this_os(),
        )
        with scratch_folder() as folder:
            address = ["--host", str(folder / "s.sock")]
            flags = flags_of(question.load, question.facts, question.options, listen=address, os=this_os())
            command = [str(layout().llama_server), *flags]
            text, _ = listen(command, environment, lambda line: _stands(model, line), LOAD_SECONDS)
        return text

    def close(self) -> None:
        """Nothing is left running."""


@cache
def listed_devices(wanted: int) -> tuple[Device, ...]:
    """The software GPU as llama-server lists it, as often as it is asked to."""
    one, *_ = list_devices(layout().llama_server, {**os.environ, **software_gpu_environment()})[0]
    return tuple(replace(one, name=f"Vulkan{i}") for i in range(wanted))


class OllamaLab:
    """One real Ollama server with a store of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._server: OllamaServer = start_ollama(folder, settings={"OLLAMA_DEBUG": "1", **environment})
        devices, backends, _ = list_devices(layout().llama_server, self._server.env, ollama=layout().ollama)
        self.runtime = Runtime(
            place="local",
            url=self._server.url,
            version=str(self._ask("/api/version")["version"]),
            ollama_path=layout().ollama,
            llama_server_path=layout().llama_server,
            llama_server_build=llama_server_build(layout().llama_server, self._server.env),
            devices=devices,
            backends=backends,
            environment=relevant(self._server.env),
            pid=self._server.pid,
        )

    def load(self, model: Model, settings: LoadSettings) -> str:
        """Register the ghost, ask for it, and end the load once the buffers stand."""
        name = self._registered(model)
        options: dict[str, Any] = {"num_ctx": settings.num_ctx, "num_batch": settings.batch}
        if settings.gpu_layers != "auto":
            total = int(model.hparam("block_count")) + 1
            options["num_gpu"] = total if settings.gpu_layers == "all" else settings.gpu_layers
        before = len(self._server.log())
        body = {"model": name, "options": options, "keep_alive": 600}
        request = threading.Thread(target=self._start, args=(body,))
        request.start()
        while request.is_alive() and not _stands(model, self._server.log()[before:]):
            time.sleep(0.05)
        self._end_load()
        request.join()
        while self._ask("/api/ps")["models"]:
            time.sleep(0.05)
        return self._server.log()[before:]

    def close(self) -> None:
        """End the server and its children."""
        self._server.stop()

    def _registered(self, model: Model) -> str:
        """The ghosts as blobs of the store with a manifest, as a linked model would be."""
        blobs = self._server.store / "blobs"
        blobs.mkdir(exist_ok=True)
        layers = [_layer("model", _linked(blobs, model.path))]
        if model.projector:
            layers.append(_layer("projector", _linked(blobs, model.projector.path)))
        config = _stored(
            blobs,
            {
                "model_format": "gguf",
                "model_family": model.architecture,
                "model_families": [model.architecture],
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            },
        )
        docker = "application/vnd.docker"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{docker}.distribution.manifest.v2+json",
            "config": {"mediaType": f"{docker}.container.image.v1+json", **config},
            "layers": layers,
        }
        name = "g" + re.sub(r"[^a-f0-9]", "", "".join(layer["digest"][7:19] for layer in layers))
        path = self._server.store / "manifests/registry.ollama.ai/library" / name / "latest"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest))
        return name

    def _start(self, body: dict[str, Any]) -> None:
        # The load is cut short, so the request ends with an error; whether it loaded is what the log says.
        with contextlib.suppress(OSError):
            self._ask("/api/generate", body)

    def _end_load(self) -> None:
        import psutil

        for child in psutil.Process(self._server.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps({"stream": False, **body}).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self._server.url + path, data), timeout=LOAD_SECONDS) as answer:
            return dict(json.load(answer))


def versions(runtime: Runtime) -> str:
    """What the loads ran on."""
    device = runtime.devices[0]
    server = f"Ollama {runtime.version}, " if runtime.version else ""
    return f"{server}llama-server {runtime.llama_server_build}, {device.description} of {device.total_bytes // MIB} MiB"


def _stands(model: Model, log: str) -> bool:
    """Whether every buffer was logged: a projector's come last, and not every architecture is warmed up."""
    last = "loaded multimodal model" if model.projector else "warming up the model"
    return last in log or "llama_server: model loaded" in log


def _linked(blobs: Path, ghost: Path) -> Path:
    blob = blobs / ghost.name
    if not blob.exists():
        os.link(ghost, blob)
    return blob


def _layer(kind: str, blob: Path) -> dict[str, Any]:
    digest = blob.name.replace("-", ":", 1)
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": blob.stat().st_size}


def _stored(blobs: Path, value: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / f"sha256-{digest}").write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}
