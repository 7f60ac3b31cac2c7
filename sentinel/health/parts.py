"""The parts of a run, as their names and footers tell: which are merged, how far, from what.

A part is named after the checkpoint or event it holds until it is merged, then
``merged-LEVEL-DIGEST``; ``merged-DIGEST`` is how versions before levels named them. The footer of
a merged part says where each checkpoint's rows lie in it, and what it was merged from.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow.parquet as pq

INDEX = b"sentinel.index"
"""In a merged part's footer: JSON, a list of [checkpoint_id, first row, number of rows]."""

SOURCES = b"sentinel.sources"
"""In a merged part's footer: JSON, a list of [file name, bytes, mtime in ns, inode]."""

_MERGED = re.compile(r"merged-(?:(\d{1,3})-)?[0-9a-f]{32}\.parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a dataset: how often its rows were merged, and how it lies on the disk."""

    path: Path
    level: int
    size_bytes: int
    mtime_ns: int
    inode: int

    def mark(self) -> list[object]:
        """Return what tells this file from another of its name, as JSON can say it."""
        return [self.path.name, self.size_bytes, self.mtime_ns, self.inode]


def part_at(path: Path) -> Part | None:
    """Return the part at a path, None when it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Part(path, _level(path.name), status.st_size, status.st_mtime_ns, status.st_ino)


def parts_of(partition: Path) -> list[Part]:
    """Return the parts in a run's directory, the oldest rows first as far as files tell."""
    found = [part_at(path) for path in partition.glob("*.parquet")]
    parts = sorted((part for part in found if part is not None), key=attrgetter("path.name"))
    return sorted(parts, key=lambda part: (-part.level, part.mtime_ns))


def footer_list(file: pq.ParquetFile, key: bytes) -> list[list[Any]]:
    """Return a list that merging left in a part's footer, empty when there is none."""
    text = (file.metadata.metadata or {}).get(key)
    try:
        told = json.loads(text) if text else []
    except ValueError:
        return []
    return told if isinstance(told, list) else []


def _level(name: str) -> int:
    merged = _MERGED.fullmatch(name)
    return 0 if merged is None else int(merged[1] or 1)
