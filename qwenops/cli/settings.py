"""Options that have their defaults from config.toml and from QWENOPS_ variables: names, kinds, and Click's own map.

What is typed wins over a variable, a variable over the file, and there a command's own table over [defaults]. Click
keeps that order by itself; here its options only get the variables' names and the file's values.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from qwenops.config import ConfigFile, Value, read_config
from qwenops.errors import BadInput

DEFAULTS = ("offline", "gpu", "for", "kv", "headroom", "image-tokens", "images", "ubatch", "via", "copy")
"""What [defaults] may hold: options that mean the same in every command that has them."""

CATALOG = ("files",)

# What a person must say each time: consent, and what names one thing.
_NEVER = {"help", "version", "yes", "replace", "dry_run", "lint", "downloads", "again", "pick", "name", "output"}
_WITHOUT = {"config", "completion", "uninstall"}
_SEPARATOR = ";"


@dataclass(frozen=True)
class Setting:
    """One option that can be set: its dotted name, the table and key in the file, and its Click option."""

    table: str
    key: str
    option: click.Option

    @property
    def name(self) -> str:
        """As `config set` takes it: "up.for"."""
        return f"{self.table}.{self.key}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, the first one first."""
        return tuple(self.option.envvar or ()) if not isinstance(self.option.envvar, str) else (self.option.envvar,)


class _Texts(click.types.StringParamType):
    """Texts of an option that may be given several times: in a variable they stand with ; between them."""

    envvar_list_splitter = _SEPARATOR


def settings_of(command: click.Command, table: str) -> Iterator[Setting]:
    """What can be set of one command, or of a group's commands."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if below := command.get_command(context, name):
                yield from settings_of(below, f"{table}.{name}")
        if not command.invoke_without_command:
            return
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in _NEVER and not option.hidden:
            yield Setting(table, key_of(option), option)


def key_of(option: click.Option) -> str:
    """An option's name without dashes."""
    return next((o for o in option.opts if o.startswith("--")), option.opts[0]).lstrip("-")


def name_variables(command: click.Command, name: str) -> None:
    """Give a command's options their variables: QWENOPS_UP_FOR, then QWENOPS_FOR where [defaults] may hold it."""
    if name in _WITHOUT:
        return
    for setting in settings_of(command, name):
        names = [_variable(f"{setting.table}.{setting.key}")]
        if setting.key in DEFAULTS:
            names.append(_variable(setting.key))
        setting.option.envvar = names
        if setting.option.multiple and isinstance(setting.option.type, click.types.StringParamType):
            setting.option.type = _Texts()


def _variable(dotted: str) -> str:
    return "QWENOPS_" + dotted.upper().replace(".", "_").replace("-", "_")


def defaults_for(command: click.Command, name: str, commands: Mapping[str, Any]) -> dict[str, Any]:
    """Click's map of defaults for a command, from the file; empty where there is none.

    Raises BadInput, naming file and line, for a table that is no command, and for what is wrong in this command's own
    table or in [defaults]; naming the variable for what is wrong in one.
    """
    if name in _WITHOUT:
        return {}
    settings = list(settings_of(command, name))
    for setting in settings:
        _check_variable(setting)
    config = read_config()
    if config is None:
        return {}
    for problem in (*table_problems(config, commands), *key_problems(config, settings, name)):
        raise problem
    tree: dict[str, Any] = {}
    for setting in settings:
        found = value_in(config, setting)
        if found is not None:
            here = tree
            for part in setting.table.split("."):
                here = here.setdefault(part, {})
            here[str(setting.option.name)] = _as_typed(setting.option, found[1])
    return tree


def _check_variable(setting: Setting) -> None:
    """Raise BadInput where a variable's value is none for its option: Click's own words would not name the variable."""
    found = variable_in_force(setting)
    if found is None:
        return
    variable, value = found
    words = value.split(_SEPARATOR) if setting.option.multiple else [value]
    for word in words:
        if why := why_wrong(setting.option, _parsed_one(setting.option, word)):
            raise BadInput(f"{variable} {why}", do=f"unset {variable}")


def _as_typed(option: click.Option, value: Any) -> Any:
    """A value of the file as if it had been typed: a list where several may be given, a home folder where ~ stands."""
    if option.multiple and not isinstance(value, list):
        value = [value]
    if isinstance(option.type, click.Path) and isinstance(value, str) and value.startswith("~"):
        return os.path.expanduser(value)
    return value


def value_in(config: ConfigFile, setting: Setting) -> tuple[str, Any] | None:
    """The table that has a value for an option, its own before [defaults], and that value."""
    tables = [setting.table, *(["defaults"] if setting.key in DEFAULTS else [])]
    for table in tables:
        if setting.key in config.tables.get(table, {}):
            return table, config.tables[table][setting.key]
    return None


def table_problems(config: ConfigFile, commands: Mapping[str, Any]) -> Iterator[BadInput]:
    """The tables that belong to nothing, and what [defaults] and [catalog] hold that they cannot."""
    known = [*(name for name in commands if name not in _WITHOUT), "defaults", "catalog"]
    for table in config.tables:
        if table.partition(".")[0] not in known:
            yield _unknown(config, table, None, f"there is no command {table!r}", table, known)
    for table, keys in (("defaults", DEFAULTS), ("catalog", CATALOG)):
        for key in config.tables.get(table, {}):
            if key not in keys:
                yield _unknown(config, table, key, f"[{table}] has no {key!r}", key, keys)


def key_problems(config: ConfigFile, settings: list[Setting], command: str) -> Iterator[BadInput]:
    """What is wrong in one command's tables, and with the shared values that the command would take."""
    known: dict[str, dict[str, Setting]] = {}
    for setting in settings:
        known.setdefault(setting.table, {})[setting.key] = setting
    for table, values in config.tables.items():
        if table.partition(".")[0] == command and table not in known and (values or "." in table):
            yield _unknown(config, table, None, f"{command} takes no settings at [{table}]", table, list(known))
            continue
        for key in values if table in known else ():
            if key not in known[table]:
                yield _unknown(config, table, key, f"[{table}] has no {key!r}", key, list(known[table]))
    for setting in settings:
        found = value_in(config, setting)
        if found is None:
            continue
        if why := why_wrong(setting.option, found[1]):
            yield BadInput(
                f"{config.where(found[0], setting.key)}: {found[0]}.{setting.key} {why}", do="qwenops config edit"
            )


def _unknown(config: ConfigFile, table: str, key: str | None, what: str, said: str, known: Any) -> BadInput:
    return BadInput(f"{config.where(table, key)}: {what}{nearest(said, known)}", do="qwenops config edit")


def nearest(said: str, known: Any) -> str:
    """The hint at the name that was probably meant, or nothing."""
    import difflib

    near = difflib.get_close_matches(said, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def why_wrong(option: click.Option, value: Any) -> str:
    """What is wrong with a value from the file, or an empty text."""
    if option.multiple and isinstance(value, list):
        return next((why for one in value if (why := _why_one_wrong(option, one))), "")
    if isinstance(value, list):
        return "is a list, and one value is wanted"
    return _why_one_wrong(option, value)


def _why_one_wrong(option: click.Option, value: Any) -> str:
    kind = _kind(option)
    # bool is an int in Python, and is none here
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "true or false"):
        return f"is {value!r}, and {kind} is wanted"
    if kind == "true or false":
        return ""
    try:
        option.type.convert(value, option, None)
    except click.UsageError as error:
        return f"is wrong: {error.message}"
    return ""


_KINDS: Mapping[str, tuple[type, ...]] = {
    "true or false": (bool,),
    "a whole number": (int,),
    "a number": (int, float),
    "a text": (str,),
}


def _kind(option: click.Option) -> str:
    if option.is_flag:
        return "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number"
    if isinstance(option.type, click.types.FloatParamType):
        return "a number"
    return "a text"


def parsed(setting: Setting, words: tuple[str, ...]) -> Value:
    """What was typed for a setting, as the file holds it. Raises BadInput for what the option would not take."""
    option = setting.option
    if len(words) != 1 and not option.multiple:
        raise BadInput(f"{setting.name} takes one value", do=f"qwenops config set {setting.name} VALUE")
    values = [_parsed_one(option, word) for word in words]
    value: Any = values if option.multiple else values[0]
    if why := why_wrong(option, value):
        raise BadInput(f"{setting.name} {why}", do=f"qwenops {setting.table.replace('.', ' ')} --help")
    return value  # type: ignore[no-any-return]


def _parsed_one(option: click.Option, word: str) -> str | int | float | bool:
    kind = _kind(option)
    if kind == "true or false" and word.lower() in _YES | _NO:
        return word.lower() in _YES
    for number, make in (("a whole number", int), ("a number", float)):
        if kind == number:
            try:
                return make(word)
            except ValueError:
                return word
    return word


_YES = {"true", "t", "yes", "y", "on", "1"}
_NO = {"false", "f", "no", "n", "off", "0"}


def variable_in_force(setting: Setting) -> tuple[str, str] | None:
    """The variable that sets an option now, and its value."""
    return next(((name, os.environ[name]) for name in setting.variables if os.environ.get(name)), None)
