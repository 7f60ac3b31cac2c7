"""Findings as GitHub's workflow commands, which become annotations of the files they name.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands tells the form.
GitHub shows ten errors and ten warnings of a step, so the gravest come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from sentinel.reports.subjects import Subject, gravest_first, not_whole, sentence
from sentinel.reports.words import path_words, shown
from sentinel.verdict import Severity

_COMMANDS: Mapping[Severity, str] = MappingProxyType(
    {"critical": "error", "unreadable": "error", "warning": "warning", "info": "notice"}
)


def to_github(subjects: Sequence[Subject], base_dir: Path) -> str:
    """Return a command a finding; file names are relative to ``base_dir``, as GitHub wants them.

    Nothing found at all is an error too: what is not there is not known to be good.
    """
    return "".join(f"{line}\n" for line in _commands(subjects, base_dir))


def _commands(subjects: Sequence[Subject], base_dir: Path) -> Iterator[str]:
    if not subjects:
        yield "::error title=sentinel::no checkpoint was found, so nothing is known to be good"
    partly = not_whole(subjects)
    if partly:
        yield f"::notice title=sentinel::{_data(partly)}"
    for subject, found in gravest_first(subjects):
        file = _property(path_words(subject.place(found), base_dir))
        title = _property(f"{found.rule}: {subject.verdict.level}")
        said = _data(f"{path_words(subject.path, base_dir)}: {sentence(found)}")
        yield f"::{_COMMANDS[found.severity]} file={file},title={title}::{said}"


def _data(text: str) -> str:
    """Escape a message; a line break in it would begin a command of its own."""
    return shown(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
