"""Server settings as files for each way of running Ollama, with the commands that apply them and take them back.

Forms: a systemd drop-in (systemd.unit(5), and scripts/install.sh of Ollama v0.32.14, whose service is ollama.service),
a launchd agent's environment, the user's environment on Windows, a compose file's service, a plain env file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape

from qwenops.errors import BadInput

Form = Literal["systemd", "launchd", "windows", "compose", "env"]
FORMS: Final[tuple[Form, ...]] = ("systemd", "launchd", "windows", "compose", "env")

_NAME = re.compile(r"^(OLLAMA|LLAMA_ARG|GGML|CUDA|HIP|ROCR|HSA|VK)_[A-Z0-9_]+$")
_SETX_MOST = 1024  # what is longer setx cuts off


@dataclass(frozen=True)
class ServerFile:
    """A file's text, where it belongs, and what to type to apply it and to take it back."""

    form: Form
    path: str
    text: str
    apply: tuple[str, ...]
    undo: tuple[str, ...]


def parse_settings(pairs: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE texts as a mapping. Raises BadInput for what is no setting of the server."""
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _NAME.match(name):
            raise BadInput(f"{pair!r} is not a setting of the server", do="give it like OLLAMA_KV_CACHE_TYPE=q8_0")
        if not value.isprintable():
            raise BadInput(f"the value of {name} has characters that cannot be printed")
        if name in settings and settings[name] != value:
            raise BadInput(f"{name} is given twice, as {settings[name]!r} and {value!r}")
        settings[name] = value
    return settings


def server_file(settings: Mapping[str, str], form: Form, *, unit: str = "ollama.service") -> ServerFile:
    """The settings in one form; they are laid over what is there, nothing else is changed."""
    return {
        "systemd": _systemd,
        "launchd": _launchd,
        "windows": _windows,
        "compose": _compose,
        "env": _env,
    }[form](settings, unit)


def _systemd(settings: Mapping[str, str], unit: str) -> ServerFile:
    path = f"/etc/systemd/system/{unit}.d/90-qwenops.conf"
    lines = [f"Environment={_systemd_quoted(f'{name}={value}')}" for name, value in settings.items()]
    restart = ("sudo systemctl daemon-reload", f"sudo systemctl restart {unit}")
    return ServerFile(
        "systemd",
        path,
        "\n".join(["[Service]", *lines, ""]),
        (f"sudo install -D -m 644 90-qwenops.conf {path}", *restart),
        (f"sudo rm {path}", *restart),
    )


def _systemd_quoted(text: str) -> str:
    """Quoted as systemd.syntax(7) wants it; a percent sign is doubled, since it begins a specifier."""
    inner = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{inner}"'


def _launchd(settings: Mapping[str, str], _: str) -> ServerFile:
    """The app reads the session's environment: an agent that sets it at every login."""
    label = "local.qwenops.ollama-environment"
    path = f"~/Library/LaunchAgents/{label}.plist"
    commands = " ; ".join(f"launchctl setenv {name} {_shell_quoted(value)}" for name, value in settings.items())
    text = "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">',
            '<plist version="1.0"><dict>',
            f"  <key>Label</key><string>{label}</string>",
            "  <key>ProgramArguments</key>",
            f"  <array><string>/bin/sh</string><string>-c</string><string>{escape(commands)}</string></array>",
            "  <key>RunAtLoad</key><true/>",
            "</dict></plist>",
            "",
        ]
    )
    unset = tuple(f"launchctl unsetenv {name}" for name in settings)
    again = "quit Ollama in the menu bar and open it again"
    return ServerFile(
        "launchd",
        path,
        text,
        (f"cp {label}.plist {path}", f"launchctl load {path}", again),
        (f"launchctl unload {path}", f"rm {path}", *unset, again),
    )


def _windows(settings: Mapping[str, str], _: str) -> ServerFile:
    set_all = [f'setx {name} "{_windows_value(name, value)}"' for name, value in settings.items()]
    unset = tuple(f'reg delete "HKCU\\Environment" /v {name} /f' for name in settings)
    again = "quit Ollama in the task bar and start it again"
    text = "\r\n".join(["@echo off", "chcp 65001 >nul", *set_all, ""])
    return ServerFile("windows", "qwenops-ollama.cmd", text, ("qwenops-ollama.cmd", again), (*unset, again))


def _windows_value(name: str, value: str) -> str:
    if '"' in value or "%" in value:
        raise BadInput(f"the value of {name} has a quote or a percent sign, which setx cannot be told")
    if len(value) > _SETX_MOST:
        raise BadInput(f"the value of {name} has {len(value)} characters, of which setx keeps {_SETX_MOST}")
    # a backslash before the closing quote would be taken for a quote of the value
    return value + "\\" * (len(value) - len(value.rstrip("\\")))


def _compose(settings: Mapping[str, str], _: str) -> ServerFile:
    lines = [f"      {name}: {_yaml_quoted(value)}" for name, value in settings.items()]
    text = "\n".join(["services:", "  ollama:", "    environment:", *lines, ""])
    base = "docker compose -f compose.yaml"
    return ServerFile(
        "compose",
        "compose.qwenops.yaml",
        text,
        (f"{base} -f compose.qwenops.yaml up -d ollama",),
        (f"{base} up -d ollama", "rm compose.qwenops.yaml"),
    )


def _yaml_quoted(text: str) -> str:
    # compose replaces $NAME in values
    inner = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{inner}"'


def _env(settings: Mapping[str, str], _: str) -> ServerFile:
    text = "".join(f"export {name}={_shell_quoted(value)}\n" for name, value in settings.items())
    unset = "unset " + " ".join(settings)
    return ServerFile(
        "env", "ollama.env", text, (". ./ollama.env", "ollama serve"), (unset, "ollama serve     (started again)")
    )


def _shell_quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
