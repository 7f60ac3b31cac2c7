"""The errors sentinel raises: one tree, one form of sentence.

Every message reads ``<what> <where>: <fact>; <what to do>``, so the constructor
asks for the four parts instead of a sentence.
"""

from __future__ import annotations

from typing import ClassVar


class SentinelError(Exception):
    """Anything sentinel refuses to do, said in one sentence.

    ``what`` is the thing ("rule 'dead-lora-up'"), ``where`` the place ("in 'rules/a.yaml:3'"),
    ``fact`` what is so, ``todo`` what the reader can do about it; empty parts are left out.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, *, where: str = "", fact: str, todo: str = "") -> None:
        self.what = what
        self.where = where
        self.fact = fact
        self.todo = todo
        subject = f"{what} {where}".strip()
        super().__init__(f"{subject}: {fact}" + (f"; {todo}" if todo else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the four parts, so that the error can cross a process border."""
        return (_rebuild, (type(self), self.what, self.where, self.fact, self.todo))


def _rebuild(
    kind: type[SentinelError], what: str, where: str, fact: str, todo: str
) -> SentinelError:
    return kind(what, where=where, fact=fact, todo=todo)


class InputError(SentinelError):
    """A file that is broken, torn, hostile, or not what its name says.

    ``rule`` is the id of the file rule that reports it, so that a container says what is
    wrong once and the catalogue decides how grave that is.
    """

    rule: ClassVar[str] = "malformed-file"


class TruncatedError(InputError):
    """The bytes end before the file's own header says they do."""

    rule = "truncated-file"


class MissingMemberError(InputError):
    """A file that an index or a layout names is not there."""

    rule = "missing-shard"


class UnsafePickleError(InputError):
    """A pickle that would call something which no checkpoint needs; nothing of it was run."""

    rule = "unsafe-pickle"


class UnreadableError(InputError):
    """The operating system does not let us read the file."""

    rule = "unreadable-file"


class ChangedWhileReadError(SentinelError):
    """The file was not the same before and after measuring: the numbers are void."""


class RuleError(SentinelError):
    """A rule file that cannot be used, with its file and line."""


class ConfigError(SentinelError):
    """A setting, option or path of the user's that cannot be used."""


class StateError(SentinelError):
    """The state directory, journal or health log cannot be used."""


class GuardedError(StateError):
    """A directory or run that another sentinel guards already."""


class RepairError(SentinelError):
    """A repair that cannot be planned or done."""


class TrainerError(SentinelError):
    """The supervised trainer cannot be started, stopped or understood."""


class WorkerDiedError(SentinelError):
    """A worker process was killed or ended before it answered: nothing is known of its work."""


class WorkerTimeoutError(WorkerDiedError):
    """A worker process took too long and was killed."""
