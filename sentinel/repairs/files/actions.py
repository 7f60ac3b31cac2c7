"""What is done for one file of a copy: an action knows its target and writes it into an open file.

Nothing is written under a name of its own here; `writing` does that for all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sentinel.stats.reading import MemberFile

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from sentinel.receipt import NewFile

BLOCK_BYTES = 4 * 1024 * 1024
"""As much of a file is held at a time; a multiple of every dtype's width."""


class Action(Protocol):
    """The making of one file. ``file`` says what becomes of it."""

    @property
    def file(self) -> NewFile:
        """Return the file as the plan tells it."""

    def write(self, root: Path, out: BinaryIO) -> None:
        """Write the whole file, the original's lying below ``root``.

        Raises ChangedWhileReadError or UnreadableError when the original cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Copying:
    """A file that stays as it is, byte for byte."""

    file: NewFile

    def write(self, root: Path, out: BinaryIO) -> None:
        """Copy all bytes that the file had when it was planned."""
        buffer = np.empty(BLOCK_BYTES, np.uint8)
        with MemberFile(root / self.file.source) as original:
            for block in original.blocks(0, self.file.size_bytes, buffer):
                out.write(block.data)


@dataclass(frozen=True, slots=True)
class Editing:
    """A small text that says something about the other files, written anew."""

    file: NewFile
    content: bytes

    def write(self, root: Path, out: BinaryIO) -> None:  # noqa: ARG002 - the protocol of actions
        """Write the new text."""
        out.write(self.content)
