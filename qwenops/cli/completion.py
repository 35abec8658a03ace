"""qwenops completion: what a shell needs to complete commands, options and names."""

from __future__ import annotations

import os

import click

from qwenops.errors import BadInput

_SHELLS = ("bash", "zsh", "fish")
_WAYS = """\
bash  qwenops completion bash > ~/.local/share/bash-completion/completions/qwenops
      (without the package bash-completion, in ~/.bashrc: eval "$(qwenops completion bash)")
zsh   qwenops completion zsh > ~/.zfunc/_qwenops
      (in ~/.zshrc, before compinit: fpath+=~/.zfunc)
fish  qwenops completion fish > ~/.config/fish/completions/qwenops.fish
"""


@click.command("completion")
@click.argument("shell", required=False, type=click.Choice(_SHELLS))
def command(shell: str | None) -> None:
    """Print what bash, zsh or fish needs to complete commands, options and names.

    Without a shell: where to put it. Names come from the catalogue and from the store's manifests; no server is asked.

    \b
        qwenops completion bash > ~/.local/share/bash-completion/completions/qwenops
    """
    from qwenops.cli.completing import script_for
    from qwenops.cli.main import cli

    if shell is None:
        used = os.path.basename(os.environ.get("SHELL", ""))
        if used and used not in _SHELLS:
            raise BadInput(f"there is no completion for {used}", do=tuple(f"qwenops completion {s}" for s in _SHELLS))
        click.echo(_WAYS, nl=False)
        return
    click.echo(script_for(shell, cli), nl=False)
