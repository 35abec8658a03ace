"""Whether the server is new enough for a model: Ollama stores REQUIRES and enforces it nowhere, so we do."""

from __future__ import annotations

from qwenops.errors import ServerDown
from qwenops.model.types import Model
from qwenops.runtime.types import Runtime

# Since 0.30 every GGUF runs in llama-server, which is what all our figures speak of.
OLDEST_OLLAMA = (0, 30, 0)
INSTALL = "curl -fsSL https://ollama.com/install.sh | sh"


def version_of(text: str | None) -> tuple[int, ...]:
    """The numbers of a version, without what follows a dash; empty for a build that does not say (0.0.0)."""
    parts = (text or "").split("-")[0].split(".")
    numbers = tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else ()
    return numbers if any(numbers) else ()


def check_server_knows(model: Model, runtime: Runtime) -> None:
    """Raise ServerDown when the server is older than what the model's architecture asks for."""
    from qwenops.modelfile.families import family_of, requires

    wanted = version_of(requires(family_of(model))) or OLDEST_OLLAMA
    there = version_of(runtime.version)
    if there and there < wanted:
        needs = ".".join(map(str, wanted))
        raise ServerDown(
            f"Ollama {runtime.version} is too old for {model.name} ({model.architecture}), which needs {needs}",
            do=INSTALL,
        )
