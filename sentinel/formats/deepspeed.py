"""Checkpoints of DeepSpeed: the states of every process put together as far as files go.

Under ZeRO an optimizer lies flat and cut between the processes, under ZeRO-3 the weights too;
where each parameter lies follows from the shapes that the model's file names, in their order.
Source: deepspeed/utils/zero_to_fp32.py of https://github.com/deepspeedai/DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sentinel.checkpoint import Part, Tensor, path_text
from sentinel.errors import InputError
from sentinel.formats.deepspeed_flat import FlatLayout, paddings_of, shapes_of
from sentinel.formats.deepspeed_names import StateFile, is_state_file, state_files
from sentinel.formats.deepspeed_optimizer import MASTER, optimizer_of, partitions_of
from sentinel.formats.files import list_directory, stat_member
from sentinel.formats.flat_shards import Flat, tensor_of
from sentinel.formats.scalars import as_count, as_text
from sentinel.formats.settings import Setting, precision_of

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Member
    from sentinel.formats.draft import Draft

Tree = Mapping[object, object]
_MOST_RANKS = 100_000


def stat_deepspeed(root: Path, directory: str) -> tuple[Member, ...]:
    """Look at the files of a tag's directory; what cannot be looked at is left out."""
    found = []
    for name in _names(root / directory):
        try:
            part: Part = "weights" if name.endswith("model_states.pt") else "optimizer"
            found.append(stat_member(root, _inside(directory, name), part))
        except InputError:
            continue
    return tuple(found)


def read_deepspeed(draft: Draft, directory: str, *, with_weights: bool) -> dict[str, Setting]:
    """Take weights and optimizer of one save into a draft; return the settings it tells.

    Without ``with_weights`` the weights were read from elsewhere. A process whose file is not
    there is a fault, and so are partitions that do not fit the shapes.
    """
    return read_with_step(draft, directory, with_weights=with_weights)[0]


def read_with_step(
    draft: Draft, directory: str, *, with_weights: bool
) -> tuple[dict[str, Setting], int | None]:
    """Do as `read_deepspeed` does; return also how many steps the states count."""
    reader = _Reader(draft, directory, with_weights=with_weights)
    reader.read(state_files(_names(draft.root / directory)))
    return reader.settings(), reader.steps()


class _Reader:
    """The states of one save, by process."""

    def __init__(self, draft: Draft, directory: str, *, with_weights: bool) -> None:
        self._draft = draft
        self._directory = directory
        self._with_weights = with_weights
        self._models: dict[int, Tree] = {}
        self._optimizers: dict[int, Tree] = {}
        self._is_stage_3 = False
        self._is_whole = True

    def read(self, files: tuple[StateFile, ...]) -> None:
        self._is_stage_3 = any(one.is_model and one.rank is not None for one in files)
        for one in files:
            tree = self._tree(one)
            if tree is None:
                self._is_whole = False
            elif one.model_part:
                self._take_module(tree, f"mp_rank_{one.model_part:02d}.")
            else:
                (self._models if one.is_model else self._optimizers)[one.rank or 0] = tree
        for name in _names(self._draft.root / self._directory):
            if _inside(self._directory, name) not in self._draft.members:
                self._draft.torch_file(_inside(self._directory, name), _own_part(name))
        self._note_missing(files)
        if not self._models and self._with_weights:
            self._draft.missing_weights("model states of DeepSpeed")
        try:
            self._put_together()
        except ValueError as error:
            self._refuse(str(error))

    def settings(self) -> dict[str, Setting]:
        """Return what the states tell about the training."""
        found: dict[str, Setting] = {}
        for tree in (*self._models.values(), *self._optimizers.values()):
            version = as_text(tree.get("ds_version"))
            config = tree.get("ds_config")
            if version:
                found["versions.deepspeed"] = version
            if not isinstance(config, dict):
                continue
            zero = config.get("zero_optimization")
            stage = as_count(zero.get("stage")) if isinstance(zero, dict) else None
            if stage is not None:
                found["deepspeed.stage"] = stage
            for name in ("bf16", "fp16"):
                switch = config.get(name)
                if isinstance(switch, dict) and switch.get("enabled") is True:
                    found["precision.mixed"] = name
        optimizer = self._draft.optimizer
        masters = [one.tensors.get(MASTER) for one in optimizer.parameters] if optimizer else []
        precision = precision_of(one.dtype for one in masters if one is not None)
        return found if precision is None else {**found, "precision.master": precision}

    def steps(self) -> int | None:
        """Return how many steps the model's file counts."""
        return next((as_count(tree.get("global_steps")) for tree in self._models.values()), None)

    def _tree(self, one: StateFile) -> Tree | None:
        name = _inside(self._directory, one.name)
        found = self._draft.torch_file(name, self._part(is_model=one.is_model))
        return found.tree if found is not None and isinstance(found.tree, dict) else None

    def _part(self, *, is_model: bool) -> Part:
        # Under ZeRO-3 the weights' values lie in the optimizer's files.
        return "weights" if is_model or (self._is_stage_3 and self._with_weights) else "optimizer"

    def _note_missing(self, files: tuple[StateFile, ...]) -> None:
        count = max((_world(tree) for tree in self._models.values()), default=0)
        for is_model in (True, False):
            known = [one for one in files if one.is_model == is_model and one.rank is not None]
            own = {one.rank for one in known if not one.model_part}
            for rank in sorted(set(range(count)) - own) if known else ():
                self._is_whole = False
                name = _inside(self._directory, known[0].of_rank(rank))
                self._draft.add_member(name, self._part(is_model=is_model))

    def _put_together(self) -> None:
        model = self._models.get(0)
        if model is None:
            return
        if not self._is_stage_3 or not self._optimizers:
            self._take_module(model)
        if not self._optimizers:
            self._draft.optimizer = optimizer_of(model, self._member(0))
            return
        shapes = shapes_of(model.get("param_shapes"))
        if shapes is None or not self._is_whole:
            return
        states = [self._optimizers[rank] for rank in sorted(self._optimizers)]
        partitions = partitions_of(states)
        layout = FlatLayout(self._is_stage_3, shapes, paddings_of(partitions.paddings))
        if self._is_stage_3 and self._with_weights:
            self._take_partitioned(model, layout.tensors(partitions.master))
        self._draft.optimizer = partitions.optimizer(layout, self._member(0))

    def _take_module(self, tree: Tree, prefix: str = "") -> None:
        module = tree.get("module")
        if self._with_weights and isinstance(module, dict):
            self._draft.take(
                replace(tensor, name=f"{prefix}{name}")
                for name, tensor in module.items()
                if isinstance(tensor, Tensor) and isinstance(name, str)
            )

    def _take_partitioned(self, model: Tree, trained: Mapping[str, Tensor]) -> None:
        """Take trained and frozen parameters; what only a placeholder stands for stays one."""
        whole = {**self._frozen(model), **trained}
        self._draft.take(whole.values())
        module = model.get("module")
        for name, tensor in module.items() if isinstance(module, dict) else ():
            if isinstance(tensor, Tensor) and isinstance(name, str) and name not in whole:
                self._draft.take([replace(tensor, name=name)])

    def _frozen(self, model: Tree) -> dict[str, Tensor]:
        shapes = shapes_of(model.get("frozen_param_shapes") or {}) or ({},)
        found = {}
        for name, shape in shapes[0].items():
            fragments = [_fragment(self._models[rank], name) for rank in sorted(self._models)]
            known = [one for one in fragments if one is not None]
            if len(known) == len(fragments):
                row = Flat(known)
                runs = list(row.runs(0, _numel(shape)))
                found[name] = tensor_of(name, row.dtype, shape, runs)
        return found

    def _member(self, rank: int) -> str:
        return next(
            (name for name in self._draft.members if f"rank_{rank}" in name), self._directory
        )

    def _refuse(self, fact: str) -> None:
        error = InputError(
            f"checkpoint '{path_text(self._draft.root / self._directory)}'",
            fact=f"its partitions do not fit the shapes of its parameters ({fact})",
            todo="its files do not belong together, or are damaged",
        )
        self._draft.fault(error, self._part(is_model=False), self._directory)


def _world(tree: Tree) -> int:
    count = as_count(tree.get("dp_world_size")) or 0
    return count if count <= _MOST_RANKS else 0


def _fragment(tree: Tree, name: str) -> Tensor | None:
    fragments = tree.get("frozen_param_fragments")
    found = fragments.get(name) if isinstance(fragments, dict) else None
    return found if isinstance(found, Tensor) else None


def _numel(shape: tuple[int, ...]) -> int:
    return Tensor("", "", "", shape, 0, 0).numel


def _own_part(name: str) -> Part:
    return "weights" if name.endswith("model_states.pt") else "optimizer"


def _names(path: Path) -> list[str]:
    try:
        return [name for name in list_directory(path)[0] if is_state_file(name)]
    except InputError:
        return []


def _inside(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
