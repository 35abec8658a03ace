"""The command line: a group that loads a command's file only when that command is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from qwenops import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# name -> (module, one line for the list). The line is repeated in the command's own docstring and compared by a test.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Set a model up: plan, register without a copy, load, verify."),
    "models": ("models", "List the Qwen vision models that can be named, with what of each fits."),
    "need": ("need", "Say what a model needs, on each device and on the host."),
    "plan": ("plan", "Choose quant, context and settings for a task on this machine."),
    "recommend": ("recommend", "Say in one line what to run and why, with what was measured and what was not."),
    "fits": ("fits", "Show which models fit which cards, with the largest context in the cell."),
    "quants": ("quants", "Show every quant that could be made of a model, and make some."),
    "image-tokens": ("image_tokens", "Say how many tokens pictures take, and what the model gets to see of them."),
    "render": ("render", "Write the Modelfile of a plan."),
    "check": ("check", "Check a Modelfile before Ollama sees it."),
    "register": ("register", "Register a Modelfile with Ollama, by link where that is possible."),
    "verify": ("verify", "Load a registered model and hold the plan against what is measured."),
    "calibrate": ("calibrate", "Load three small models and learn what a device holds beyond their buffers."),
    "try": ("try_", "Show pictures, folders or PDFs to registered models, and see what they answer."),
    "connect": ("connect", "Print the settings that a client needs, and what it cannot set."),
    "list": ("list_", "List the models in the store, and whether their files are still true."),
    "show": ("show", "Show one model: settings, files, links."),
    "remove": ("remove", "Remove models from Ollama; your own files stay."),
    "update": ("update", "Plan registered models again: for a new card, runtime, file or task."),
    "diff": ("diff", "What two models or Modelfiles differ in: files, settings, memory."),
    "export": ("export", "Write a model down as a lock file, from which another machine gets the same one."),
    "import": ("import_", "Make the model of a lock file: the same files under the same settings."),
    "gc": ("gc", "Take away what nobody needs any more: links, ghosts, old headers, half downloads."),
    "bench": ("bench", "Measure what variants are worth: speed, quality against a reference, what they read and see."),
    "image": ("image", "Plan and make pictures with Qwen-Image, with settings whose sources are known."),
    "report": ("report", "Show what was planned and measured, as text, Markdown or one page that opens offline."),
    "server": ("server", "Show, plan, write and check the settings that no Modelfile can say."),
    "machine": ("machine", "Show devices, memory and the runtime that were found."),
    "doctor": ("doctor", "Find what stands in the way, with evidence and the command that mends it."),
    "config": ("config", "Show and change the defaults of options, and where each is read."),
    "completion": ("completion", "Print what bash, zsh or fish needs to complete commands, options and names."),
    "history": ("history", "Show what was planned, loaded and measured here."),
    "uninstall": ("uninstall", "Remove what qwenops made, and say what stays."),
}


class LazyGroup(click.Group):
    """A group whose help needs none of the commands' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command's file."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"qwenops.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        from qwenops.cli.settings import name_variables

        name_variables(command, cmd_name)
        if ctx.resilient_parsing:  # a shell asks what could stand there
            from qwenops.cli.completing import know_names

            know_names(command, cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Names and lines from the table above; Click would import every command for its line."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(n, help=line) for n, (_, line) in COMMANDS.items() if n.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        name = args[0] if args else ""
        if name and not ctx.resilient_parsing and not name.startswith("-") and name not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        found, command, rest = super().resolve_command(ctx, args)
        if found and command and not ctx.resilient_parsing:
            self._give_defaults(ctx, found, command, rest)
        return found, command, rest

    def _give_defaults(self, ctx: click.Context, name: str, command: click.Command, args: list[str]) -> None:
        """Defaults of the user's settings; help is shown also where they cannot be used."""
        from qwenops.cli.settings import defaults_for
        from qwenops.errors import QwenopsError

        try:
            ctx.default_map = defaults_for(command, name, COMMANDS)
        except QwenopsError:
            if not {"-h", "--help"} & set(args):
                raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and lines from the table above, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 it does not fit or a check failed, 2 wrong usage, 3 a needed part is missing.",
)
@click.version_option(__version__, prog_name="qwenops")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Plan, register, verify and benchmark vision-language models on your own hardware.

    What qwenops says will fit, fits; what it says is best, was measured; and it never makes a second copy of your
    weights. Start with: qwenops up qwen3-vl:8b --for ocr, or with a file of your own: qwenops up MODEL.gguf --for ocr
    """


def run() -> None:
    """The entry point: the only place where an error becomes a line and an exit code."""
    import gc

    if os.environ.get("_QWENOPS_COMPLETE"):
        from qwenops.cli.completing import complete

        sys.exit(complete(cli))
    from qwenops.cli.errors import report

    # A command lives for seconds and makes few cycles: looking for them after every 700 objects is a tenth of `need`.
    gc.set_threshold(100_000, 20, 20)
    debug = "--debug" in sys.argv[1:]
    try:
        code: Any = cli(standalone_mode=False)
    except BaseException as error:  # the outermost handler answers for everything, Ctrl-C included
        sys.exit(report(error, debug=debug))
    sys.exit(code if isinstance(code, int) else 0)
