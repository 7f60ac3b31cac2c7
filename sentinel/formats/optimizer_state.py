"""From the tree of a saved optimizer to its parameters and groups.

The tree is torch's `Optimizer.state_dict()`: `state` by parameter, and `param_groups`, each with
its settings and the parameters in it. bitsandbytes wraps its own state once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeGuard

from sentinel.checkpoint import OptimizerState, ParameterGroup, ParameterState, Tensor
from sentinel.formats.containers.pickle_nodes import Call, Global
from sentinel.formats.scalars import as_count, as_number, as_text
from sentinel.formats.settings import Setting

BITSANDBYTES = "__bnb_optimizer_quant_state__"
"""The wrapper's name, from bitsandbytes/optim/optimizer.py."""

_TORCHAO = "torchao.optim."
_SHAPE_AT = 2
"""Where `_rebuild_wrapper_subclass` is told the shape, after the class and the dtype."""

_DEEPEST = 4
_LONGEST_TEXT = 200
_PARAMETERS = "params"
_NAMES = "param_names"

Leaf = Tensor | Setting | None
"""None stands for a value that cannot be looked into."""


def optimizer_state_of(tree: object, member: str) -> OptimizerState | None:
    """Return what a tree says about an optimizer, None when it is of no known form."""
    if not isinstance(tree, dict):
        return None
    state, groups = tree.get("state"), tree.get("param_groups")
    if not isinstance(state, dict) or not isinstance(groups, list):
        return None
    known = [group for group in groups if isinstance(group, dict)]
    if len(known) != len(groups):
        return None
    places, names = _places(known), _names(known)
    opaque = 0
    parameters = []
    for at, (key, kept) in enumerate(state.items()):
        leaves = dict(_leaves(kept))
        opaque += sum(leaf is None for leaf in leaves.values())
        number = as_count(key) if type(key) is int else None
        parameters.append(
            ParameterState(
                index=at if number is None else number,
                name=names.get(key, as_text(key)),
                group=places.get(key),
                tensors=_tensors(leaves),
                numbers=_numbers(leaves),
                numel=_packed_numel(kept),
            )
        )
    return OptimizerState(member, tuple(map(_group, known)), tuple(parameters), opaque)


def merged(states: Iterable[OptimizerState]) -> OptimizerState | None:
    """Return several optimizers of one checkpoint as one, None for none; groups are renumbered."""
    known = list(states)
    if not known:
        return None
    parameters: list[ParameterState] = []
    groups: list[ParameterGroup] = []
    for state in known:
        parameters += [
            replace(one, group=None if one.group is None else one.group + len(groups))
            for one in state.parameters
        ]
        groups += state.groups
    return OptimizerState(
        known[0].member,
        tuple(groups),
        tuple(parameters),
        sum(state.opaque_count for state in known),
    )


def _places(groups: list[dict[object, object]]) -> dict[object, int]:
    return {key: at for at, group in enumerate(groups) for key in _listed(group, _PARAMETERS)}


def _names(groups: list[dict[object, object]]) -> dict[object, str]:
    """Return names by key, where the optimizer was made from named parameters (torch 2.6)."""
    found: dict[object, str] = {}
    for group in groups:
        keys, names = _listed(group, _PARAMETERS), _listed(group, _NAMES)
        if len(keys) == len(names):
            found |= {
                key: text
                for key, name in zip(keys, names, strict=True)
                if (text := as_text(name)) is not None
            }
    return found


def _listed(group: Mapping[object, object], name: str) -> list[int | str]:
    value = group.get(name)
    items = value if isinstance(value, list | tuple) else []
    return [item for item in items if isinstance(item, str) or _is_place(item)]


def _is_place(item: object) -> TypeGuard[int]:
    return as_count(item) is not None


def _group(group: Mapping[object, object]) -> ParameterGroup:
    leaves = dict(_leaves({k: v for k, v in group.items() if k not in {_PARAMETERS, _NAMES}}))
    settings = {
        name: leaf
        for name, leaf in leaves.items()
        if leaf is not None and not isinstance(leaf, Tensor)
    }
    return ParameterGroup(
        settings=MappingProxyType(settings),
        tensors=_tensors(leaves),
        parameter_count=len(_listed(group, _PARAMETERS)),
    )


def _tensors(leaves: Mapping[str, Leaf]) -> Mapping[str, Tensor]:
    found = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, Tensor)}
    return MappingProxyType(found)


def _numbers(leaves: Mapping[str, Leaf]) -> Mapping[str, float]:
    numbers = ((name, as_number(leaf)) for name, leaf in leaves.items())
    return MappingProxyType({name: number for name, number in numbers if number is not None})


def _leaves(value: object, name: str = "", depth: int = _DEEPEST) -> Iterator[tuple[str, Leaf]]:
    """Yield the leaves by dotted name; what holds nothing (None, empty) is no leaf."""
    inner: Iterator[tuple[object, object]] | None = None
    if _is_torchao(value):
        inner = iter(_tensors_in(value))
    elif isinstance(value, dict):
        inner = iter(value.items())
    elif isinstance(value, list | tuple):
        inner = iter(enumerate(value))
    if inner is None:
        if value is not None:
            yield name, _leaf(value)
        return
    for key, item in inner:
        label = "" if key == BITSANDBYTES else _label(key)
        path = f"{name}.{label}" if name and label else name or label
        if depth:
            yield from _leaves(item, path, depth - 1)
        else:
            yield path, None


def _label(key: object) -> str:
    """Return a key as part of a name; one that is neither text nor number could be of any size."""
    return f"{key!s:.{_LONGEST_TEXT}}" if isinstance(key, str | int) else "?"


def _is_torchao(value: object) -> TypeGuard[Call]:
    """Tell whether a value is one of torchao's packed states: codes, sizes a block, a map.

    Source: torchao/optim/subclass_8bit.py and its neighbours of https://github.com/pytorch/ao.
    """
    if not isinstance(value, Call) or value.target.name != "_rebuild_wrapper_subclass":
        return False
    kind = value.arguments[0] if value.arguments else None
    return isinstance(kind, Global) and kind.module.startswith(_TORCHAO)


def _packed_numel(kept: object) -> int | None:
    """Return the elements that torchao's packed states stand for, None without such a state."""
    values = kept.values() if isinstance(kept, dict) else ()
    shapes = (one.arguments[_SHAPE_AT : _SHAPE_AT + 1] for one in values if _is_torchao(one))
    for (shape,) in filter(None, shapes):
        extents = [as_count(one) for one in shape] if isinstance(shape, tuple) else [None]
        if None not in extents:
            return as_count(math.prod(one or 0 for one in extents))
    return None


def _tensors_in(value: object) -> list[tuple[object, object]]:
    state = value.state if isinstance(value, Call) else None
    fields = state.items() if isinstance(state, dict) else ()
    return [(name, inner) for name, inner in fields if isinstance(inner, Tensor)]


def _leaf(value: object) -> Leaf:
    if isinstance(value, Tensor | bool):
        return value
    if isinstance(value, str):
        return as_text(value[:_LONGEST_TEXT])
    return value if isinstance(value, int | float) and as_number(value) is not None else None
