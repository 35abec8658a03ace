"""A real Chromium without a window, driven by its own debugging protocol: what it loads, says and draws.

    with Chromium(folder) as browser:
        page = browser.open(path, width=360, height=740, scheme="dark")
        page.run("document.title"), page.requests, page.messages

No network is there for it: every name resolves to nothing, and every request is noted.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_SECONDS = 30
_FLAGS = (
    *("--headless=new", "--remote-debugging-port=0", "--remote-allow-origins=*", "--no-first-run", "--disable-gpu"),
    *("--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--force-color-profile=srgb", "--font-render-hinting=none"),
)


def chromium() -> str | None:
    """The browser on PATH, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """One browser process with a profile of its own below `folder`; ends with the block."""

    def __init__(self, folder: Path) -> None:
        program = chromium()
        if program is None:
            raise FileNotFoundError("no Chromium on PATH")
        self.profile = folder / "profile"
        rights = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        self._process = subprocess.Popen(
            [program, *_FLAGS, *rights, f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._port = self._listening()

    def open(self, file: Path, *, width: int, height: int, scheme: str = "light", reduced: bool = False) -> Page:
        """A page in a tab of its own, loaded from its file."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=WAIT_SECONDS) as answer:
            tab = json.load(answer)
        page = Page(tab["webSocketDebuggerUrl"])
        page.look(width=width, height=height, scheme=scheme, reduced=reduced)
        page.go(file.absolute().as_uri())
        return page

    def _listening(self) -> int:
        """The port that the browser chose; it writes it into its profile."""
        told = self.profile / "DevToolsActivePort"
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"Chromium ended with {self._process.returncode}")
            if told.exists() and (text := told.read_text().split()):
                return int(text[0])
            time.sleep(0.02)
        self.close()
        raise TimeoutError("Chromium did not say its port")

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Page:
    """One tab: commands in, and what happened meanwhile: `requests` by URL, `messages` of console and engine."""

    def __init__(self, address: str) -> None:
        from websocket import create_connection

        self._socket = create_connection(address, timeout=WAIT_SECONDS, http_no_proxy=["127.0.0.1"])
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._seen: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        return self._until(lambda said: said.get("id") == number, method)

    def _until(self, wanted: Callable[[Mapping[str, Any]], bool], what: str) -> Any:
        while True:
            said = json.loads(self._socket.recv())
            if "method" in said:
                self._note(said["method"], said["params"])
            if wanted(said):
                if "error" in said:
                    raise RuntimeError(f"{what}: {said['error']['message']}")
                return said.get("result")

    def _note(self, event: str, about: Mapping[str, Any]) -> None:
        self._seen.append(event)
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(a.get("value", a.get("description"))) for a in about["args"]))
        elif event == "Runtime.exceptionThrown":
            self.messages.append(str(about["exceptionDetails"].get("exception", {}).get("description")))
        elif event == "Log.entryAdded":
            self.messages.append(f"{about['entry']['level']}: {about['entry']['text']}")

    def go(self, url: str) -> None:
        """Load a page and wait until it is done."""
        before = self._seen.count("Page.loadEventFired")
        self.ask("Page.navigate", url=url)
        if self._seen.count("Page.loadEventFired") == before:
            self._until(lambda said: said.get("method") == "Page.loadEventFired", url)

    def look(self, *, width: int, height: int, scheme: str = "light", reduced: bool = False, media: str = "") -> None:
        """The window and what the user prefers."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced else "no-preference"},
        ]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script: str) -> Any:
        """The value of an expression in the page, as plain JSON."""
        said = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said:
            raise RuntimeError(said["exceptionDetails"].get("exception", {}).get("description", "failed"))
        return said["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """A key, as from a keyboard."""
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=_KEYS[key])

    def tree(self) -> list[dict[str, Any]]:
        """The accessibility tree, as a screen reader is given it: role and name of every node that is not ignored."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node.get("role", {}).get("value", ""),
                "name": node.get("name", {}).get("value", ""),
                "live": next(
                    (p["value"].get("value") for p in node.get("properties", ()) if p["name"] == "live"), None
                ),
            }
            for node in nodes
            if not node.get("ignored")
        ]

    def picture(self, *, whole: bool = False, selector: str | None = None) -> bytes:
        """A PNG of the window, of the whole page, or of one element of it."""
        clip = None
        if selector is not None:
            box = self.run(
                f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                "return [r.x + scrollX, r.y + scrollY, r.width, r.height] })()"
            )
            clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
        elif whole:
            size = self.run("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
            clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        more = {"clip": clip} if clip else {}
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=bool(clip), **more)
        return base64.b64decode(shot["data"])


_KEYS = {
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowDown": 40,
    "Home": 36,
    "End": 35,
    "Tab": 9,
    "Enter": 13,
}
