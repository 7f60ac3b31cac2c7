"""A model's weights in one file or in several: `<stem>.safetensors`, its shards, their index.

Names: transformers/utils/__init__.py (`SAFE_WEIGHTS_NAME`, `SAFE_WEIGHTS_INDEX_NAME`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.naming import shard_of
from sentinel.formats.scalars import as_text

if TYPE_CHECKING:
    from sentinel.formats.draft import Draft

MODEL = "model"
_MOST_FAULTS = 20
_LONGEST_NAME = 255


def index_name(stem: str = MODEL) -> str:
    """Return the name of the file that says which shard holds which tensor."""
    return f"{stem}.safetensors.index.json"


def has_weights(files: Collection[str], stem: str = MODEL) -> bool:
    """Tell whether a directory's files hold such weights, or a part of them."""
    return (
        f"{stem}.safetensors" in files
        or index_name(stem) in files
        or any(shard.stem == stem for shard in map(shard_of, files) if shard)
    )


def is_indexed(files: Collection[str], stem: str = MODEL) -> bool | None:
    """Tell whether the index, written last, is there; None for weights in one file."""
    if f"{stem}.safetensors" in files:
        return None
    return index_name(stem) in files


def read_weights(draft: Draft, files: Collection[str], stem: str = MODEL) -> None:
    """Read the headers of all the weights; a shard that is named and not there is a fault."""
    if f"{stem}.safetensors" in files:
        draft.read_tensors(f"{stem}.safetensors")
    elif index_name(stem) in files:
        _read_indexed(draft, index_name(stem))
    else:
        read_shard_set(draft, files, stem)


def read_shard_set(draft: Draft, files: Collection[str], stem: str) -> None:
    """Read the shards of a set by their names alone, without an index."""
    found = [shard for shard in map(shard_of, sorted(files)) if shard and shard.stem == stem]
    if not found:
        return
    largest = max(found, key=lambda shard: shard.count)
    names = (largest.sibling(number) for number in range(1, largest.count + 1))
    _read_members(draft, names)


def _read_indexed(draft: Draft, name: str) -> None:
    named = indexed_files(draft, name)
    files = sorted(set(named.values()))
    _read_members(draft, files)
    check_index(draft, name, named)


def indexed_files(draft: Draft, name: str) -> dict[str, str]:
    """Note an index and return its files by tensor; none, after a fault, when it is of no use."""
    content = draft.read_json(name, "weights", unique=True)
    if content is None:
        return {}
    weight_map = content.get("weight_map")
    named = _tensor_files(weight_map) if isinstance(weight_map, dict) else None
    if not named:
        draft.fault(_broken_index(draft, name, "has no usable weight_map"), "weights", name)
    return named or {}


def check_index(draft: Draft, name: str, named: Mapping[str, str]) -> None:
    """Hold an index against its shards, all of them read: an old one beside new shards differs.

    Nothing is said after another fault, of which this would be the consequence.
    """
    if draft.faults:
        return
    elsewhere = [
        tensor
        for tensor, file in named.items()
        if tensor not in draft.tensors or draft.tensors[tensor].member != file
    ]
    if elsewhere:
        first = elsewhere[0]
        fact = (
            f"has {len(elsewhere)} tensors that are not in the shard it names, first"
            f" '{first:.200}' in '{named[first]}'"
        )
        draft.fault(_broken_index(draft, name, fact), "weights", name)
        return
    files = set(named.values())
    unknown = [one for one in draft.tensors.values() if one.member in files]
    unknown = [one for one in unknown if one.name not in named]
    if unknown:
        fact = (
            f"does not name {len(unknown)} tensors that its shards hold, first"
            f" '{unknown[0].name:.200}' in '{unknown[0].member}'"
        )
        draft.fault(_broken_index(draft, name, fact), "weights", name)


def _tensor_files(weight_map: Mapping[object, object]) -> dict[str, str] | None:
    named: dict[str, str] = {}
    for key, value in weight_map.items():
        tensor, file = as_text(key), as_text(value)
        if tensor is None or file is None or not is_plain_name(file):
            return None
        named[tensor] = file
    return named


def is_plain_name(name: str) -> bool:
    """Tell whether a name from a file stays inside its own directory."""
    return (
        0 < len(name) <= _LONGEST_NAME and name not in {".", ".."} and not set(name) & set("/\\:\0")
    )


def _read_members(draft: Draft, names: Iterable[str]) -> None:
    for name in names:
        if len(draft.faults) >= _MOST_FAULTS:
            return
        draft.read_tensors(name)


def _broken_index(draft: Draft, name: str, fact: str) -> InputError:
    return InputError(
        f"file '{path_text(draft.root / name)}'", fact=fact, todo="check what wrote it"
    )
