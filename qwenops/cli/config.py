"""qwenops config: the defaults of options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

import click

from qwenops.cli.common import emit, returns_result
from qwenops.cli.settings import (
    DEFAULTS,
    Setting,
    key_problems,
    name_variables,
    nearest,
    parsed,
    settings_of,
    table_problems,
    value_in,
    variable_in_force,
)
from qwenops.config import ConfigFile, Value, config_path, read_config, with_value, write_config
from qwenops.errors import BadInput
from qwenops.result import Result


@click.group("config", invoke_without_command=True)
@click.option("--all", "every", is_flag=True, help="Also what can be set and is not.")
@click.option("--json", "as_json", is_flag=True, help="Print versioned JSON instead of text.")
@click.pass_context
def command(context: click.Context, every: bool, as_json: bool) -> int:
    """Show and change the defaults of options, and where each is read.

    A table a command, an entry an option without its dashes; [defaults] for what several commands share. What is typed
    wins over a variable of the environment (QWENOPS_UP_FOR, QWENOPS_OFFLINE), a variable over the file.

    \b
        qwenops config set up.for ocr
        qwenops config set defaults.offline true
    """
    if context.invoked_subcommand:
        return 0
    config = read_config()
    settings = _all_settings()
    rows = [row for setting in settings if (row := _row(config, setting, every))]
    problems = _problems(config, settings)
    if config and "files" in config.tables.get("catalog", {}):
        files, where = config.tables["catalog"]["files"], config.where("catalog", "files")
        rows.append({"name": "catalog.files", "value": files, "source": where, "hides": None})
    result = _result(rows, problems)
    emit(result, as_json=as_json)
    return result.exit_code


@command.command("get")
@click.argument("key")
@returns_result
def get(key: str) -> Result:
    """Show one setting: its value in force, and where it was read."""
    return _result([_row(read_config(), _setting(key), every=True)], [])


@command.command("set")
@click.argument("key")
@click.argument("values", nargs=-1, required=True, metavar="VALUE...")
@returns_result
def set_(key: str, values: tuple[str, ...]) -> Result:
    """Set one default; comments in the file stay.

    \b
        qwenops config set up.for ocr
        qwenops config set fits.gpu "RTX 3060 12GB" "RTX 4090"
    """
    if key == "catalog.files":
        return _change("catalog", "files", list(values))
    setting = _setting(key)
    return _change(setting.table, setting.key, parsed(setting, values))


@command.command("unset")
@click.argument("key")
@returns_result
def unset(key: str) -> Result:
    """Take one default out of the file, also one that no command knows."""
    table, _, name = key.rpartition(".")
    config = read_config()
    if config is None or name not in config.tables.get(table, {}):
        known = [f"{t}.{k}" for t, values in (config.tables if config else {}).items() for k in values]
        raise BadInput(f"{config_path()} does not set {key!r}{nearest(key, known)}", do="qwenops config")
    return _change(table, name, None)


@command.command("path")
def path() -> None:
    """Print where the settings are, whether the file is there or not."""
    click.echo(str(config_path()))


@command.command("edit")
@returns_result
def edit() -> Result:
    """Open the file in your editor (VISUAL, EDITOR), and check it afterwards."""
    if not config_path().exists():
        write_config("# qwenops config --all shows what can be set here\n")
    click.edit(filename=str(config_path()))
    return _result([], _problems(read_config(), _all_settings()))


def _change(table: str, key: str, value: Value | None) -> Result:
    config = read_config()
    written = write_config(with_value(config.text if config else "", table, key, value))
    return _result([{"name": f"{table}.{key}", "value": value, "source": str(written), "hides": None}], [])


def _result(rows: Sequence[Mapping[str, object] | None], problems: list[str]) -> Result:
    data = {"path": str(config_path()), "exists": config_path().exists(), "settings": rows, "problems": problems}
    return Result("qwenops.config/1", data, exit_code=2 if problems else 0)


def _all_settings() -> list[Setting]:
    """Every option that can be set, with those that [defaults] can hold first."""
    from qwenops.cli.main import COMMANDS

    found: list[Setting] = []
    for name, (module, _) in COMMANDS.items():
        known: click.Command = import_module(f"qwenops.cli.{module}").command
        name_variables(known, name)
        found += settings_of(known, name) if name not in ("config", "completion", "uninstall") else ()
    shared = {setting.key: setting for setting in reversed(found) if setting.key in DEFAULTS}
    return [*(Setting("defaults", key, shared[key].option) for key in DEFAULTS if key in shared), *found]


def setting_names() -> list[str]:
    """What `set` takes."""
    return [*(setting.name for setting in _all_settings()), "catalog.files"]


def _setting(name: str) -> Setting:
    settings = {setting.name: setting for setting in _all_settings()}
    if name in settings:
        return settings[name]
    hint = f"; did you mean 'defaults.{name}'?" if name in DEFAULTS else nearest(name, [*settings, "catalog.files"])
    raise BadInput(f"there is no setting {name!r}{hint}", do="qwenops config --all")


def _row(config: ConfigFile | None, setting: Setting, every: bool) -> dict[str, object] | None:
    """One setting as plain values: what is in force, where it was read, and what the file says that it hides."""
    found = value_in(config, setting) if config else None
    if setting.table == "defaults" and config:
        found = (
            ("defaults", value) if (value := config.tables.get("defaults", {}).get(setting.key)) is not None else None
        )
    where = config.where(found[0], setting.key) if config and found else None
    variable = variable_in_force(setting)
    if setting.table == "defaults" and variable and variable[0] != setting.variables[-1]:
        variable = None  # that one is a single command's
    if (
        not every
        and (variable is None or _is_shared(setting, variable[0]))
        and not (found and found[0] == setting.table)
    ):
        return None
    if variable:
        return {"name": setting.name, "value": variable[1], "source": variable[0], "hides": where}
    if found:
        return {"name": setting.name, "value": found[1], "source": where, "hides": None}
    default = setting.option.default if isinstance(setting.option.default, str | int | float | bool) else None
    return {"name": setting.name, "value": default, "source": None, "hides": None}


def _is_shared(setting: Setting, variable: str) -> bool:
    """Whether a variable is that of [defaults], which stands in a row of its own."""
    return setting.table != "defaults" and setting.key in DEFAULTS and variable == setting.variables[-1]


def _problems(config: ConfigFile | None, settings: list[Setting]) -> list[str]:
    from qwenops.cli.main import COMMANDS

    if config is None:
        return []
    found = [problem.message for problem in table_problems(config, COMMANDS)]
    for name in COMMANDS:
        own = [setting for setting in settings if setting.table.partition(".")[0] == name]
        found += [problem.message for problem in key_problems(config, own, name)]
    return list(dict.fromkeys(found))
