"""What the trainer refuses to do, in one sentence: `<what>: <fact>; <what to do>`."""

from __future__ import annotations


class RefusedError(Exception):
    """A recipe, option or checkpoint that cannot be used; the command ends with exit code 2."""

    def __init__(self, what: str, fact: str, todo: str = "") -> None:
        super().__init__(f"{what}: {fact}" + (f"; {todo}" if todo else ""))
