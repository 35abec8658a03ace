"""What a client of Ollama must be told to use a registered model, and what it cannot say."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any, Final

from qwenops.errors import BadInput, CheckFailed
from qwenops.model.image_tokens import CELL_PIXELS, MAX_TOKENS
from qwenops.result import Result
from qwenops.runtime.flags import image_cap
from qwenops.runtime.host import endpoint
from qwenops.runtime.names import parse_name
from qwenops.runtime.types import Runtime
from qwenops.setup.connect_address import HOST_GATEWAY, Address, Client, address_for
from qwenops.tables import load_table

PLACES: Final[tuple[Client, ...]] = ("host", "docker")


def clients() -> dict[str, dict[str, Any]]:
    """The clients that are known, by name."""
    return load_table("qwenops.setup", "connect.toml")


def connect_result(client: str, name: str | None, *, place: Client | None) -> Result:
    """The settings of a client for a model of the running server ("qwenops.connect/1").

    `place` is where the client runs, its usual place where it is None. Exit code 1 where the client cannot reach the
    server from there. Raises BadInput for an unknown client or model, CheckFailed where the client needs eyes.
    """
    from qwenops.ollama.models import show_model
    from qwenops.runtime.bound import bound_addresses
    from qwenops.runtime.discover import discover, need_server

    facts = _client(client)
    runtime = discover(probe_devices=False)
    need_server(runtime)
    model = name or _only_one(runtime)
    shown = show_model(runtime, model)
    sees = "vision" in shown.capabilities
    if facts.get("needs_vision") and not sees:
        raise CheckFailed(f"{model} has no projector, and {client} shows it pages", do=f"qwenops show {model}")
    where = endpoint(runtime.url)
    runs_in: Client = place or facts["runs_in"]
    address = address_for(
        where,
        runs_in,
        place=runtime.place,
        bound=bound_addresses(where.port_number) if where.loopback else None,
        linux=sys.platform.startswith("linux"),
    )
    values = values_of(model, shown.parameters, address, runtime)
    holds = conditions(values, shown.capabilities)
    settings = filled(facts["settings"], values, holds)
    data = {
        "client": client,
        "title": facts["title"],
        "model": model,
        "api": facts["api"],
        "runs_in": runs_in,
        "url": address.url,
        "reach": address.reach,
        "why": address.why or None,
        "do": list(address.do),
        "settings": settings,
        "snippet": _snippet(facts, settings, values, address, runs_in),
        "limits": filled(facts["limits"], values, holds),
    }
    notes = list(address.notes)
    if not sees:
        notes.append(f"{model} takes no pictures: it has no projector")
    return Result("qwenops.connect/1", data, tuple(notes), 1 if address.reach == "no" else 0)


def values_of(model: str, parameters: Mapping[str, Any], address: Address, runtime: Runtime) -> dict[str, str]:
    """What the placeholders of the table stand for; one that is missing has no value for this model."""
    tokens = image_cap(runtime.environment) or MAX_TOKENS
    found: dict[str, str | None] = {
        "model": model,
        "tagged": parse_name(model).short,
        "url": address.url,
        "v1": f"{address.url}/v1",
        **{key: _plain(parameters.get(key)) for key in ("temperature", "top_p", "num_ctx")},
        "picture_tokens": str(tokens),
        "pixels": _pixels(model, tokens, runtime),
    }
    return {key: value for key, value in found.items() if value is not None}


def conditions(values: Mapping[str, str], capabilities: Sequence[str]) -> frozenset[str]:
    """What holds of the model, in the table's words."""
    holds = {key for key in ("temperature", "top_p", "num_ctx", "pixels") if key in values}
    if "num_ctx" not in values:
        holds.add("no_num_ctx")
    if "thinking" in capabilities:
        holds.add("thinking")
    return frozenset(holds)


def filled(
    rows: Sequence[Mapping[str, str]], values: Mapping[str, str], holds: frozenset[str]
) -> list[dict[str, str | None]]:
    """The rows of the table that hold for the model, with its values in them."""
    told = []
    for row in rows:
        if row.get("when") is None or row["when"] in holds:
            texts = {key: Template(text).substitute(values) for key, text in row.items() if key not in ("when", "form")}
            if "name" in row:
                texts = {"why": None, **texts}  # type: ignore[dict-item]
            told.append(dict(texts))
    return told  # type: ignore[return-value]


def _client(name: str) -> dict[str, Any]:
    known = clients()
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        raise BadInput(
            f"the client {name!r} is not known; there are {', '.join(known)}",
            do=f"qwenops connect {near[0] if near else 'openai'}     (openai fits whatever speaks that API)",
        )
    found: dict[str, Any] = known[name]
    return found


def _only_one(runtime: Runtime) -> str:
    """The only registered model that sees. Raises BadInput where there are none or several."""
    from qwenops.setup.registered import registered_models

    seeing = [one.name for one in registered_models(runtime) if one.model.projector or one.model.inline_vision]
    if len(seeing) == 1:
        return seeing[0]
    if not seeing:
        raise BadInput("no model that takes pictures was found in the store: name one", do="qwenops list")
    raise BadInput(f"several models take pictures: name one of {', '.join(sorted(seeing))}", do="qwenops list")


def _pixels(name: str, tokens: int, runtime: Runtime) -> str | None:
    """Pixels of the largest picture that a model gets to see in full; None where its rule is not known."""
    from qwenops.setup.registered import registered_model

    found = registered_model(name, runtime)
    cell = CELL_PIXELS.get(found.model.architecture) if found else None
    return str(tokens * cell * cell) if cell else None


def _plain(value: Any) -> str | None:
    """A parameter as a user would type it: 0.7, not 0.699999988."""
    if value is None or isinstance(value, list):
        return None
    try:
        return f"{float(value):.6g}" if not float(value).is_integer() else str(int(float(value)))
    except (TypeError, ValueError):
        return str(value)


def _snippet(
    facts: Mapping[str, Any],
    settings: Sequence[Mapping[str, str | None]],
    values: Mapping[str, str],
    address: Address,
    runs_in: Client,
) -> dict[str, str] | None:
    """Lines to copy: the client's own, else a compose service, else nothing (fields of a form, or a shell's)."""
    if "snippet" in facts:
        given = {str(s["name"]): str(s["value"]) for s in settings}
        request = [f"{key}={given[key]}" for key in ("temperature", "top_p") if key in given]
        request += [f'{key}="{given[key]}"' for key in ("reasoning_effort",) if key in given]
        line = f" {', '.join(request)}," if request else ""
        return {"form": facts["form"], "text": Template(facts["snippet"].lstrip()).substitute(values, request=line)}
    if runs_in == "host":
        fields = any(row.get("form") == "field" for row in facts["settings"])
        text = "".join(f"{s['name']}={s['value']}\n" for s in settings)
        return None if fields else {"form": "env", "text": text}
    return {"form": "compose", "text": _compose(facts, settings, address)}


def _compose(facts: Mapping[str, Any], settings: Sequence[Mapping[str, str | None]], address: Address) -> str:
    lines = ["services:", f"  {facts['service']}:"]
    if not any(row.get("form") == "field" for row in facts["settings"]):
        lines += ["    environment:", *(f'      {s["name"]}: "{s["value"]}"' for s in settings)]
    if address.host_gateway:
        lines += ["    extra_hosts:", f'      - "{HOST_GATEWAY}"']
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""
