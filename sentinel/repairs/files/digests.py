"""The digests in receipts: SHA-256, which anybody can check with tools of their own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES = 4 * 1024 * 1024


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal digits; raises as `open_regular`."""
    found = hashlib.sha256()
    with open_regular(path) as (file, _size_bytes):
        while piece := file.read(_READ_BYTES):
            found.update(piece)
    return found.hexdigest()
