"""The real llama-server with the software GPU, as it would be found beside an Ollama."""

from __future__ import annotations

import os

from qwenops.runtime.devices import list_devices
from qwenops.runtime.types import Runtime
from tests.support.parts import layout, software_gpu_environment


def software_runtime(**environment: str) -> Runtime:
    """Its devices as it lists them, under the software GPU's environment and what is given beside it."""
    shown = {**software_gpu_environment(), **environment}
    devices, backends, _ = list_devices(layout().llama_server, {**os.environ, **shown})
    return Runtime(
        place="local",
        url="http://127.0.0.1:11434",
        llama_server_path=layout().llama_server,
        devices=devices,
        backends=backends,
        environment=shown,
    )
