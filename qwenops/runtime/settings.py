"""The settings in force, each with the place where it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwenops.machine.types import Device
from qwenops.runtime.envconfig import SETTINGS, var
from qwenops.runtime.rules import default_num_ctx, flash_attention
from qwenops.runtime.types import Setting


@dataclass(frozen=True)
class Source:
    """Variables and who told them; `complete` means that what is not among them is not set."""

    environment: Mapping[str, str]
    name: str
    complete: bool = True


def merge(sources: Sequence[Source]) -> tuple[dict[str, str], dict[str, str], bool]:
    """The server's environment from the best source on: its variables, the source of each, and whether it is whole.

    Sources are ordered from the best; a complete one ends the search.
    """
    values: dict[str, str] = {}
    told_by: dict[str, str] = {}
    for source in sources:
        for name, value in source.environment.items():
            if name not in values:
                values[name], told_by[name] = value, source.name
        if source.complete:
            return values, told_by, True
    return values, told_by, False


def settings_in_force(
    environment: Mapping[str, str],
    told_by: Mapping[str, str],
    *,
    known: bool,
    devices: Sequence[Device] = (),
    devices_known: bool = True,
    logged_num_ctx: int | None = None,
) -> tuple[Setting, ...]:
    """Every setting that changes a load: the value in force and its source.

    `known` says whether the server's environment could be read: where it could not, a default is called "default,
    not proven". Context length and flash attention are resolved to what a load would get.
    """
    default_source = "default" if known else "default, not proven"
    found = []
    for setting in SETTINGS:
        value = var(environment, setting.name)
        if value:
            found.append(Setting(setting.name, value, told_by.get(setting.name, "environment")))
            continue
        value, source = setting.value, default_source
        if setting.name == "OLLAMA_CONTEXT_LENGTH":
            if logged_num_ctx is not None:
                value, source = str(logged_num_ctx), "default by VRAM, in the server's log"
            elif devices_known:
                value = str(default_num_ctx(devices, environment))
                source = f"{default_source} by VRAM"
        elif setting.name == "OLLAMA_FLASH_ATTENTION" and devices_known:
            value = flash_attention(devices, environment)
        found.append(Setting(setting.name, value, source))
    named = {s.name for s in found}
    for name in sorted(environment):
        if name.startswith("LLAMA_ARG_") and name not in named:
            found.append(Setting(name, environment[name], told_by.get(name, "environment")))
    return tuple(found)
