"""`sentinel completion`: what makes a shell complete the command's words."""

from __future__ import annotations

import click

from sentinel.cli.output import say

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SENTINEL_COMPLETE"
"""By which the shell asks the command itself (https://click.palletsprojects.com/shell-completion/)."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, runs and rules.

    It goes where the shell reads it at its start.

    \b
    Examples:
      sentinel completion bash >> ~/.bashrc
      sentinel completion zsh > ~/.zfunc/_sentinel
      sentinel completion fish > ~/.config/fish/completions/sentinel.fish
    """
    from click.shell_completion import get_completion_class

    from sentinel.cli.main import cli

    kind = get_completion_class(shell)
    if kind is not None:
        say(kind(cli, {}, "sentinel", VARIABLE).source())
