"""Distributed checkpoints of torch: a directory of `.metadata` and `.distcp` files.

Weights and optimizer lie in the same files, so each name is told apart by what it says: what
belongs to an optimizer becomes the optimizer's state, the rest are weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sentinel.checkpoint import Part, Piece, Tensor
from sentinel.errors import InputError
from sentinel.formats.containers.on_demand import DCP_METADATA, open_items, read_dcp_metadata
from sentinel.formats.distributed_optimizer import is_below, optimizer_roots, optimizer_tree
from sentinel.formats.files import list_directory, stat_member
from sentinel.formats.optimizer_state import merged, optimizer_state_of

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Member
    from sentinel.formats.containers.dcp_items import ItemFile
    from sentinel.formats.containers.dcp_metadata import (
        DistributedMetadata,
        DistributedTensor,
        StoredItem,
    )
    from sentinel.formats.containers.tiling import Box
    from sentinel.formats.draft import Draft

DESCRIPTION = DCP_METADATA
"""What names every chunk, and is written last."""

SUFFIX = ".distcp"

_WRAPPERS = ("model", "state_dict", "module", "model_state_dict")
"""Keys under which trainers put a model beside other things."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One item to be looked at; ``tensor`` and ``box`` are None for what is no tensor."""

    name: str
    part: Part
    item: StoredItem
    tensor: DistributedTensor | None = None
    box: Box | None = None

    @property
    def key(self) -> tuple[str, tuple[int, ...] | None]:
        return self.name, self.box[0] if self.box else None


def is_distributed(files: Iterable[str]) -> bool:
    """Tell whether files of a directory are those of a distributed checkpoint."""
    return any(name.endswith(SUFFIX) for name in files)


def stat_distributed(root: Path, directory: str, part: Part) -> tuple[Member, ...]:
    """Look at the files of a distributed checkpoint; what cannot be looked at is left out."""
    found = []
    for name in sorted(_names(root / directory)):
        try:
            if _is_member(name):
                found.append(stat_member(root, _inside(directory, name), part))
        except InputError:
            continue
    return tuple(found)


def read_distributed(draft: Draft, directory: str = "", part: Part = "weights") -> None:
    """Take the tensors and the optimizer's state of a distributed checkpoint into a draft.

    ``directory`` is where it lies in the draft's, ``part`` what it holds: in one of the part
    ``optimizer`` nothing counts as weights. What is wrong becomes a fault; a tensor of which a
    chunk is missing is left out.
    """
    described = _inside(directory, DESCRIPTION)
    if draft.add_member(described, part) is None:
        return
    try:
        metadata = read_dcp_metadata(draft.root / described)
    except InputError as error:
        draft.fault(error, part, described)
        return
    roots = optimizer_roots((*(tensor.name for tensor in metadata.tensors), *metadata.objects))
    found = _read_items(draft, directory, _wanted(metadata, roots, part))
    whole = {
        tensor.name: joined
        for tensor in metadata.tensors
        if (joined := _joined(tensor, found, described)) is not None
    }
    leaves = {**whole, **{name: value for (name, at), value in found.items() if at is None}}
    states = (optimizer_state_of(optimizer_tree(leaves, root), described) for root in roots)
    draft.optimizer = merged([*filter(None, [draft.optimizer]), *filter(None, states)])
    if part == "weights":
        weights = {name: one for name, one in whole.items() if not _is_any(name, roots)}
        # What a file of whole weights beside them holds too was read from there.
        draft.take(
            one for one in _unwrapped(weights, metadata.paths) if one.name not in draft.tensors
        )


def _read_items(
    draft: Draft, directory: str, wanted: list[_Wanted]
) -> dict[tuple[str, tuple[int, ...] | None], object]:
    """Look at every item, file by file; what is wrong with one is a fault of its file."""
    found: dict[tuple[str, tuple[int, ...] | None], object] = {}
    by_file: dict[str, list[_Wanted]] = {}
    for one in wanted:
        by_file.setdefault(one.item.file, []).append(one)
    for file, items in sorted(by_file.items()):
        member = _inside(directory, file)
        part = _part_of(items)
        if draft.add_member(member, part) is None:
            continue
        try:
            with open_items(draft.root / member, member) as opened:
                for one in sorted(items, key=lambda one: one.item.offset):
                    _read_item(draft, opened, one, found)
        except InputError as error:
            draft.fault(error, part, member)
    for name in sorted(_names(draft.root / directory)):
        if _is_member(name) and name not in by_file and name != DESCRIPTION:
            draft.add_member(_inside(directory, name), "state")
    return found


def _read_item(
    draft: Draft,
    opened: ItemFile,
    one: _Wanted,
    found: dict[tuple[str, tuple[int, ...] | None], object],
) -> None:
    try:
        if one.tensor is not None and one.box is not None:
            found[one.key] = opened.chunk(one.item, one.name, one.tensor.dtype, one.box[1])
        elif one.part == "optimizer":
            found[one.key] = opened.value(one.item, one.name)
        else:
            opened.check_length(one.item)
    except InputError as error:
        draft.fault(error, one.part, opened.member)


def _wanted(metadata: DistributedMetadata, roots: tuple[str, ...], part: Part) -> list[_Wanted]:
    """Return every item; values that are neither weights nor an optimizer's are only state."""
    wanted = []
    for tensor in metadata.tensors:
        own: Part = "optimizer" if _is_any(tensor.name, roots) else part
        wanted += [_Wanted(tensor.name, own, item, tensor, box) for box, item in tensor.chunks]
    for name, item in metadata.objects.items():
        wanted.append(_Wanted(name, "optimizer" if _is_any(name, roots) else "state", item))
    return wanted


def _part_of(items: Iterable[_Wanted]) -> Part:
    """Return the part that a file with several of them counts as: what a resume needs most."""
    parts = {one.part for one in items}
    order: tuple[Part, ...] = ("weights", "optimizer")
    return next((part for part in order if part in parts), "state")


def _joined(
    tensor: DistributedTensor,
    found: Mapping[tuple[str, tuple[int, ...] | None], object],
    described: str,
) -> Tensor | None:
    """Return a tensor of all its chunks, None when one of them could not be read."""
    chunks = [found.get((tensor.name, place)) for (place, _), _ in tensor.chunks]
    known = [chunk for chunk in chunks if isinstance(chunk, Tensor)]
    if len(known) != len(chunks) or len({chunk.big_endian for chunk in known}) > 1:
        return None
    if not known:
        return Tensor(tensor.name, described, tensor.dtype, tensor.shape, 0, 0)
    first = replace(known[0], name=tensor.name)
    if len(known) == 1:
        return first
    pieces = tuple(
        Piece(one.member, one.offset, one.size_bytes, *box, one.strides)
        for one, (box, _) in zip(known, tensor.chunks, strict=True)
    )
    size_bytes = sum(piece.size_bytes for piece in pieces)
    return replace(first, shape=tensor.shape, size_bytes=size_bytes, strides=None, pieces=pieces)


def _unwrapped(
    weights: Mapping[str, Tensor], paths: Mapping[str, tuple[str | int, ...]]
) -> list[Tensor]:
    """Return the weights, those below a model's key under the model's own names for them."""
    own = {name: _own_name(name, paths.get(name, ())) for name in weights}
    if len(set(own.values())) != len(own):
        own = {name: name for name in weights}
    return [replace(tensor, name=own[name]) for name, tensor in weights.items()]


def _own_name(name: str, path: tuple[str | int, ...]) -> str:
    wrapper, key = path[-2:] if len(path) > 1 else ("", "")
    return key if wrapper in _WRAPPERS and isinstance(key, str) else name


def _is_any(name: str, roots: Iterable[str]) -> bool:
    return any(is_below(name, root) for root in roots)


def _inside(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _is_member(name: str) -> bool:
    return name == DESCRIPTION or name.endswith(SUFFIX)


def _names(path: Path) -> tuple[str, ...]:
    try:
        return list_directory(path)[0]
    except InputError:
        return ()
