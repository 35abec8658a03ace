"""A real web server on loopback that serves model files well or badly: ranges, redirects, lies, stalls.

`Web` answers on 127.0.0.1 as a Hugging Face hub, as an Ollama registry or as a plain host; a second one on 127.0.0.2
is the content network that a hub redirects to. Every request is kept, so that a test can count them.
"""

from __future__ import annotations

import hashlib
import json
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Request:
    """One request as it came, and how many bytes of a body left for it."""

    path: str
    headers: dict[str, str]
    sent_bytes: int = 0


@dataclass
class Web:
    """A server and what it serves. `bad` may take a request over; true means that it has answered."""

    host: str
    port: int = 0
    files: dict[str, Path] = field(default_factory=dict)
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    ranges: bool = True
    etags: bool = True
    token: str | None = None
    bad: Callable[[Web, Any, Request], bool] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}:{self.port}"

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies that have left so far."""
        return sum(r.sent_bytes for r in self.requests)

    def file(self, path: str, file: Path) -> str:
        """Serve a file; returns its address."""
        self.files[path] = file
        return self.url + path

    def json(self, path: str, value: Any) -> None:
        """Serve a JSON document."""
        self.pages[path] = (200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def redirect(self, path: str, to: str, status: int = 302) -> str:
        """Serve a redirect; returns its address."""
        self.pages[path] = (status, {"Location": to}, b"")
        return self.url + path

    def repository(
        self, repo: str, files: dict[str, Path], cdn: Web, *, true_digests: bool = False, commit: str = "0" * 40
    ) -> None:
        """A hub's repository at one commit: its listing, and each file as a redirect to the content network.

        What earlier commits had stays there, as on the hub.
        Without `true_digests` the digests are made up, which is quicker for large files that nobody takes whole.
        """
        siblings = []
        for name, file in files.items():
            size = file.stat().st_size
            seed = file.read_bytes() if true_digests else f"{file}{file.stat().st_mtime_ns}".encode()
            digest = hashlib.sha256(seed).hexdigest()
            lfs = {"sha256": digest, "size": size, "pointerSize": 135}
            siblings.append({"rfilename": name, "size": size, "blobId": digest[:40], "lfs": lfs})
            to = cdn.file(f"/blobs/{digest}", file) + "?X-Signature=secret"
            linked = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size)}
            for revision in ("main", commit):
                self.pages[f"/{repo}/resolve/{revision}/{name}"] = (302, {"Location": to, **linked}, b"")
        listing = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "private": False}
        for at in ("", f"/revision/{commit}"):
            self.json(f"/api/models/{repo}{at}", listing)

    def registry(self, name: str, tag: str, layers: dict[str, Path], cdn: Web, *, config: Path | None = None) -> None:
        """A registry's model: its manifest, and each blob as a redirect to the content network.

        With a `config` the digests are true and the real Ollama can pull it; else they are made up, which is quicker.
        """
        kinds = {f"application/vnd.ollama.image.{kind}": file for kind, file in layers.items()}
        if config is not None:
            kinds["application/vnd.docker.container.image.v1+json"] = config
        rows = []
        for media, file in kinds.items():
            seed = file.read_bytes() if config is not None else str(file).encode()
            digest = "sha256:" + hashlib.sha256(seed).hexdigest()
            rows.append({"mediaType": media, "digest": digest, "size": file.stat().st_size})
            self.redirect(f"/v2/{name}/blobs/{digest}", cdn.file(f"/data/{digest}", file), 307)
        about = rows.pop() if config is not None else {}
        self.json(f"/v2/{name}/manifests/{tag}", {"schemaVersion": 2, "config": about, "layers": rows})


class _Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Nothing: the requests are kept."""

    def do_GET(self) -> None:
        web, path = self.web, self.path.partition("?")[0]
        request = Request(self.path, {k.title(): v for k, v in self.headers.items()})
        web.requests.append(request)
        self.close_connection = True
        with suppress(ConnectionError, TimeoutError):
            if web.bad and web.bad(web, self, request):
                return
            if web.token and request.headers.get("Authorization") != f"Bearer {web.token}":
                self.answer(request, 401, {"X-Error-Code": "GatedRepo"}, b"Access is restricted")
            elif path in web.files:
                self.serve(request, web.files[path])
            else:
                self.answer(request, *web.pages.get(path, (404, {}, b"nothing here")))

    def do_HEAD(self) -> None:
        """As GET without the body; what is asked so is kept apart from what is fetched."""
        path = self.path.partition("?")[0]
        status, headers, _ = self.web.pages.get(path, (404, {}, b""))
        if path in self.web.files:
            status, headers = 200, {"Content-Length": str(self.web.files[path].stat().st_size)}
        if self.web.token and self.headers.get("Authorization") != f"Bearer {self.web.token}":
            status, headers = 401, {"X-Error-Code": "GatedRepo"}
        self.close_connection = True
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, request: Request, status: int, headers: dict[str, str], body: bytes) -> None:
        """Headers as given, a length where none is, and the body."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        request.sent_bytes += len(body)

    def serve(self, request: Request, file: Path) -> None:
        """A file, whole or in part, as a good server does."""
        size, headers = file.stat().st_size, {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if self.web.etags:
            headers["ETag"] = f'"{size}-{file.stat().st_mtime_ns}"'
            if request.headers.get("If-None-Match") == headers["ETag"]:
                self.send_response(304)
                self.end_headers()
                return
        start, end, status = 0, size, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if asked and self.web.ranges:
            start, end, status = int(asked[1]), min(int(asked[2]) + 1, size) if asked[2] else size, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self.send_response(status)
        for name, value in ({"Content-Length": str(end - start)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        with file.open("rb") as source:
            source.seek(start)
            while start < end and (chunk := source.read(min(65536, end - start))):
                self.wfile.write(chunk)
                request.sent_bytes += len(chunk)
                start += len(chunk)


@contextmanager
def serving(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A server for the length of a block, on a port of its own."""
    web = Web(host)
    server = ThreadingHTTPServer((host, 0), type("Handler", (_Handler,), {"web": web}))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def certificate(folder: Path, name: str) -> ssl.SSLContext | None:
    """A server's side of TLS with a certificate that nobody signed (folder/cert.pem); None without openssl."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    try:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
            ],
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@contextmanager
def proxying(to: Web) -> Iterator[tuple[int, list[str]]]:
    """A proxy that connects every name to one server; gives its port and the heads of the requests it got."""
    listener, heads = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=tunnel, args=(near,), daemon=True).start()

    def tunnel(near: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(4096)
        heads.append(head.decode())
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection((to.host, to.port)) as far, near, suppress(OSError):
            while True:
                for line in select.select([near, far], [], [])[0]:
                    data = line.recv(65536)
                    if not data:
                        return
                    (far if line is near else near).sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], heads
    finally:
        listener.close()


def drip(handler: Any, data: bytes, every_s: float) -> None:
    """Send byte by byte: never silent, never done."""
    with suppress(OSError):
        for n in range(len(data)):
            handler.wfile.write(data[n : n + 1])
            handler.wfile.flush()
            time.sleep(every_s)
