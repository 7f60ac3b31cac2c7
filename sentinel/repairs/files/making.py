"""Which action makes each file of a copy: other values, other keys, another text, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.dtypes import DTYPES
from sentinel.errors import RepairError
from sentinel.formats.containers.on_demand import TORCH_SUFFIXES, read_torch_file
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.files import stat_member
from sentinel.formats.naming import COMPANIONS
from sentinel.receipt import Loss, NewFile
from sentinel.repairs.files import tensors_file, torch_archive
from sentinel.repairs.files.actions import Action, Copying, Editing
from sentinel.repairs.files.casting import CASTABLE, DTYPE_OF_PRECISION
from sentinel.repairs.files.hashes import with_room
from sentinel.repairs.files.manifests import Listing
from sentinel.repairs.files.tensors_file import NewTensor, TensorsFile
from sentinel.repairs.files.texts import (
    INDEX,
    MANIFEST,
    is_model_config,
    new_index,
    new_model_config,
)
from sentinel.repairs.files.torch_archive import TorchArchive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sentinel.checkpoint import Checkpoint, ParameterState, Part, Tensor
    from sentinel.receipt import CastTo, How, OptimizerWish

_SUFFIX = ".safetensors"
_BITSANDBYTES = "state1"
_STEP = "step"
"""The one value of an optimizer's state that torch does not cast when it loads it
(`_process_value_according_to_param_policy` in torch/optim/optimizer.py)."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; ``keys`` are the new keys of tensors by the old ones."""

    cast: CastTo | None
    optimizer: OptimizerWish
    keys: Mapping[str, str]

    def dtype_of(self, tensor: Tensor) -> str:
        """Return the dtype that a tensor of the weights gets.

        An alpha is a setting and not a weight: rounding it would change the scale of all.
        """
        is_cast = self.cast is not None and tensor.dtype in CASTABLE and tensor.role != "alpha"
        return DTYPE_OF_PRECISION[self.cast] if self.cast and is_cast else tensor.dtype


class Making:
    """The actions for one checkpoint's files. Raises RepairError for what cannot be made."""

    def __init__(self, checkpoint: Checkpoint, target_name: str, wish: Wish) -> None:
        self._root = checkpoint.root
        self._checkpoint = checkpoint
        self._target_name = target_name
        self._wish = wish
        self._parts = {member.path: member.part for member in checkpoint.members}
        self._tensors: dict[str, dict[str, Tensor]] = {}
        for tensor in checkpoint.tensors:
            self._tensors.setdefault(tensor.member, {})[tensor.name] = tensor

    def actions(self, files: Iterable[str]) -> tuple[Action, ...]:
        """Return an action for each file; one that lists the others comes last."""
        made = [self._action(name) for name in files]
        return tuple(sorted(made, key=lambda action: isinstance(action, Listing)))

    def losses(self, actions: Sequence[Action]) -> tuple[tuple[Part, Loss], ...]:
        """Return what the casts of each part do not keep, parts without a loss left out."""
        found: dict[Part, Loss] = {}
        for action in actions:
            loss = Loss()
            path = self._root / action.file.source
            if isinstance(action, TensorsFile):
                loss = tensors_file.loss_of(path, action.tensors)
            elif isinstance(action, TorchArchive):
                loss = torch_archive.loss_of(path, action.storages)
            part = self._parts.get(action.file.source, "state")
            found[part] = found.get(part, Loss()) + loss
        return tuple((part, loss) for part, loss in found.items() if loss)

    def _action(self, name: str) -> Action:
        part = self._parts.get(name)
        made: Action | None = None
        if part == "weights" and name in self._tensors:
            made = self._weights(name)
        elif part == "optimizer" and self._wish.optimizer == "cast":
            made = self._optimizer(name)
        elif name.endswith(INDEX) and part == "weights":
            made = self._index(name)
        elif is_model_config(name) and self._wish.cast is not None:
            content = new_model_config(self._root / name, self._wish.cast)
            made = self._edited(name, content) if content else None
        elif name == MANIFEST:
            made = Listing(self._file(name, "edited", self._size(name)), self._wish.cast)
        return made or Copying(self._file(name, "copied", self._size(name)))

    def _weights(self, name: str) -> Action | None:
        if name.endswith(_SUFFIX):
            return self._tensors_file(name)
        known = self._tensors[name].values()
        renamed = next((one.name for one in known if one.name in self._wish.keys), None)
        if renamed is not None:
            raise RepairError(
                f"file '{path_text(self._root / name)}'",
                fact=f"holds '{renamed:.200}' in a pickle, whose keys are not renamed",
                todo="save it as safetensors first",
            )
        if self._wish.cast is None:
            return None
        found = read_torch_file(self._root / name, member=name).tensors
        alphas = {(one.offset, one.size_bytes) for one in known if one.role == "alpha"}
        chosen = [
            one
            for one in found
            if one.dtype in CASTABLE and (one.offset, one.size_bytes) not in alphas
        ]
        return self._archive(name, chosen, [one for one in found if one not in chosen])

    def _tensors_file(self, name: str) -> Action | None:
        header = read_safetensors_header(self._root / name)
        known = self._tensors[name]
        tensors = tensors_file.in_order(
            NewTensor(
                found,
                self._wish.keys.get(found.name, found.name),
                self._wish.dtype_of(known[found.name]),
            )
            for found in header.tensors
        )
        is_cast = any(one.dtype != one.source.dtype for one in tensors)
        is_renamed = any(one.name != one.source.name for one in tensors)
        if not is_cast and not is_renamed:
            return None
        how: How = "cast" if is_cast else "renamed"
        if is_cast and is_renamed:
            how = "cast and renamed"
        metadata = with_room(header.metadata)
        size = len(tensors_file.header_bytes(tensors, metadata))
        size += sum(tensor.size_bytes for tensor in tensors)
        stale = tuple(sorted(header.metadata.keys() - metadata.keys()))
        return TensorsFile(self._file(name, how, size), tensors, metadata, stale)

    def _optimizer(self, name: str) -> Action | None:
        state = self._checkpoint.optimizer
        path = self._root / name
        if state is None or state.opaque_count or not name.endswith(TORCH_SUFFIXES):
            raise _not_cast(path, "holds values of a kind that cannot be looked into")
        if any(map(_is_packed, state.parameters)):
            raise _not_cast(path, "keeps its moments packed, with scales of their own")
        moments = {
            (tensor.offset, tensor.size_bytes)
            for one in state.parameters
            for kind, tensor in one.tensors.items()
            if tensor.member == name and kind != _STEP and tensor.dtype in CASTABLE
        }
        found = read_torch_file(path, member=name).tensors
        chosen = [one for one in found if (one.offset, one.size_bytes) in moments]
        return self._archive(name, chosen, [one for one in found if one not in chosen])

    def _archive(
        self, name: str, chosen: Sequence[Tensor], others: Sequence[Tensor]
    ) -> Action | None:
        if self._wish.cast is None:
            return None
        path = self._root / name
        after = DTYPE_OF_PRECISION[self._wish.cast]
        storages = torch_archive.storages_to_cast(path, chosen, others, after)
        if not storages:
            return None
        torch_archive.check_pickle(path, storages)
        size = torch_archive.size_after(self._size(name), storages)
        return TorchArchive(self._file(name, "cast", size), storages)

    def _index(self, name: str) -> Action | None:
        if self._wish.cast is None and not self._wish.keys:
            return None
        size = sum(
            tensor.numel * DTYPES[self._wish.dtype_of(tensor)].bits // 8
            for tensor in self._checkpoint.tensors
        )
        return self._edited(name, new_index(self._root / name, self._wish.keys, size))

    def _edited(self, name: str, content: bytes) -> Action:
        return Editing(self._file(name, "edited", len(content)), content)

    def _file(self, name: str, how: How, size_bytes: int) -> NewFile:
        return NewFile(self._new_name(name), name, how, size_bytes)

    def _new_name(self, name: str) -> str:
        """Return a file's name in the copy: what is named after a single file goes with it."""
        old = self._checkpoint.path.name
        if self._root == self._checkpoint.path:
            return name
        if name == old or name.startswith(f"{old}{COMPANIONS}/"):
            return self._target_name + name.removeprefix(old)
        return name

    def _size(self, name: str) -> int:
        return stat_member(self._root, name, "state").size_bytes


def _is_packed(state: ParameterState) -> bool:
    """Tell whether moments are codes with scales, or bitsandbytes' own, whose kernels want F32."""
    codes = (one for one in state.tensors.values() if DTYPES[one.dtype].kind == "int")
    return (
        state.numel is not None
        or _BITSANDBYTES in state.tensors
        or any(one.numel > 1 for one in codes)
    )


def _not_cast(path: object, fact: str) -> RepairError:
    return RepairError(
        f"optimizer state '{path_text(str(path))}'",
        fact=f"cannot be cast: it {fact}",
        todo="keep it, or drop it",
    )
