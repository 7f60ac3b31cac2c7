"""The forms in which a judgement can be had, and where else than on the screen it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import completing
from sentinel.cli.options import Command

if TYPE_CHECKING:
    from sentinel.reports.subjects import Subject
    from sentinel.rules.rule import Rule

FORMS = ("text", "json", "sarif", "junit", "github", "markdown")


def _also(
    _ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]
) -> tuple[tuple[str, Path], ...]:
    """Take ``FORM=FILE`` apart."""
    taken = []
    for one in given:
        form, _, file = one.partition("=")
        if form not in FORMS[1:] or not file:
            message = f"'{one}' is not FORM=FILE with one of {', '.join(FORMS[1:])}"
            raise click.BadParameter(message)
        taken.append((form, Path(file)))
    return tuple(taken)


def formatted(command: Command) -> Command:
    """Add the options --format and --also."""
    for option in (
        click.option(
            "--also",
            callback=_also,
            shell_complete=completing.also,
            multiple=True,
            metavar="FORM=FILE",
            help="Write it to a file too, as json, sarif, junit, github or markdown.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(FORMS),
            default="text",
            help="For people, for programs, or for a pipeline.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Judged:
    """What was judged, in every form but text; each is only made when it is asked for."""

    subjects: Callable[[], Sequence[Subject]]
    as_json: Callable[[], str]
    rules: Sequence[Rule]
    fail_on: str
    exit_code: int

    def in_form(self, form: str) -> str:
        """Return it in one of FORMS, in whole lines, names relative to the working directory."""
        here = Path.cwd()
        match form:
            case "json":
                return self.as_json() + "\n"
            case "sarif":
                from sentinel.reports.sarif import to_sarif

                code = self.exit_code
                return to_sarif(self.subjects(), self.rules, here, exit_code=code) + "\n"
            case "junit":
                from sentinel.reports.junit import to_junit

                return to_junit(self.subjects(), self.rules, here, fail_on=self.fail_on)
            case "github":
                from sentinel.reports.github import to_github

                return to_github(self.subjects(), here)
        from sentinel.reports.markdown import to_markdown

        return to_markdown(self.subjects(), here)

    def write(self, also: Sequence[tuple[str, Path]]) -> None:
        """Write the forms that go to files too.

        In place, not renamed: a file that a CI system has laid out keeps its owner and its mode.
        Raises StateError when one cannot be written: an old file would be taken for this one's.
        """
        from sentinel.checkpoint import path_text
        from sentinel.errors import StateError

        for form, file in also:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.in_form(form).encode("utf-8", "backslashreplace"))
            except OSError as error:
                raise StateError(
                    "file",
                    where=f"'{path_text(file)}'",
                    fact=f"cannot be written ({error.strerror or error})",
                    todo="check the directory, its space and its permissions",
                ) from error
