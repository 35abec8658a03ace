"""The Ollama API, as much of it as qwenops uses: one method an endpoint, every call with a time limit.

Source of the endpoints and fields: api/types.go, api/client.go and server/routes.go, Ollama v0.32.14.
Errors everywhere: ServerDown when the server does not answer as it must, ServerRefused (a CheckFailed) with the
server's own words when it does and says no.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenops.errors import CheckFailed
from qwenops.runtime.host import Endpoint, endpoint
from qwenops.runtime.types import LoadedModel
from qwenops.runtime.wire import ServerRefused, ask, exchange, lines

__all__ = ["Client", "Generation", "ServerRefused", "TaggedModel"]

# Short questions are answered from memory; loading and reading a picture on a CPU takes minutes.
QUICK_S = 10.0
LONG_S = 900.0
_CHUNK = 1 << 20

Image = bytes | Path


@dataclass(frozen=True)
class TaggedModel:
    """One model of the server's list (/api/tags). `digest` is the manifest's, `size_bytes` the sum of its layers."""

    name: str
    digest: str
    size_bytes: int
    details: Mapping[str, Any] = field(default_factory=dict)
    remote_host: str | None = None


@dataclass(frozen=True)
class Generation:
    """What a generate or chat call gave. Times in seconds; `raw` is the server's last message as it came."""

    text: str
    thinking: str
    done_reason: str
    prompt_tokens: int
    tokens: int
    load_s: float
    prompt_s: float
    generate_s: float
    total_s: float
    raw: Mapping[str, Any] = field(default_factory=dict)


class Client:
    """One server. Nothing is kept open between calls."""

    def __init__(self, where: Endpoint | str | None = None, *, quick_s: float = QUICK_S) -> None:
        self.where = where if isinstance(where, Endpoint) else endpoint(where)
        self.quick_s = quick_s

    @property
    def url(self) -> str:
        """The server's address."""
        return self.where.url

    def version(self, *, timeout_s: float | None = None) -> str:
        """The server's version, such as '0.32.14': the cheapest question that only Ollama answers."""
        answer = ask(self.where, "GET", "/api/version", timeout_s=timeout_s or self.quick_s)
        return str(answer.get("version", ""))

    def tags(self) -> tuple[TaggedModel, ...]:
        """The models that the server lists."""
        answer = ask(self.where, "GET", "/api/tags", timeout_s=self.quick_s)
        return tuple(
            TaggedModel(
                name=str(m.get("name", "")),
                digest=str(m.get("digest", "")),
                size_bytes=int(m.get("size") or 0),
                details=m.get("details") or {},
                remote_host=m.get("remote_host") or None,
            )
            for m in answer.get("models") or ()
        )

    def ps(self) -> tuple[LoadedModel, ...]:
        """The models that are loaded now. size_vram leaves a projector's weights out and is 0 on the CPU."""
        answer = ask(self.where, "GET", "/api/ps", timeout_s=self.quick_s)
        return tuple(
            LoadedModel(
                name=str(m.get("name", "")),
                size_bytes=int(m.get("size") or 0),
                size_vram_bytes=int(m.get("size_vram") or 0),
                context_length=int(m["context_length"]) if m.get("context_length") else None,
                digest=str(m.get("digest", "")),
            )
            for m in answer.get("models") or ()
        )

    def show(self, name: str, *, verbose: bool = False) -> dict[str, Any]:
        """Everything that the server says about a model: modelfile, parameters, template, details, capabilities."""
        body = {"model": name, "verbose": verbose}
        return ask(self.where, "POST", "/api/show", body=body, timeout_s=max(self.quick_s, 60.0))

    def generate(
        self,
        name: str,
        prompt: str,
        *,
        images: Sequence[Image] = (),
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = None,
        system: str | None = None,
        think: bool | str | None = None,
        raw: bool = False,
        on_text: Callable[[str], None] | None = None,
        timeout_s: float = LONG_S,
        **fields: Any,
    ) -> Generation:
        """One answer to one prompt; `on_text` gets the text as it comes. `timeout_s` limits each silence."""
        body: dict[str, Any] = {"model": name, "prompt": prompt, "stream": on_text is not None, **fields}
        if images:
            body["images"] = [_encoded(i) for i in images]
        if raw:
            body["raw"] = True
        body.update(_given(options=options, keep_alive=keep_alive, system=system, think=think))
        return self._answer("/api/generate", body, on_text, timeout_s)

    def chat(
        self,
        name: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = None,
        think: bool | str | None = None,
        on_text: Callable[[str], None] | None = None,
        timeout_s: float = LONG_S,
        **fields: Any,
    ) -> Generation:
        """One turn of a conversation; a message's `images` may be bytes or paths."""
        told = [{**m, "images": [_encoded(i) for i in m["images"]]} if m.get("images") else dict(m) for m in messages]
        body: dict[str, Any] = {"model": name, "messages": told, "stream": on_text is not None, **fields}
        body.update(_given(options=options, keep_alive=keep_alive, think=think))
        return self._answer("/api/chat", body, on_text, timeout_s)

    def load(
        self,
        name: str,
        *,
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = None,
        timeout_s: float = LONG_S,
    ) -> Generation:
        """Load a model without asking it anything (an empty prompt)."""
        return self.generate(name, "", options=options, keep_alive=keep_alive, timeout_s=timeout_s)

    def unload(self, name: str, *, shown_as: str | None = None, wait_s: float = 30.0) -> None:
        """Take a model out of memory and wait until it is gone. Raises CheckFailed when it stays.

        `shown_as` is the name that /api/ps has for it, where that is another name of the same weights.
        """
        self.generate(name, "", keep_alive=0, timeout_s=max(self.quick_s, wait_s))
        deadline = time.monotonic() + wait_s
        wanted = _shown(shown_as or name)
        while any(_shown(m.name) == wanted for m in self.ps()):
            if time.monotonic() > deadline:
                raise CheckFailed(
                    f"{shown_as or name} is still loaded {wait_s:g} s after it was told to leave (it may be answering)",
                    do=f"ollama stop {shown_as or name}",
                )
            time.sleep(0.1)

    def pull(
        self,
        name: str,
        *,
        insecure: bool = False,
        on_status: Callable[[Mapping[str, Any]], None] | None = None,
        timeout_s: float = LONG_S,
    ) -> None:
        """Have the server fetch a model from its registry; `insecure` lets it ask one without TLS.

        `timeout_s` limits each silence: at the end the server hashes every file that came.
        """
        last: Mapping[str, Any] = {}
        body = {"model": name, "insecure": insecure}
        for last in lines(self.where, "POST", "/api/pull", body=body, timeout_s=timeout_s):
            if on_status:
                on_status(last)
        if last.get("status") != "success":
            raise CheckFailed(f"Ollama stopped pulling {name} without saying why", do="run the command again")

    def delete(self, name: str) -> None:
        """Remove a model from the server's store; blobs that no other model uses go with it."""
        ask(self.where, "DELETE", "/api/delete", body={"model": name}, timeout_s=max(self.quick_s, 60.0))

    def has_blob(self, digest: str) -> bool:
        """Whether the server holds a blob ('sha256:...')."""
        try:
            with exchange(self.where, "HEAD", f"/api/blobs/{digest}", timeout_s=self.quick_s):
                return True
        except ServerRefused as refused:
            if refused.status == 404:
                return False
            raise

    def upload_blob(
        self, path: Path, digest: str, *, on_bytes: Callable[[int], None] | None = None, timeout_s: float = LONG_S
    ) -> None:
        """Send a file as a blob; `on_bytes` gets the bytes sent so far. The server checks the digest itself."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        with exchange(
            self.where,
            "POST",
            f"/api/blobs/{digest}",
            body=_chunks(path, on_bytes),
            headers=headers,
            timeout_s=timeout_s,
        ):
            return

    def create(
        self,
        name: str,
        *,
        on_status: Callable[[Mapping[str, Any]], None] | None = None,
        timeout_s: float = LONG_S,
        **fields: Any,
    ) -> None:
        """Make a model from uploaded blobs or another model (`files`, `from_`, `parameters`, `template`...)."""
        body = {"model": name, **{key.rstrip("_"): value for key, value in fields.items()}}
        last: Mapping[str, Any] = {}
        for last in lines(self.where, "POST", "/api/create", body=body, timeout_s=timeout_s):
            if on_status:
                on_status(last)
        if last.get("status") != "success":
            raise CheckFailed(f"Ollama stopped making {name} without saying why", do=f"ollama show {name}")

    def _answer(
        self, path: str, body: dict[str, Any], on_text: Callable[[str], None] | None, timeout_s: float
    ) -> Generation:
        text, thinking, last = "", "", {}
        if on_text is None:
            last = ask(self.where, "POST", path, body=body, timeout_s=timeout_s)
            text, thinking = _said(last)
        else:
            for last in lines(self.where, "POST", path, body=body, timeout_s=timeout_s):
                piece, thought = _said(last)
                if piece:
                    on_text(piece)
                text, thinking = text + piece, thinking + thought
        return Generation(
            text=text,
            thinking=thinking,
            done_reason=str(last.get("done_reason", "")),
            prompt_tokens=int(last.get("prompt_eval_count") or 0),
            tokens=int(last.get("eval_count") or 0),
            load_s=_seconds(last, "load_duration"),
            prompt_s=_seconds(last, "prompt_eval_duration"),
            generate_s=_seconds(last, "eval_duration"),
            total_s=_seconds(last, "total_duration"),
            raw=last,
        )


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _encoded(image: Image | str) -> str:
    if isinstance(image, str):
        return image
    raw = image.read_bytes() if isinstance(image, Path) else image
    return base64.b64encode(raw).decode("ascii")


def _said(message: Mapping[str, Any]) -> tuple[str, str]:
    inner = message.get("message") or {}
    text = message.get("response") or inner.get("content") or ""
    return str(text), str(message.get("thinking") or inner.get("thinking") or "")


def _seconds(message: Mapping[str, Any], key: str) -> float:
    return float(message.get(key) or 0) / 1e9


def _shown(name: str) -> str:
    from qwenops.runtime.names import parse_name

    return parse_name(name).short.lower()


def _chunks(path: Path, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
            sent += len(chunk)
            if on_bytes:
                on_bytes(sent)
