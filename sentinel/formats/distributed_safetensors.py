"""Distributed checkpoints as safetensors: `shard-<rank>-model-<n>-of-<count>.safetensors`.

Each rank writes its chunks under the tensors' own names, and where each begins into the file's
metadata. Source: torch/distributed/checkpoint/hf_storage.py and _hf_utils.py of
https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sentinel.checkpoint import Piece, Tensor, path_text
from sentinel.errors import InputError
from sentinel.formats.containers.json_text import parse_json_object
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.containers.tiling import tiling_mistake
from sentinel.formats.files import list_directory, stat_member
from sentinel.formats.scalars import as_count

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Member
    from sentinel.formats.draft import Draft

_SHARD = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_INFO = "DCP_SHARDING_INFO"


def shards_in(files: Collection[str]) -> tuple[str, ...]:
    """Return the names of such shards among files, sorted."""
    return tuple(sorted(name for name in files if _SHARD.fullmatch(name)))


def stat_hf_shards(path: Path) -> tuple[Member, ...]:
    """Look at the shards in a directory; nothing when one cannot be looked at."""
    try:
        names = shards_in(list_directory(path)[0])
        return tuple(stat_member(path, name, "weights") for name in names)
    except InputError:
        return ()


def read_hf_shards(draft: Draft, files: Collection[str]) -> None:
    """Read the header of every shard and put each tensor's chunks together.

    The files do not tell the shapes of whole tensors: the chunks that are there must tile what
    they reach to, else a shard is missing.
    """
    chunks: dict[str, list[tuple[str, Piece]]] = {}
    for name in shards_in(files):
        if draft.add_member(name, "weights") is None:
            continue
        try:
            for tensor, dtype, piece in _chunks(draft.root / name, name):
                chunks.setdefault(tensor, []).append((dtype, piece))
        except InputError as error:
            draft.fault(error, "weights", name)
    for name, found in chunks.items():
        try:
            draft.take([_joined(name, found, draft.root)])
        except InputError as error:
            draft.fault(error, "weights", found[0][1].member)


def _chunks(path: Path, member: str) -> list[tuple[str, str, Piece]]:
    """Return name, dtype and place of every chunk in a shard."""
    header = read_safetensors_header(path)
    begins = _begins(path, header.metadata.get(_INFO, "{}"))
    found = []
    for tensor in header.tensors:
        place = begins.get(tensor.name, (0,) * len(tensor.shape))
        if len(place) != len(tensor.shape):
            raise _refused(path, f"says of a chunk of '{tensor.name:.200}' not where it begins")
        piece = Piece(member, tensor.offset, tensor.size_bytes, place, tensor.shape)
        found.append((tensor.name, tensor.dtype, piece))
    return found


def _begins(path: Path, text: str) -> Mapping[str, tuple[int, ...]]:
    info = parse_json_object(path, text.encode())
    found: dict[str, tuple[int, ...]] = {}
    for name, entry in info.items():
        offsets = entry.get("saved_offsets") if isinstance(entry, dict) else None
        counts = [as_count(one) for one in offsets] if isinstance(offsets, list) else [None]
        known = tuple(count for count in counts if count is not None)
        if len(known) != len(counts):
            raise _refused(path, f"says of a chunk of '{name:.200}' not where it begins")
        found[name] = known
    return found


def _joined(name: str, found: list[tuple[str, Piece]], root: Path) -> Tensor:
    pieces = [piece for _, piece in sorted(found, key=lambda one: one[1].place)]
    filled = [piece for piece in pieces if 0 not in piece.shape] or pieces[:1]
    first = filled[0]
    shape = _reached(filled)
    boxes = [(piece.place, piece.shape) for piece in filled]
    mistake = None if 0 in first.shape else tiling_mistake(shape, boxes)
    if len({dtype for dtype, _ in found}) > 1:
        mistake = "has chunks of several dtypes"
    if mistake:
        raise _refused(root / first.member, f"its tensor '{name:.200}' {mistake}")
    size_bytes = sum(piece.size_bytes for piece in filled)
    whole = Tensor(name, first.member, found[0][0], shape, first.offset, size_bytes)
    return replace(whole, pieces=tuple(filled)) if len(filled) > 1 else whole


def _reached(pieces: list[Piece]) -> tuple[int, ...]:
    """Return the shape that pieces reach to; of pieces with other axes only the first counts."""
    shape = list(pieces[0].shape)
    for piece in pieces:
        ends = map(sum, zip(piece.place, piece.shape, strict=True))
        shape = [max(pair) for pair in zip(shape, ends, strict=False)]
    return tuple(shape)


def _refused(path: Path, fact: str) -> InputError:
    return InputError(
        f"file '{path_text(path)}'", fact=fact, todo="a shard is missing, or it is damaged"
    )
