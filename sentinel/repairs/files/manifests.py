"""A manifest that lists a checkpoint's files with their sizes: written when these are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.repairs.files.texts import new_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

    from sentinel.receipt import CastTo, NewFile


@dataclass(frozen=True, slots=True)
class Listing:
    """The bundled trainer's manifest; it comes after everything that it lists."""

    file: NewFile
    cast: CastTo | None

    def write(self, root: Path, out: BinaryIO, made: Mapping[str, int]) -> None:
        """Write the manifest for the files made before it."""
        out.write(new_manifest(root / self.file.source, made, self.cast))
