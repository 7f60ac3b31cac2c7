"""`sentinel-repair.json`: what was changed, and what `sentinel undo` may take away again.

In a directory it lies inside, under a name that no trainer asks for; of a single file it lies
beside, under a name that begins as no checkpoint's does.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sentinel import __version__
from sentinel.checkpoint import path_text
from sentinel.errors import InputError, RepairError
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.naming import is_plain_name
from sentinel.formats.scalars import as_text
from sentinel.receipt import plan_object
from sentinel.storage import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from sentinel.receipt import Receipt

NAME = "sentinel-repair.json"
SCHEMA = 1
_STEM = NAME.removesuffix(".json")
_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Written:
    """What a receipt says was written, each path checked to stay inside ``root``.

    ``files`` are the digests by path, ``source`` the original with the digests of its files by
    their paths in ``source_root``.
    """

    receipt: Path
    root: Path
    is_directory: bool
    files: Mapping[str, str]
    source: Path
    source_root: Path
    originals: Mapping[str, str]
    made_directories: tuple[Path, ...]


def receipt_place(target: Path, *, is_directory: bool) -> Path:
    """Return where the receipt of a copy lies."""
    return target / NAME if is_directory else target.parent / f"{_STEM}-{target.name}.json"


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt as a whole."""
    atomic_write(path, (json.dumps(receipt_object(receipt), indent=1) + "\n").encode())


def receipt_object(receipt: Receipt) -> dict[str, object]:
    """Return a receipt as what JSON is made of."""
    return {
        "schema": SCHEMA,
        "made_by": f"sentinel {__version__}",
        "made_at": receipt.made_at,
        **plan_object(receipt.plan),
        "originals": dict(receipt.originals),
        "made_directories": [path_text(one) for one in receipt.made_directories],
    }


def read_receipt(path: Path) -> Written:
    """Return what a receipt says, as far as it may be believed.

    Only what lies where the receipt itself does counts: a path in it that leaves that place is
    refused. Raises RepairError.
    """
    try:
        content = read_json_object(path)
    except InputError as error:
        raise RepairError(f"receipt '{path_text(path)}'", fact=f"is none: {error}") from error
    if content.get("schema") != SCHEMA or not isinstance(content.get("files"), dict):
        _refuse(path, "is no receipt of a repair that this version knows")
    target, source = as_text(content.get("target")), as_text(content.get("source"))
    is_directory = content.get("is_directory")
    if target is None or source is None or not isinstance(is_directory, bool):
        _refuse(path, "does not say what was copied, and to where")
    place = receipt_place(Path(target), is_directory=is_directory)
    if path.name != place.name:
        _refuse(path, f"lies under another name than '{place.name}'")
    files = _digests(path, content["files"], "sha256")
    originals = _digests(path, content.get("originals"), None)
    directories = content.get("made_directories")
    made = (
        [Path(one) for one in directories if isinstance(one, str)]
        if isinstance(directories, list)
        else []
    )
    return Written(
        receipt=path,
        root=path.parent,
        is_directory=is_directory,
        files=files,
        source=Path(source),
        source_root=Path(source) if is_directory else Path(source).parent,
        originals=originals,
        made_directories=tuple(one for one in made if path.parent.is_relative_to(one)),
    )


def remove_stale(path: Path) -> None:
    """Remove a receipt that a killed repair left: one of a single file, of which nothing is there.

    Any other stays, and is then in the way.
    """
    try:
        written = read_receipt(path)
    except RepairError:
        return
    if not any(os.path.lexists(written.root / name) for name in written.files):
        path.unlink()


def _digests(path: Path, entries: object, key: str | None) -> dict[str, str]:
    if not isinstance(entries, dict):
        _refuse(path, "does not list the files it is about")
    found: dict[str, str] = {}
    for name, entry in entries.items():
        said = entry.get(key) if key and isinstance(entry, dict) else entry
        parts = PurePosixPath(name).parts
        if not parts or "/".join(parts) != name or not all(map(is_plain_name, parts)):
            _refuse(path, f"names '{name:.200}', which does not stay in its place")
        if not isinstance(said, str) or len(said) != _SHA256_DIGITS:
            _refuse(path, f"has no digest of '{name:.200}'")
        found[name] = said
    return found


def _refuse(path: Path, fact: str) -> NoReturn:
    raise RepairError(
        f"receipt '{path_text(path)}'", fact=fact, todo="name one that `sentinel repair` wrote"
    )
