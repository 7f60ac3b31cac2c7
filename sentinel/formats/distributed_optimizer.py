"""Which names of a flat state belong to an optimizer, and the state they make together.

torch saves an optimizer as `Optimizer.state_dict()` nests it (``optim.param_groups.0.lr``), or
flat by the parameter's name (``optim.param_groups.layers.0.weight.lr``); both have
``optim.state.layers.0.weight.exp_avg``. Source: `get_optimizer_state_dict` and
`_flatten_optim_state_dict` in torch/distributed/checkpoint/state_dict.py of
https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeGuard

from sentinel.formats.scalars import as_count, brief

GROUPS = "param_groups"
_MOST_ROOTS = 100
"""Optimizers of one save: every name is held against each."""

_LONGEST_SETTING = 16
_STATE = "state"
_PARAMETERS = "params"
_MOMENTS = frozenset({"exp_avg", "exp_avg_sq", "momentum_buffer", "state1", "state2", "step"})
_GROUPED = re.compile(rf"(?P<root>(?:.*\.)?){GROUPS}(?:\..*)?")
_KEPT = re.compile(rf"(?P<root>(?:[^.]+\.)*?){_STATE}\..+\.(?P<leaf>[^.]+)")


def optimizer_roots(names: Iterable[str]) -> tuple[str, ...]:
    """Return what stands before ``state.`` and ``param_groups.`` of each optimizer, sorted."""
    roots: set[str] = set()
    for name in names:
        grouped = _GROUPED.fullmatch(name) if GROUPS in name else None
        kept = _KEPT.fullmatch(name) if grouped is None else None
        if grouped is not None:
            roots.add(grouped["root"])
        elif kept is not None and kept["leaf"] in _MOMENTS:
            roots.add(kept["root"])
    return tuple(sorted(roots)[:_MOST_ROOTS])


def is_below(name: str, root: str) -> bool:
    """Tell whether a name is one of an optimizer's."""
    rest = name.removeprefix(root) if name.startswith(root) else ""
    return rest == GROUPS or rest.startswith((f"{GROUPS}.", f"{_STATE}."))


def optimizer_tree(leaves: Mapping[str, object], root: str) -> dict[str, object]:
    """Return the leaves below a root, nested as torch's `Optimizer.state_dict()` is."""
    inner = {name.removeprefix(root): leaf for name, leaf in leaves.items() if is_below(name, root)}
    grouped = {
        name.removeprefix(f"{GROUPS}."): leaf
        for name, leaf in inner.items()
        if name.startswith(f"{GROUPS}.")
    }
    whole = inner.get(GROUPS)
    groups = whole if isinstance(whole, list) else _groups(grouped)
    parameters = {brief(key): key for group in groups for key in _parameters(group)}
    state: dict[object, dict[str, object]] = {}
    for name, leaf in inner.items():
        if name.startswith(f"{_STATE}."):
            key, label = _divided(name.removeprefix(f"{_STATE}."), parameters)
            state.setdefault(parameters.get(key, key), {})[label] = leaf
    return {_STATE: state, GROUPS: groups}


def _groups(leaves: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the groups; flat settings that are the same for several parameters make one."""
    by_key: dict[str, dict[str, object]] = {}
    for name, leaf in leaves.items():
        key, _, setting = name.rpartition(".")
        by_key.setdefault(key, {})[setting] = leaf
    if any(_PARAMETERS in settings for settings in by_key.values()):
        return [by_key[key] for key in sorted(by_key, key=lambda key: (len(key), key))]
    groups: dict[object, dict[str, object]] = {}
    members: dict[object, list[str]] = {}
    for key, settings in by_key.items():
        same = frozenset((name, _comparable(leaf)) for name, leaf in settings.items())
        groups.setdefault(same, settings)
        members.setdefault(same, []).append(key)
    return [{**groups[same], _PARAMETERS: keys} for same, keys in members.items()]


def _comparable(leaf: object) -> object:
    """Return what two equal settings have in common; what is no setting is like nothing else."""
    if isinstance(leaf, list | tuple) and len(leaf) <= _LONGEST_SETTING:
        return tuple(map(_comparable, leaf))
    return (type(leaf).__name__, leaf) if isinstance(leaf, str | int | float | None) else id(leaf)


def _parameters(group: object) -> list[int | str]:
    found = group.get(_PARAMETERS) if isinstance(group, dict) else None
    keys = found if isinstance(found, list) else []
    return [key for key in keys if isinstance(key, str) or _is_place(key)]


def _is_place(key: object) -> TypeGuard[int]:
    return as_count(key) is not None


def _divided(name: str, parameters: Mapping[str, object]) -> tuple[str, str]:
    """Divide a name into a parameter's, the longest that is known, and what is kept of it."""
    at = len(name)
    while (at := name.rfind(".", 0, at)) > 0:
        if name[:at] in parameters:
            return name[:at], name[at + 1 :]
    key, _, label = name.rpartition(".")
    return key, label
