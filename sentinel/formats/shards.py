"""A model's weights in one file or in several: `<stem>.safetensors`, its shards, their index.

Names: transformers/utils/__init__.py (`SAFE_WEIGHTS_NAME`, `SAFE_WEIGHTS_INDEX_NAME`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.naming import is_plain_name, shard_of
from sentinel.formats.scalars import as_text

if TYPE_CHECKING:
    from sentinel.formats.draft import Draft

MODEL = "model"
SUFFIX = ".safetensors"
_MOST_FAULTS = 20


def index_name(stem: str = MODEL) -> str:
    """Return the name of the file that says which shard holds which tensor."""
    return f"{stem}.safetensors.index.json"


def has_weights(files: Collection[str], stem: str = MODEL) -> bool:
    """Tell whether a directory's files hold such weights, or a part of them."""
    return (
        f"{stem}.safetensors" in files
        or index_name(stem) in files
        or any((one.stem, one.suffix) == (stem, SUFFIX) for one in map(shard_of, files) if one)
    )


def is_indexed(files: Collection[str], stem: str = MODEL) -> bool | None:
    """Tell whether the index, written last, is there; None for weights in one file."""
    if f"{stem}.safetensors" in files:
        return None
    return index_name(stem) in files


def read_weights(
    draft: Draft, files: Collection[str], stem: str = MODEL, *, folder: str = ""
) -> None:
    """Read the headers of all the weights; a shard that is named and not there is a fault.

    ``folder``, with its slash, is where the files lie below the checkpoint.
    """
    if f"{stem}.safetensors" in files:
        draft.read_tensors(f"{folder}{stem}.safetensors")
    elif index_name(stem) in files:
        _read_indexed(draft, index_name(stem), folder)
    else:
        read_shard_set(draft, files, stem, folder=folder)


def read_shard_set(draft: Draft, files: Collection[str], stem: str, *, folder: str = "") -> None:
    """Read the shards of a set by their names alone, without an index."""
    shards = [shard for shard in map(shard_of, sorted(files)) if shard]
    found = [shard for shard in shards if (shard.stem, shard.suffix) == (stem, SUFFIX)]
    if not found:
        return
    largest = max(found, key=lambda shard: shard.count)
    names = (f"{folder}{largest.sibling(at)}" for at in range(1, largest.count + 1))
    _read_members(draft, names)


def _read_indexed(draft: Draft, index: str, folder: str) -> None:
    named = indexed_files(draft, index, folder=folder)
    _read_members(draft, sorted(set(named.values())))
    check_index(draft, f"{folder}{index}", named)


def indexed_files(draft: Draft, index: str, *, folder: str = "") -> dict[str, str]:
    """Note an index and return its files by tensor; none, after a fault, when it is of no use."""
    name = f"{folder}{index}"
    content = draft.read_json(name, "weights", unique=True)
    if content is None:
        return {}
    weight_map = content.get("weight_map")
    found = _tensor_files(weight_map) if isinstance(weight_map, dict) else None
    if not found:
        draft.fault(_broken_index(draft, name, "has no usable weight_map"), "weights", name)
        return {}
    return {tensor: f"{folder}{file}" for tensor, file in found.items()}


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


def _read_members(draft: Draft, names: Iterable[str]) -> None:
    for name in names:
        if len(draft.faults) >= _MOST_FAULTS:
            return
        draft.read_tensors(name)


def _broken_index(draft: Draft, name: str, fact: str) -> InputError:
    return InputError(
        f"file '{path_text(draft.root / name)}'", fact=fact, todo="check what wrote it"
    )
