"""The `sentinel` command: one file a subcommand, imported when it is called.

The only place that prints and exits; every error becomes one line and an exit code here.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

import click

from sentinel import __version__
from sentinel.cli.exit_codes import BUG, GOOD, INTERRUPTED
from sentinel.cli.output import complain, encodable
from sentinel.engines.without_pandas import leave_pandas_out
from sentinel.errors import SentinelError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "scan": "Judge the checkpoints at or below some paths.",
        "show": "Tell what a checkpoint is: who wrote it, settings, modules, tensors.",
        "diff": "Tell what changed between two checkpoints.",
        "check": "Judge a training before its first step, by its configuration.",
        "watch": "Judge checkpoints as they arrive below some directories.",
        "init": "Write a commented sentinel.yaml for the trainer that is used here.",
        "run": "Run a trainer, judge what it writes, stop and resume it when it goes wrong.",
        "resume": "Go on with a run that ended badly, as its findings ask.",
        "repair": "Write a new checkpoint: another precision, other keys, no optimizer.",
        "undo": "Take away what `sentinel repair` wrote, or bring back what was quarantined.",
        "pins": "List, check or drop the copies of good checkpoints that sentinel keeps.",
        "log": "Show a run from the health log, or ask the log in SQL.",
        "notify": "Send a test message to where messages about runs go.",
        "report": "Make one page to look at of a run: pictures, findings, repairs, commands.",
        "ui": "Show all runs on a live page, read-only, while they train.",
        "rules": "List, show and test the rules.",
        "completion": "Print the script that makes a shell complete these words.",
        "doctor": "Tell what this machine can do, and what is known to go wrong on it.",
        "demo": "See the whole job on a real training run, in a few minutes.",
    }
)
"""Every subcommand with its line in the help; `sentinel.cli.<name>` holds `command`."""


class _Lazy(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"sentinel.cli.{cmd_name}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands, without importing each for its line of help."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=said)
            for name, said in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="sentinel")
def cli() -> None:
    """Checkpoint diagnostics and repair for LoRA and DoRA fine-tuning.

    \b
    Examples:
      sentinel scan out/                          what is wrong with these?
      sentinel watch out/                         tell me as they arrive
      sentinel run -- sentinel-train recipe.yaml  train, and repair by itself
    """


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # Imports make many objects and hardly any garbage: looking for it takes a tenth of the start.
    gc.set_threshold(300_000, 20, 20)
    leave_pandas_out()
    encodable()
    try:
        code = cli.main(prog_name="sentinel", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _told("interrupted", INTERRUPTED)
    except click.ClickException as error:
        code = _misused(error)
    except SentinelError as error:
        code = _told(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a message
        code = _bug(error)
    sys.exit(code if isinstance(code, int) else GOOD)


def _told(message: str, code: int) -> int:
    complain(message)
    return code


def _misused(error: click.ClickException) -> int:
    """Say what was wrong with the call in one line, or show the help that a bare group asks for."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    said = " ".join(error.format_message().split()).removesuffix(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    name = f"{context.info_name}: " if context and context.parent else ""
    see = f"; see `{context.command_path} --help`" if context and not said.endswith("?") else ""
    return _told(f"{name}{said[:1].lower()}{said[1:]}{see}", error.exit_code)


def _bug(error: Exception) -> int:
    import traceback

    traceback.print_exc()
    return _told(
        f"this is a bug in sentinel {__version__} ({type(error).__name__}); please report it with"
        " the lines above",
        BUG,
    )
