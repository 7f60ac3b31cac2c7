"""The optimizer's state in DeepSpeed's files, from the processes' parts to its parameters.

Stages 1 and 2 keep torch's state under ``base_optimizer_state``, stage 3 under
``optimizer_state_dict``, each moment flat as the master weights are (deepspeed/runtime/zero/
stage_1_and_2.py and stage3.py of https://github.com/deepspeedai/DeepSpeed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentinel.checkpoint import OptimizerState, Tensor
from sentinel.formats.deepspeed_flat import FlatLayout
from sentinel.formats.optimizer_state import optimizer_state_of

Tree = Mapping[object, object]
Partition = tuple[Tensor, ...]

MASTER = "master"
"""What the optimizer's copy of a weight, in full precision, is called beside its moments."""


@dataclass(frozen=True, slots=True)
class Partitions:
    """By process: the master weights of each group, and torch's own state of each group.

    ``groups`` are the settings of each; ``paddings`` is what stages 1 and 2 say of the free
    elements behind each parameter.
    """

    master: tuple[Partition, ...]
    states: tuple[tuple[Tree, ...], ...]
    groups: tuple[Tree, ...]
    paddings: object = None

    def optimizer(self, layout: FlatLayout, member: str) -> OptimizerState | None:
        """Return the state by parameter, None without one.

        Raises ValueError when a moment's partitions do not fit the shapes.
        """
        moments: dict[str, dict[str, Tensor]] = {}
        kept = {MASTER: self.master, **self._flat_leaves()}
        for leaf, partitions in kept.items():
            for name, tensor in layout.tensors(partitions).items() if any(partitions) else ():
                moments.setdefault(name, {})[leaf] = tensor
        single = self._single_leaves()
        tree = {
            "state": {name: {**single, **leaves} for name, leaves in moments.items()},
            "param_groups": [
                {**(self.groups[at] if at < len(self.groups) else {}), "params": list(shapes)}
                for at, shapes in enumerate(layout.groups)
            ],
        }
        return optimizer_state_of(tree, member) if moments else None

    def _flat_leaves(self) -> dict[str, tuple[Partition, ...]]:
        """Return what is kept of every element, by its name: the moments."""
        names = {
            name
            for own, master in zip(self.states, self.master, strict=True)
            for state, flat in zip(own, master, strict=False)
            for name, leaf in state.items()
            if isinstance(name, str) and isinstance(leaf, Tensor) and leaf.shape == flat.shape
        }
        found = {}
        for name in sorted(names):
            leaves = tuple(tuple(state.get(name) for state in own) for own in self.states)
            known = tuple(tuple(one for one in own if isinstance(one, Tensor)) for own in leaves)
            if [len(own) for own in known] == [len(own) for own in self.master]:
                found[name] = known
        return found

    def _single_leaves(self) -> dict[object, object]:
        """Return what is kept once for all elements: the step."""
        first = self.states[0][0] if self.states and self.states[0] else {}
        return {
            name: leaf
            for name, leaf in first.items()
            if not isinstance(leaf, Tensor) or leaf.numel == 1
        }


def partitions_of(trees: Sequence[Tree]) -> Partitions:
    """Return the parts of an optimizer that each process saved, in the order of the processes."""
    kept = [_inside(tree, "optimizer_state_dict") for tree in trees]
    base = [_base(one) for one in kept]
    return Partitions(
        master=tuple(map(_master, kept)),
        states=tuple(_states(one) for one in base),
        groups=tuple(_trees(base[0].get("param_groups"))) if base else (),
        paddings=kept[0].get("param_alignment_paddings") if kept else None,
    )


def optimizer_of(model: Tree, member: str) -> OptimizerState | None:
    """Return the state that a model's own file holds, where nothing is partitioned."""
    tree = _inside(model, "optimizer")
    inner = _inside(tree, "optimizer_state_dict")
    return optimizer_state_of(dict(inner or tree), member)


def _base(kept: Tree) -> Tree:
    return _inside(kept, "base_optimizer_state") or _inside(kept, "optimizer_state_dict")


def _master(kept: Tree) -> Partition:
    for name in ("single_partition_of_fp32_groups", "fp32_flat_groups"):
        value = kept.get(name)
        if isinstance(value, list | tuple):
            return tuple(one for one in value if isinstance(one, Tensor))
    return ()


def _states(base: Tree) -> tuple[Tree, ...]:
    state = base.get("state")
    return tuple(_trees(list(state.values()))) if isinstance(state, dict) else ()


def _trees(value: object) -> list[Tree]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _inside(tree: Tree, name: str) -> Tree:
    found = tree.get(name)
    return found if isinstance(found, dict) else {}
