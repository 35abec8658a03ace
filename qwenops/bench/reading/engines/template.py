"""The prompt of one turn, by the chat template in the model's own file, as Ollama's llama-server renders it.

Pictures stand before the words, each as a marker in plain text: what a template would write around a picture is put
there by the library itself (tools/mtmd/mtmd.cpp), and llama-server passes them on in the same way
(oaicompat_chat_params_parse, tools/server/server-common.cpp, b10435).
"""

from __future__ import annotations

import json
from typing import Any

from qwenops.errors import BadInput


def one_turn(template: str, words: str, marker: str, pictures: int, *, bos: str = "", eos: str = "") -> str:
    """The text that the model continues. Raises BadInput where the template is none or refuses.

    Thinking is switched off where the template has a switch for it.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    surroundings = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    surroundings.globals["raise_exception"] = refuse
    surroundings.globals["strftime_now"] = lambda _: ""
    surroundings.filters["tojson"] = _to_json
    messages = [{"role": "user", "content": marker * pictures + words}]
    try:
        return surroundings.from_string(template).render(
            messages=messages, add_generation_prompt=True, enable_thinking=False, bos_token=bos, eos_token=eos
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadInput(f"the chat template in the file cannot be rendered: {error}") from None


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
