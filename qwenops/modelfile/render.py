"""Renders a Modelfile from a Jinja template, and takes nothing from it on trust.

Templates are looked up in the user's own folder (templates/ in the config folder), then among the shipped ones; a
path names one directly. They run in Jinja's sandbox with strict undefined variables, and what they make is read back:
a text that Ollama would refuse, or that does not come back the same when written again, is an error here.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops import paths
from qwenops.errors import BadInput
from qwenops.modelfile.context import RenderContext
from qwenops.modelfile.grammar import WORDS, parse, say, write
from qwenops.modelfile.quoting import quote
from qwenops.modelfile.types import CannotParse, Command, Modelfile

if TYPE_CHECKING:
    import jinja2

WIDTH = 110
_UNDEFINED = re.compile(r"'([^']+)' is undefined|has no attribute '([^']+)'")


def render(profile: str, context: RenderContext, template: Path | None = None) -> str:
    """The text of a Modelfile for a profile, from the template of its name or from `template`.

    Raises BadInput naming the template, the line and the variable or value at fault.
    """
    import jinja2

    context.check()
    variables = {f.name: _plain(getattr(context, f.name)) for f in fields(context)}
    variables["profile"] = profile
    environment = _environment(template)
    name = template.name if template else f"{profile}.j2"
    try:
        text = environment.get_template(name).render(variables)
    except jinja2.TemplateNotFound as missing:
        raise _not_found(str(missing.name), environment, template) from missing
    except jinja2.TemplateSyntaxError as fault:
        raise BadInput(f"template {fault.name or name}, line {fault.lineno}: {fault.message}") from fault
    except BadInput as fault:
        raise BadInput(f"{_place(fault, name)}: {fault.message}", do=fault.do) from fault
    except jinja2.UndefinedError as fault:
        raise _undefined(fault, name, variables) from fault
    except Exception as fault:  # a template may raise anything: a division by zero, a wrong type
        raise BadInput(f"{_place(fault, name)}: {type(fault).__name__}: {fault}") from fault
    _check_reads_back(text, name)
    return text


def template_names() -> tuple[str, ...]:
    """Every profile that can be rendered: the shipped ones and the user's own."""
    return tuple(sorted(n.removesuffix(".j2") for n in _environment(None).list_templates() if _is_profile(n)))


def shipped_templates() -> Path:
    """The folder of the shipped templates: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "templates", package.parent / "templates"):
        if (folder / "base.j2").is_file():
            return folder
    raise BadInput(f"the shipped templates are missing below {package}", do="pip install --force-reinstall qwenops")


def comment(lines: str | Iterable[str]) -> str:
    """Text as comment lines, wrapped; a line end inside it can never begin an instruction."""
    given = [lines] if isinstance(lines, str) else lines
    wrapped = [
        part
        for text in given
        for line in re.split(r"[\r\n]+", str(text))
        for part in textwrap.wrap(line, WIDTH - 2, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return "\n".join(f"# {part}".rstrip() for part in wrapped)


def instruction(word: str, value: object, role: str = "") -> str:
    """An instruction with its value quoted; a MESSAGE has a role. Raises BadInput when it cannot be said."""
    name = {"FROM": "model"}.get(word, word.lower())
    if name not in WORDS:
        raise BadInput(f"{word} is no word of a Modelfile; the words are {', '.join(WORDS.values())}")
    return say(Command(name, f"{role}: {value}" if name == "message" else str(value)))


def parameter(name: str, value: object, why: str = "") -> str:
    """A PARAMETER, with its reason or source as a comment above it."""
    if name in WORDS:
        raise BadInput(f"{name} is a word of its own, not a PARAMETER")
    line = say(Command(name, str(value)))
    return f"{comment(why)}\n{line}" if why else line


def _plain(value: Any) -> Any:
    """Paths as text: a Path has methods that write and delete, which no template may reach.

    A relative one begins with ./, so that Ollama never takes it for the name of a model.
    """
    if isinstance(value, Path):
        return str(value) if value.is_absolute() else f"./{value.as_posix()}"
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    return value


def _environment(template: Path | None) -> jinja2.Environment:
    folders = [paths.config_dir() / "templates", shipped_templates()]
    if template is not None:
        folders.insert(0, template.absolute().parent)
    return _environment_of(tuple(folders))


@lru_cache(maxsize=8)
def _environment_of(folders: tuple[Path, ...]) -> jinja2.Environment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = lambda value, what="the value": quote(str(value), str(what))
    environment.filters["comment"] = comment
    environment.globals["say"] = instruction
    environment.globals["parameter"] = parameter
    return environment


def _is_profile(name: str) -> bool:
    return name.endswith(".j2") and "/" not in name and name not in ("base.j2",) and not name.startswith("_")


def _check_reads_back(text: str, name: str) -> Modelfile:
    try:
        modelfile = parse(text)
    except CannotParse as fault:
        raise BadInput(
            f"template {name} makes a Modelfile that Ollama refuses, line {fault.line} of it: {fault.cause}",
            do=fault.do,
        ) from fault
    try:
        same = parse(write(modelfile)) == modelfile
    except BadInput as fault:
        raise BadInput(f"template {name} makes a Modelfile with a part that means nothing: {fault.message}") from fault
    if not same:
        raise BadInput(f"template {name} makes a Modelfile that does not come back the same when it is written again")
    return modelfile


def _undefined(fault: jinja2.UndefinedError, name: str, variables: dict[str, Any]) -> BadInput:
    message = str(fault.message)
    found = _UNDEFINED.search(message)
    wanted = next((g for g in found.groups() if g), "") if found else ""
    known = sorted(variables)
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = (f"did you mean {near[0]}?",) if near else ()
    return BadInput(f"{_place(fault, name)}: {message}", do=(*hint, f"there are: {', '.join(known)}"))


def _not_found(wanted: str, environment: jinja2.Environment, template: Path | None) -> BadInput:
    if template is not None and wanted == template.name:
        return BadInput(f"there is no template {template}")
    names = [n.removesuffix(".j2") for n in environment.list_templates() if _is_profile(n)]
    near = difflib.get_close_matches(wanted.removesuffix(".j2"), names, n=1)
    do = [f"did you mean {near[0]}?"] if near else []
    return BadInput(
        f"there is no template {wanted!r}; there are {', '.join(sorted(set(names)))}",
        do=(*do, f"your own go into {paths.config_dir() / 'templates'}"),
    )


def _place(fault: BaseException, name: str) -> str:
    """The template and line that raised: the innermost frame of the traceback that is a template's."""
    place = f"template {name}"
    trace = fault.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.endswith(".j2") or Path(file).name == name:
            place = f"template {Path(file).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place
