"""qwenops history: what was learned here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from qwenops.cli.common import FILE, ask_before, emit, returns_result
from qwenops.cli.parts import PartsGroup
from qwenops.history.rows import TABLES, ResultKind, Table
from qwenops.result import Result


@click.group("history", cls=PartsGroup, meant="show", alone=True, subcommand_metavar="[PART]")
def command() -> None:
    """Show what was planned, loaded and measured here.

    \b
        qwenops history --kind speed
        qwenops history export -o history.jsonl
        llama-bench -m MODEL.gguf -o jsonl | qwenops history import -
    """


@command.command("show")
@click.option("--kind", type=click.Choice(get_args(ResultKind)), help="Rows of one kind; loads are left out.")
@click.option("--model", metavar="NAME", help="Rows of models with this in their name or quant.")
@click.option("--test", metavar="NAME", help='Rows of one test, for example "tg128" or "kld c512".')
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), metavar="N", help="Rows of each sort.")
@returns_result
def show(**asked: Any) -> Result:
    """Show the newest loads and benchmark rows.

    \b
        qwenops history show --model Q4_K_M --test tg128
        qwenops history --json | jq '.results[0]'
    """
    from qwenops.setup.history import history_result

    return history_result(**asked)


@command.command("export")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="[default: by FILE's name, else jsonl]")
@click.option("--table", "tables", multiple=True, type=click.Choice(TABLES), help="Only this table; may be repeated.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to a file; otherwise to stdout.")
@click.option("--json", "as_json", is_flag=True, help="With -o: print versioned JSON about the file.")
def export(form: Any, tables: tuple[Table, ...], output: Path | None, as_json: bool) -> int:
    """Write every row out, with its raw samples: JSON Lines that can be imported, or CSV.

    The columns are listed in docs/history.md. A file is there whole or not at all.

    \b
        qwenops history export --format csv --table results | head
        qwenops history export -o history.jsonl
    """
    from qwenops.setup.history_export import export_lines, export_result

    if output is None:
        if as_json:
            raise click.UsageError("--json is about the file of -o; the rows themselves: --format jsonl")
        for piece in export_lines(form or "jsonl", tables or TABLES):
            click.echo(piece, nl=False)
        return 0
    result = export_result(output, form, tables or TABLES)
    emit(result, as_json=as_json)
    return result.exit_code


@command.command("import")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option("--here", is_flag=True, help="llama-bench ran on this machine: its rows count for plans on it.")
@returns_result
def import_(files: tuple[Path, ...], here: bool) -> Result:
    """Take rows in from elsewhere: of another history, or of llama-bench (-o jsonl, -o json).

    FILE may be - for what is piped in. A row that is there already stays once. Where one line of all files cannot be
    used it is named, and nothing is taken in.

    \b
        qwenops history import other-machine.jsonl
        llama-bench -m MODEL.gguf -o jsonl | qwenops history import --here -
    """
    from qwenops.setup.history_import import import_result

    return import_result(files, here=here)


@command.command("clear")
@click.option("--dry-run", is_flag=True, help="Say what would be forgotten and change nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@returns_result
def clear(dry_run: bool, yes: bool) -> Result:
    """Forget plans, loads and results. What qwenops made stays known, so that uninstall finds it."""
    from qwenops.setup.history import clear_result

    foretold = clear_result(dry_run=True)
    if dry_run:
        return foretold
    if any(foretold.data["forgotten"].values()) and not yes:
        ask_before(foretold, "Forget all of this?", "forget it")
    return clear_result(dry_run=False)
