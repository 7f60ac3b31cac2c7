"""A checkpoint in the making: what is found is kept, what is wrong becomes a fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.checkpoint import (
    AdapterConfig,
    Checkpoint,
    Fault,
    Member,
    Metric,
    OptimizerState,
    Part,
    Tensor,
    path_text,
)
from sentinel.errors import InputError, MissingMemberError
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.containers.on_demand import read_gguf, read_numpy_file, read_torch_file
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.files import stat_member
from sentinel.formats.optimizer_state import merged, optimizer_state_of
from sentinel.formats.roles import assign_roles
from sentinel.formats.settings import Setting, adapter_precision, with_precision
from sentinel.formats.state_files import (
    is_resumed_from,
    reader_of,
    settings_of_state,
    updates_of_state,
)
from sentinel.formats.wrappers import wrappers_in

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.formats.containers.gguf import GgufFile
    from sentinel.formats.containers.torch_objects import TorchFile

STATE_DICT = "state_dict"
"""Under which many trainers wrap the weights beside other things."""

MOST_FAULTS = 20
"""Faults of one rule that are told: an index can name a million files that are not there."""

_EMPTY: Mapping[str, str] = MappingProxyType({})


class Draft:
    """Members, tensors and faults of one checkpoint while its files are looked at one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.members: dict[str, Member] = {}
        self.tensors: dict[str, Tensor] = {}
        self.optimizer: OptimizerState | None = None
        self.state: dict[str, object] = {}
        self._unread_optimizers: set[str] = set()
        self._faults: dict[tuple[str, str], Fault] = {}
        self._errors: list[InputError] = []

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Return the faults found so far, one a member and rule."""
        return tuple(self._faults.values())

    def raise_first(self) -> None:
        """Raise the first error that became a fault, if any did."""
        if self._errors:
            raise self._errors[0]

    def fault(self, error: InputError, part: Part, member: str) -> None:
        """Keep an error as a fault of the checkpoint; of each rule only the first are kept."""
        if sum(rule == error.rule for rule, _member in self._faults) >= MOST_FAULTS:
            return
        self._errors.append(error)
        # JSON can spell half a surrogate pair, which would stop at the first encoder it meets.
        message = path_text(str(error))
        self._faults.setdefault((error.rule, member), Fault(error.rule, part, member, message))

    def add_member(self, name: str, part: Part) -> Member | None:
        """Note a file of the checkpoint; one that is not there or not readable is a fault."""
        try:
            member = stat_member(self.root, name, part)
        except InputError as error:
            self.fault(error, part, name)
            return None
        self.members[name] = member
        return member

    def read_json(
        self, name: str, part: Part, *, unique: bool = False
    ) -> Mapping[str, object] | None:
        """Note a JSON file and return its object, None after a fault; see `read_json_object`."""
        known = self.state.get(name)
        if isinstance(known, dict):
            return known
        if self.add_member(name, part) is None:
            return None
        try:
            found = read_json_object(self.root / name, unique=unique)
        except InputError as error:
            self.fault(error, part, name)
            return None
        if part == "state":
            self.state[name] = found
        return found

    def note(self, name: str, part: Part) -> None:
        """Note a file that nobody has read yet; one of the state is read to its end.

        What is already known to be wrong with it is enough.
        """
        if name not in self.members:
            if self.add_member(name, part) is None:
                return
            if part == "optimizer":
                self._unread_optimizers.add(name)
        read = reader_of(name) if part == "state" and name not in self.state else None
        if read is None or any(member == name for _rule, member in self._faults):
            return
        try:
            self.state[name] = read(self.root / name)
        except InputError as error:
            self.fault(error, part, name)

    def read_tensors(self, name: str) -> Mapping[str, str]:
        """Note a safetensors file of weights, take its tensors and return its metadata."""
        if self.add_member(name, "weights") is None:
            return _EMPTY
        try:
            header = read_safetensors_header(self.root / name)
        except InputError as error:
            self.fault(error, "weights", name)
            return _EMPTY
        self.take(
            Tensor(found.name, name, found.dtype, found.shape, found.offset, found.size_bytes)
            for found in header.tensors
        )
        return header.metadata

    def read_torch(self, name: str) -> object:
        """Note a file of `torch.save` with weights, take its tensors and return its tree.

        Weights below a `state_dict` lose that prefix, and then nothing else counts as one.
        Returns None after a fault.
        """
        found = self.torch_file(name, "weights")
        if found is None:
            return None
        wrapped = isinstance(found.tree, dict) and isinstance(found.tree.get(STATE_DICT), dict)
        prefix = f"{STATE_DICT}." if wrapped else ""
        self.take(
            replace(tensor, name=tensor.name.removeprefix(prefix))
            for tensor in found.tensors
            if tensor.name.startswith(prefix)
        )
        return found.tree

    def take(self, tensors: Iterable[Tensor]) -> None:
        """Keep tensors of the weights; a second one of a name is a fault of its file."""
        for tensor in tensors:
            if self.tensors.setdefault(tensor.name, tensor) is not tensor:
                self.fault(self._twice(tensor), "weights", tensor.member)

    def read_arrays(self, name: str) -> None:
        """Note a file of NumPy's with weights and take its arrays."""
        if self.add_member(name, "weights") is None:
            return
        try:
            found = read_numpy_file(self.root / name, member=name)
        except InputError as error:
            self.fault(error, "weights", name)
            return
        self.tensors |= {tensor.name: tensor for tensor in found}

    def read_gguf(self, name: str) -> GgufFile | None:
        """Note a GGUF file with weights, take its tensors and return it, None after a fault."""
        if self.add_member(name, "weights") is None:
            return None
        try:
            found = read_gguf(self.root / name, member=name)
        except InputError as error:
            self.fault(error, "weights", name)
            return None
        for tensor in found.tensors:
            if self.tensors.setdefault(tensor.name, tensor) is not tensor:
                self.fault(self._twice(tensor), "weights", name)
        return found

    def read_optimizer(self, name: str) -> None:
        """Note a file of `torch.save` with an optimizer's state and take what it describes.

        Several optimizers are one; of a form that nobody knows, it counts as not read.
        """
        found = self.torch_file(name, "optimizer")
        if found is None:
            return
        state = optimizer_state_of(found.tree, name)
        if state is None:
            self._unread_optimizers.add(name)
        self.optimizer = merged(filter(None, (self.optimizer, state)))

    def torch_file(self, name: str, part: Part) -> TorchFile | None:
        """Note a file of `torch.save` and return what it says of itself, None after a fault."""
        if self.add_member(name, part) is None:
            return None
        try:
            return read_torch_file(self.root / name, member=name)
        except InputError as error:
            self.fault(error, part, name)
            return None

    def missing_weights(self, what: str) -> None:
        """Say that no file with weights is here."""
        error = MissingMemberError(
            f"checkpoint '{path_text(self.root)}'",
            fact=f"holds no {what}",
            todo="the write was cut short, or is still going on",
        )
        self.fault(error, "weights", "")

    def finish(
        self,
        path: Path,
        layout: str,
        *,
        complete: bool | None,
        trainer: str | None = None,
        step: int | None = None,
        epoch: float | None = None,
        updates_done: int | None = None,
        adapter: AdapterConfig | None = None,
        metrics: tuple[Metric, ...] = (),
        settings: Mapping[str, Setting] = MappingProxyType({}),
        saved_as_trained: bool = False,
    ) -> Checkpoint:
        """Return the checkpoint, its tensors with their roles.

        ``saved_as_trained`` says that this trainer's files are in the precision it trained in,
        so that the tensors tell the setting ``precision.adapter``.
        """
        tensors = assign_roles(self.tensors.values(), adapter)
        known = settings_of_state(self.state)
        precision = adapter_precision(tensors) if saved_as_trained else None
        if precision is not None:
            known["precision.adapter"] = precision
        wrappers = wrappers_in(self.tensors)
        if wrappers:
            known["keys.wrappers"] = wrappers
        if updates_done is None:
            # At step 0 no optimizer step has been made, whatever the trainer logs or does not.
            updates_done = 0 if step == 0 else updates_of_state(self.state, step)
        return Checkpoint(
            path=path,
            layout=layout,
            trainer=trainer,
            step=step,
            epoch=epoch,
            updates_done=updates_done,
            complete=complete,
            members=tuple(self.members.values()),
            tensors=tensors,
            adapter=adapter,
            metrics=metrics,
            settings=with_precision({**known, **settings}, tensors),
            faults=self.faults,
            optimizer=self._whole_optimizer(),
            state_is_whole=self._state_is_whole(),
        )

    def _whole_optimizer(self) -> OptimizerState | None:
        """Return the optimizer; files of others, which nobody read, make it opaque."""
        if self.optimizer is None:
            return None
        count = self.optimizer.opaque_count + len(self._unread_optimizers)
        return replace(self.optimizer, opaque_count=count)

    def _state_is_whole(self) -> bool:
        state = [member.path for member in self.members.values() if member.part == "state"]
        return all(name in self.state for name in state) and any(map(is_resumed_from, state))

    def _twice(self, tensor: Tensor) -> InputError:
        return InputError(
            f"tensor '{tensor.name:.200}'",
            where=f"in '{path_text(self.root / tensor.member)}'",
            fact=f"'{path_text(self.tensors[tensor.name].member)}' holds one of the same name",
            todo="the two files do not belong together",
        )
