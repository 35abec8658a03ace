"""The server's settings: what is in force, one set for several models, how to write it down, whether it took effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, cast

from qwenops.errors import BadInput
from qwenops.machine.types import Device
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.ground import Ground
from qwenops.plan.together import Stay, Tenant, Together, together
from qwenops.result import Result
from qwenops.runtime.server_files import FORMS, Form, parse_settings, server_file
from qwenops.runtime.types import Runtime

_OTHER_KV: Final = ("q8_0", "q4_0")
_OF_ALL: Final = ("OLLAMA_KV_CACHE_TYPE", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_KEEP_ALIVE")


def server_show_result() -> Result:
    """Every setting that changes a load, and where it was read ("qwenops.server/1")."""
    runtime = _runtime()
    data = {
        "place": runtime.place,
        "url": runtime.url,
        "version": runtime.version,
        "settings": [asdict(s) for s in runtime.settings],
        "loaded": [asdict(m) for m in runtime.loaded],
    }
    return Result("qwenops.server/1", data, notes=runtime.notes)


def server_plan_result(names: Sequence[str]) -> Result:
    """Which of the named models (all registered ones without a name) stay loaded together ("qwenops.server-plan/1").

    They are asked for in the order given. Exit code 1 when one has to leave, spills or does not fit beside the others.
    """
    from qwenops.machine.detect import detect
    from qwenops.plan.ground import ground

    runtime = _runtime()
    tenants = _tenants(names, runtime)
    base = ground(detect(), runtime)
    now = _together(tenants, base, runtime.environment)
    options = [] if now.all_stay else _alternatives(tenants, base, runtime.environment)
    data = {
        "devices": [{"name": d.name, "description": d.description, "free_bytes": d.free_bytes} for d in base.devices],
        "stays": [_stay_entry(s) for s in now.stays],
        "loaded": list(now.loaded),
        "all_stay": now.all_stay,
        "settings": [
            asdict(s) for s in runtime.settings if s.name in ("OLLAMA_KV_CACHE_TYPE", "OLLAMA_MAX_LOADED_MODELS")
        ],
        "alternatives": options,
    }
    return Result("qwenops.server-plan/1", data, notes=base.notes, exit_code=0 if now.all_stay else 1)


def server_write_result(pairs: tuple[str, ...], form: str | None, output: Path | None) -> Result:
    """Settings as a file with the commands that apply it and take it back ("qwenops.server-write/1").

    Nothing is applied; the file is written where `output` says so.
    """
    settings = parse_settings(pairs)
    if form is None:
        runtime = _runtime()
        form, unit = _usual_form(runtime), runtime.unit or "ollama.service"
    else:
        unit = "ollama.service"
    made = server_file(settings, cast("Form", form), unit=unit)
    if output is not None:
        from qwenops.setup.modelfiles import write_whole

        write_whole(output, made.text)
    data = {**asdict(made), "settings": settings, "written": str(output) if output else None}
    return Result("qwenops.server-write/1", data, notes=_harm(settings))


def _harm(settings: Mapping[str, str]) -> tuple[str, ...]:
    """What settings would do that nobody wants."""
    from qwenops.runtime.flags import IMAGE_MIN_TOKENS, IMAGE_MIN_TOKENS_ARCHITECTURES, image_cap

    cap = image_cap(settings)
    if cap is not None and cap < IMAGE_MIN_TOKENS:
        families = ", ".join(IMAGE_MIN_TOKENS_ARCHITECTURES)
        return (
            f"with at most {cap} tokens a picture, models of {families} do not load: Ollama asks for at least "
            f"{IMAGE_MIN_TOKENS} there",
        )
    return ()


def server_check_result(pairs: tuple[str, ...]) -> Result:
    """Whether settings are in force, each with where it was read ("qwenops.server-check/1").

    Exit code 1 when one is not.
    """
    settings = parse_settings(pairs)
    runtime = _runtime()
    in_force = {s.name: s for s in runtime.settings}
    rows = []
    for name, wanted in settings.items():
        found = in_force.get(name)
        value, source = (found.value, found.source) if found else (runtime.environment.get(name, ""), "not set")
        row = {"name": name, "wanted": wanted, "value": value, "source": source}
        rows.append({**row, "proven": "not proven" not in source, "ok": value == wanted})
    return Result("qwenops.server-check/1", {"checks": rows}, exit_code=0 if all(r["ok"] for r in rows) else 1)


def _runtime() -> Runtime:
    from qwenops.runtime.discover import discover, need_server

    runtime = discover(probe_devices=True)
    need_server(runtime)
    return runtime


def _usual_form(runtime: Runtime) -> Form:
    """The form that fits how the server runs here."""
    from qwenops.runtime.find import this_os

    if runtime.place == "container":
        return "compose"
    by_os: dict[str, Form] = {"darwin": "launchd", "macos": "launchd", "windows": "windows"}
    return by_os.get(this_os(), "systemd" if runtime.unit else "env")


def _tenants(names: Sequence[str], runtime: Runtime) -> list[Tenant]:
    from qwenops.setup.registered import load_settings, registered_model, registered_models

    if runtime.store is None:
        raise BadInput(f"the models of {runtime.url} cannot be read from here: its store is out of reach")
    found = []
    if not names:
        found = list(registered_models(runtime))
    for name in dict.fromkeys(names):
        one = registered_model(name, runtime)
        if one is None:
            raise BadInput(f"Ollama has no model {name}", do="qwenops list")
        found.append(one)
    if not found:
        raise BadInput("no model is registered", do="qwenops up qwen3-vl:8b --for ocr")
    return [Tenant(one.name, one.model, one.params, load_settings(one, runtime)) for one in found]


def _together(tenants: Sequence[Tenant], base: Ground, environment: Mapping[str, str]) -> Together:
    from qwenops.memory.closed_form import closed_form
    from qwenops.memory.reserve import fit_reserve

    def ask(model: Model, settings: LoadSettings, devices: tuple[Device, ...]) -> Need:
        reserve = fit_reserve(model, settings, devices, environment)
        return closed_form(model, settings, devices, base.host, reserve_bytes=reserve)

    return together(tenants, base.devices, base.host, environment, ask)


def _alternatives(tenants: Sequence[Tenant], base: Ground, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Server settings under which more of them stay, the mildest first."""
    found = []
    in_use = tenants[0].settings.kv_type_k
    for kv in _OTHER_KV:
        if kv == in_use:
            continue
        changed = [replace(t, settings=_with_kv(t.settings, kv)) for t in tenants]
        result = _together(changed, base, {**environment, "OLLAMA_KV_CACHE_TYPE": kv})
        found.append(
            {
                "settings": {"OLLAMA_KV_CACHE_TYPE": kv, "OLLAMA_FLASH_ATTENTION": "1"},
                "loaded": list(result.loaded),
                "all_stay": result.all_stay,
                "spilled_layers": sum(s.spilled_layers for s in result.stays),
            }
        )
        if result.all_stay:
            break
    return found


def _with_kv(settings: LoadSettings, kv: str) -> LoadSettings:
    flash = "auto" if settings.flash_attn == "off" else settings.flash_attn
    return replace(settings, kv_type_k=cast("Any", kv), kv_type_v=cast("Any", kv), flash_attn=cast("Any", flash))


def _stay_entry(stay: Stay) -> dict[str, Any]:
    return {
        "name": stay.name,
        "predicted_bytes": stay.predicted_bytes,
        "limit_bytes": stay.limit_bytes,
        "why": stay.why,
        "sends_away": list(stay.sends_away),
        "shares": stay.shares,
        "layers": asdict(stay.need.layers),
        "spilled_layers": stay.spilled_layers,
        "projector_on_cpu": stay.projector_on_cpu,
        "device_bytes": stay.need.total_device_bytes,
        "size_vram_bytes": sum(stay.counted_bytes.values()),
        "host_bytes": stay.need.host.total_bytes,
        "short_bytes": stay.short_bytes,
    }


__all__ = ["FORMS", "server_check_result", "server_plan_result", "server_show_result", "server_write_result"]
