"""Write what the documentation says about the code from the code itself.

`python docs/generate.py [DIRECTORY]` writes `cli.md`, `exit-codes.md`, `settings.md`,
`support.md`, `threads.md`, `trainer-keys.md`, `rules.md` and `rule.schema.json` into this
directory or another; tests hold that they are up to date. The tables of `health-log.md` and
`scan.schema.json` are written by hand and held by tests too.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from sentinel.cli.exit_codes import BUG, CLOSED, INTERRUPTED, MEANINGS, UNREADABLE
from sentinel.cli.main import cli
from sentinel.daemon.supervise import ENDED_FAULTY, GAVE_UP, STOPPED_BY_POLICY
from sentinel.formats.setting_names import SETTING_FAMILIES, SETTING_NAMES
from sentinel.rules import pages
from sentinel.rules.load import load_rules

sys.path.append(str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from corpus import support
from seen import page as seen
from threads import page as threads

CLI_PAGE = "cli.md"
EXIT_CODES_PAGE = "exit-codes.md"
SETTINGS_PAGE = "settings.md"

_HEAD = """\
# The command line

<!-- Written by `python docs/generate.py` from the commands themselves. -->

Standard output carries what was asked for, standard error everything else.
In a pipe text is one line a checkpoint, a run or a row, without colour.
`NO_COLOR=1` switches colour off everywhere; `FORCE_COLOR=1` keeps it in a pipe, a line each.
`--quiet` says what is at or above `fail_on`, what could not be read, what was done, and errors.
A wrong call is one line on standard error and exit code 2.
Settings come from the command line, else from `sentinel.yaml` in the working directory.
"""

_EXIT_CODES_HEAD = """\
# Exit codes

<!-- Written by `python docs/generate.py` from `sentinel/cli/exit_codes.py` and the commands. -->

A stable face: scripts, schedulers and CI jobs may build on them.
They are the same in every `--format`, and with `--quiet`.
"""

_SETTINGS_HEAD = """\
# What a checkpoint tells about its training

<!-- Written by `python docs/generate.py` from `sentinel/formats/setting_names.py`. -->

A setting has the same name whatever trainer told it: `sentinel show` lists those of a checkpoint,
`sentinel diff` those in which two differ, and rules see each as a column of the table `checkpoint`
(dots as underscores).
One that nobody told is not there: it is never guessed from a default.
Transformers' arguments come from `training_args.bin`, which is read as data and never run; the
schedule and the loss scale from `scheduler.pt`, `scheduler.bin` and `scaler.pt`; an adapter's from
`adapter_config.json` or the header of its file; sd-scripts', OneTrainer's and others' from what
they write beside or into the weights.
Values are text, numbers (NaN and Inf included), counts, or switches (true or false).
"""

_RUN_CODES = {
    "the trainer's own": "it ended by itself, and its last checkpoint is good",
    ENDED_FAULTY: "it ended by itself on a faulty checkpoint",
    GAVE_UP: "gave up: too many attempts, or nothing good to start again from",
    STOPPED_BY_POLICY: "stopped the trainer, and the policy forbids to start it again",
    UNREADABLE: "could not begin: a wrong call, or something that cannot be used",
    BUG: MEANINGS[BUG],
    "128 + N": "ended by signal N (Ctrl-C: 130, SIGTERM: 143)",
}


def render_cli() -> str:
    """Return the Markdown page of every command: usage, options, exit codes, examples."""
    context = click.Context(cli, info_name="sentinel")
    leaves = list(_leaves(context))
    parts = [
        _HEAD,
        *_table(
            ("command", "what it does"),
            ((f"[`{one.command_path}`](#{_anchor(one)})", _summary(one)) for one in leaves),
        ),
        "## Exit codes\n",
        *_codes(),
        *(part for leaf in leaves for part in _section(leaf)),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _codes() -> Iterator[str]:
    yield "Of every command but `sentinel run`:\n"
    yield from _table(("code", "meaning"), ((str(code), said) for code, said in MEANINGS.items()))
    yield f"Shells give {INTERRUPTED} and {CLOSED} to programs that SIGINT and SIGPIPE end.\n"
    yield "Of `sentinel run` (`exit_codes` in `sentinel.yaml` gives others for 70, 75 and 76):\n"
    yield from _table(("code", "meaning"), ((str(code), said) for code, said in _RUN_CODES.items()))


def render_exit_codes() -> str:
    """Return the Markdown page of exit codes: of all commands, and what each says of its own."""
    parts = [_EXIT_CODES_HEAD, *_codes(), "## Command by command\n"]
    for leaf in _leaves(click.Context(cli, info_name="sentinel")):
        said = _own_codes(leaf.command.help or "")
        if said:
            parts.append(f"[`{leaf.command_path}`](cli.md#{_anchor(leaf)}): {said}\n")
    return "\n".join(parts).rstrip() + "\n"


def _own_codes(text: str) -> str:
    """Return what a command's help says of its exit codes, in one line."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        said = " ".join(paragraph.removeprefix("\b\n").split())
        if said.startswith("Exit codes: "):
            return said.removeprefix("Exit codes: ")
    return ""


def render_settings() -> str:
    """Return the Markdown page of every setting's name."""
    parts = [
        _SETTINGS_HEAD,
        *_table(
            ("setting", "meaning"),
            ((f"`{name}`", f"{one.kind}: {one.words}") for name, one in SETTING_NAMES.items()),
        ),
        "Names that begin so go on with a name of the trainer's or library's own:\n",
        *_table(
            ("beginning", "meaning"),
            ((f"`{name}*`", words) for name, words in SETTING_FAMILIES.items()),
        ),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _leaves(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for every command that does something, groups replaced by their members."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        member = command.get_command(context, name)
        assert member is not None  # noqa: S101 - the group has just listed it
        yield from _leaves(click.Context(member, info_name=name, parent=context))


def _section(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f"## {context.command_path}\n"
    yield f"    {context.command_path} {_usage(command)}\n"
    yield from _paragraphs(command.help or "")
    options = [one for one in command.params if isinstance(one, click.Option)]
    if options:
        yield from _table(("option", "meaning"), map(_option, options))


def _usage(command: click.Command) -> str:
    arguments = [_argument(one) for one in command.params if isinstance(one, click.Argument)]
    return " ".join(["[OPTIONS]", *arguments])


def _argument(argument: click.Argument) -> str:
    """Return an argument as the page writes it: click's own form differs between versions."""
    if argument.metavar is not None:
        return argument.metavar
    word = (argument.name or "").upper() + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _option(option: click.Option) -> tuple[str, str]:
    names = ", ".join(sorted(option.opts, key=len))
    value = "" if option.is_flag else f" {_value(option)}"
    again = " May be given several times." if option.multiple else ""
    said = (option.help or "").replace("  [", " [")
    return f"`{names}{value}`", said + ("" if "several times" in said else again)


def _value(option: click.Option) -> str:
    kind = option.type
    if isinstance(kind, click.Choice):
        return "|".join(str(choice) for choice in kind.choices)
    if isinstance(kind, click.Path):
        return "PATH"
    return "N" if isinstance(kind, click.types.IntParamType) else "TEXT"


def _paragraphs(text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a command's help; those kept as they are begin with ``\b``."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        first, _, rest = paragraph.removeprefix("\b\n").partition("\n")
        if first == "Examples:":
            yield "Examples:\n"
            yield inspect.cleandoc(rest).replace("\n", "\n    ").join(("    ", "\n"))
        elif not first.startswith("Exit codes:"):
            yield " ".join(paragraph.split()) + "\n"


def _table(head: tuple[str, str], rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield f"| {head[0]} | {head[1]} |"
    yield "|---|---|"
    for left, right in rows:
        yield f"| {left.replace('|', chr(92) + '|')} | {right.replace('|', chr(92) + '|')} |"
    yield ""


def _summary(context: click.Context) -> str:
    return (context.command.help or "").split("\n\n")[0].replace("\n", " ").split(". ")[0]


def _anchor(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def main(directory: Path) -> None:
    """Write every generated page into a directory."""
    # In the wheel the trainer has another name than in the repository.
    package = "sentinel_trainer" if find_spec("sentinel_trainer") else "trainer"
    recipe_page = importlib.import_module(f"{package}.recipe_page")
    pages_ = {
        CLI_PAGE: render_cli(),
        EXIT_CODES_PAGE: render_exit_codes(),
        SETTINGS_PAGE: render_settings(),
        recipe_page.PAGE: recipe_page.render(),
        support.PAGE: support.render(),
        threads.PAGE: threads.render(),
        pages.RULES_PAGE: pages.render_page(load_rules(), seen.lines()),
        pages.RULE_SCHEMA: pages.render_schema(),
    }
    for name, text in pages_.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
