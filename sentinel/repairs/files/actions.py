"""What is done for one file of a copy: an action knows its target and writes it into an open file.

Nothing is written under a name of its own here; `writing` does that for all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sentinel.stats.reading import MemberFile

if TYPE_CHECKING:
    from collections.abc import Mapping
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

    def write(self, root: Path, out: BinaryIO, made: Mapping[str, int]) -> None:
        """Write the whole file, the original's lying below ``root``.

        ``made`` holds the sizes of the files made before it, by their paths. Raises
        ChangedWhileReadError or UnreadableError when the original cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Copying:
    """A file that stays as it is, byte for byte."""

    file: NewFile

    def write(self, root: Path, out: BinaryIO, made: Mapping[str, int]) -> None:  # noqa: ARG002 - the protocol
        """Copy all bytes that the file had when it was planned."""
        buffer = np.empty(BLOCK_BYTES, np.uint8)
        with MemberFile(root / self.file.source) as original:
            out.writelines(block.data for block in original.blocks(0, self.file.size_bytes, buffer))


@dataclass(frozen=True, slots=True)
class Editing:
    """A small text that says something about the other files, written anew."""

    file: NewFile
    content: bytes

    def write(self, root: Path, out: BinaryIO, made: Mapping[str, int]) -> None:  # noqa: ARG002 - the protocol
        """Write the new text."""
        out.write(self.content)
