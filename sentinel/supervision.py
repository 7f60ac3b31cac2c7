"""The part of `sentinel.yaml` that says what may be done about a training, checked to the letter.

Hooks act on a trainer that sentinel did not start, and only as they are written here; exit codes
are what `sentinel run` tells a scheduler.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Word = Annotated[str, Field(strict=True, min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
Code = Annotated[int, Field(strict=True, ge=0, le=255)]

CLOSED = ("rule", "run_id", "step")
"""Placeholders of letters, digits and `-` alone: they may stand inside an argument."""

WHOLE = ("checkpoint", "directory", "message")
"""Placeholders whose values come from names of files and tensors: only ever whole arguments, so
that no shell or option of a command's own takes a part of them for something else."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

TAKEN = frozenset({2, 3})
"""Exit codes that always mean a wrong call and a bug in sentinel."""

_SIGNALLED = 128
_LAST_SIGNAL = 64


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hook(_Settings):
    """One way to act on a training beside which `sentinel watch` runs.

    Either ``pid_file``: the process whose pid stands there gets SIGTERM, when ``process`` stands
    in its command line and it began before that file and the faulty checkpoint were written; and
    SIGKILL with all below it where ``kill_after_s`` is given. Or ``command``: a program and its
    arguments, never a shell, with `{checkpoint}` and its like filled in.
    ``below``: only for checkpoints there. ``timeout_s``: how long a command may take, and how
    long a process that gets no SIGKILL is waited for. ``max_age_s``: a checkpoint that was
    written longer ago tells nothing of what runs now. ``again_after_s``: after a command that
    worked, checkpoints written so soon belong to the training that is being stopped.
    """

    pid_file: Path | None = None
    process: Word | None = None
    kill_after_s: Seconds | None = None
    command: tuple[Word, ...] = ()
    below: Path | None = None
    timeout_s: Seconds = 60.0
    max_age_s: Seconds = 3600.0
    again_after_s: Seconds = 300.0

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.command) == (self.pid_file is not None):
            raise PydanticCustomError("one_of", "it should have one of 'pid_file' and 'command'")
        if self.pid_file is None and (self.process or self.kill_after_s):
            raise PydanticCustomError(
                "only_pid", "'process' and 'kill_after_s' should stand beside a 'pid_file'"
            )
        if self.pid_file is not None and self.process is None:
            raise PydanticCustomError(
                "no_process",
                "it should have 'process', words of the trainer's command line beside 'pid_file'",
            )
        for word in self.command:
            _check_placeholders(word)
        return self

    @property
    def words(self) -> str:
        """Return what it is, for messages."""
        if self.pid_file is not None:
            return f"pid file '{self.pid_file}'"
        return f"command '{self.command[0]}'"

    def resolved(self, directory: Path) -> Self:
        """Return the hook with relative paths taken from a directory, ``~`` from the home."""
        places = {"pid_file": self.pid_file, "below": self.below}
        return self.model_copy(
            update={name: directory / path.expanduser() for name, path in places.items() if path}
        )


def _check_placeholders(word: str) -> None:
    for name in _PLACEHOLDER.findall(word):
        whole = word == f"{{{name}}}"
        if name in WHOLE and not whole:
            raise PydanticCustomError(
                "not_whole",
                "'{{name}}' should be an argument of its own (in a script: $SENTINEL_{upper})",
                {"name": name, "upper": name.upper()},
            )
        if whole and name not in (*WHOLE, *CLOSED):
            known = ", ".join(sorted((*WHOLE, *CLOSED)))
            raise PydanticCustomError(
                "no_placeholder",
                "'{{name}}' should be one of {known}",
                {"name": name, "known": known},
            )


def filled(word: str, values: dict[str, str]) -> str:
    """Return one argument with its placeholders filled; what is no placeholder stays."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word)


class ExitCodes(_Settings):
    """What `sentinel run` ends with where a restart changes nothing, for whoever requeues jobs."""

    ended_faulty: Code = 70
    gave_up: Code = 75
    stopped_by_policy: Code = 76

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        codes = (self.ended_faulty, self.gave_up, self.stopped_by_policy)
        if len(set(codes)) < len(codes):
            raise PydanticCustomError("same_codes", "they should be three different codes")
        for code in codes:
            if code in TAKEN or _SIGNALLED < code <= _SIGNALLED + _LAST_SIGNAL:
                raise PydanticCustomError(
                    "taken_code",
                    "{code} should keep its meaning: 2 a wrong call, 3 a bug, 129 to 192 a signal",
                    {"code": code},
                )
        return self
