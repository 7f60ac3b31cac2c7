"""What the two kinds of GGUF files have in common: the parts of a split file, their metadata.

llama.cpp splits a file into `<name>-00001-of-00003.gguf` and so on; each part says which it is,
the first carries the metadata (tools/gguf-split of https://github.com/ggml-org/llama.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, MissingMemberError
from sentinel.formats.containers.gguf_metadata import GgufValue
from sentinel.formats.containers.on_demand import GGUF_SUFFIX, read_gguf
from sentinel.formats.files import stat_member
from sentinel.formats.layouts.base import files_at
from sentinel.formats.naming import shard_of
from sentinel.formats.scalars import as_count, as_text

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Member
    from sentinel.formats.containers.gguf import GgufFile
    from sentinel.formats.draft import Draft
    from sentinel.formats.layouts.base import Place
    from sentinel.formats.settings import Setting

_COUNT = "split.count"
_TENSORS = "split.tensors.count"
_MOST_FAULTS = 20
_EMPTY: Mapping[str, GgufValue] = MappingProxyType({})


def is_gguf(place: Place) -> bool:
    """Tell whether a place is a file that calls itself GGUF."""
    return not place.is_directory and place.path.name.endswith(GGUF_SUFFIX)


def metadata_at(path: Path) -> Mapping[str, GgufValue]:
    """Return the metadata of a file, empty when it cannot be read."""
    try:
        return read_gguf(path).metadata
    except InputError:
        return _EMPTY


def stat_set(path: Path) -> tuple[Member, ...]:
    """Look at the file, or at all parts of it that are there."""
    names = _names(path.name)
    # A directory is listed only for a set: one file needs no names but its own.
    files = files_at(path.parent) if len(names) > 1 else frozenset()
    found = []
    for name in names:
        try:
            if name == path.name or name in files:
                found.append(stat_member(path.parent, name, "weights"))
        except InputError:
            continue
    return tuple(found)


def read_set(draft: Draft, path: Path) -> tuple[int | None, Mapping[str, GgufValue]]:
    """Read the file or all its parts; return the format's version and the metadata.

    A part that is not there is a fault, and so are parts that do not belong together.
    """
    found: dict[str, GgufFile] = {}
    for name in _names(path.name):
        if len(draft.faults) >= _MOST_FAULTS:
            break
        part = draft.read_gguf(name)
        if part is not None:
            found[name] = part
    for name, part in found.items():
        _check_split(draft, name, part)
    first = next(iter(found.values()), None)
    if first is None:
        return None, _EMPTY
    total = as_count(first.metadata.get(_TENSORS))
    if len(found) > 1 and not draft.faults and total not in {None, len(draft.tensors)}:
        fact = f"its parts hold {len(draft.tensors)} tensors, its metadata say {total}"
        draft.fault(_unfit(draft, path.name, fact), "weights", path.name)
    return first.version, first.metadata


def settings_of(
    version: int | None, metadata: Mapping[str, GgufValue], names: Mapping[str, str]
) -> dict[str, Setting]:
    """Return the settings that some metadata keys tell; ``names`` are their dotted names."""
    values = {name: metadata.get(key) for key, name in names.items()}
    found: dict[str, Setting] = {}
    for name, value in values.items():
        known = as_text(value) if isinstance(value, str) else value
        if isinstance(known, str | int | float):
            found[name] = known
    if version is not None:
        found["gguf.version"] = version
    return found


def _names(name: str) -> tuple[str, ...]:
    """Return the names of all parts of the file that a name belongs to."""
    shard = shard_of(name)
    if shard is None:
        return (name,)
    return tuple(shard.sibling(number) for number in range(1, shard.count + 1))


def _check_split(draft: Draft, name: str, part: GgufFile) -> None:
    """Hold a part's own count of parts against the one in its name."""
    count = as_count(part.metadata.get(_COUNT)) or 1
    shard = shard_of(name)
    if shard is None and count > 1:
        error: InputError = MissingMemberError(
            f"file '{path_text(draft.root / name)}'",
            fact=f"is one of {count} parts, and its name does not tell the others",
            todo=f"name the parts as they were, <name>-00001-of-{count:05d}.gguf",
        )
        draft.fault(error, "weights", name)
    elif shard is not None and shard.count != count:
        fact = f"its name says {shard.count} parts, its metadata {count}"
        draft.fault(_unfit(draft, name, fact), "weights", name)


def _unfit(draft: Draft, name: str, fact: str) -> InputError:
    return InputError(
        f"file '{path_text(draft.root / name)}'",
        fact=fact,
        todo="the parts do not belong together; copy or convert them again",
    )
