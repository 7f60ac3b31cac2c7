"""A model that torch pickled: its files, the plain values beside its tensors, wrapped weights.

`pytorch_model.bin` (or its shards) is a state dict; HQQ's `qmodel.pt` is one dictionary a module;
torchao's weights are tensor subclasses, of which the pickle tells class, dtype and shape. Sources:
transformers/utils/__init__.py (`WEIGHTS_NAME`), hqq/models/base.py of
https://github.com/mobiusml/hqq, torch/_utils.py (`_rebuild_wrapper_subclass`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sentinel.checkpoint import BaseWeight
from sentinel.formats.containers.pickle_nodes import Call, Global
from sentinel.formats.draft import STATE_DICT
from sentinel.formats.quantized.registry import split_key
from sentinel.formats.quantized.stored import precision_named
from sentinel.formats.quantized.torchao import kind_of
from sentinel.formats.scalars import as_count

if TYPE_CHECKING:
    from sentinel.formats.draft import Draft

_NAME = re.compile(
    r"(?P<stem>pytorch_model|diffusion_pytorch_model)(-\d{5}-of-(?P<count>\d{5}))?\.bin"
)
_HQQ = "qmodel.pt"
_WRAPPER = "torch._utils._rebuild_wrapper_subclass"
_MOST_SHARDS = 10_000


@dataclass(slots=True)
class Pickled:
    """What pickled files tell beside their tensors.

    ``values`` are plain values by module, ``wrapped`` the weights that are no plain tensors,
    ``precisions`` what those stand for ("bf16").
    """

    values: dict[str, Mapping[str, object]] = field(default_factory=dict)
    wrapped: dict[str, BaseWeight] = field(default_factory=dict)
    precisions: set[str] = field(default_factory=set)


def pickled_names(files: Collection[str]) -> tuple[str, ...]:
    """Return the pickled files that together hold a model, also shards that are not there."""
    found = [match for name in sorted(files) if (match := _NAME.fullmatch(name))]
    whole = next((match[0] for match in found if not match["count"]), None)
    if whole is not None:
        return (whole,)
    if found:
        stem, count = found[0]["stem"], min(int(found[0]["count"]), _MOST_SHARDS)
        return tuple(f"{stem}-{at:05d}-of-{found[0]['count']}.bin" for at in range(1, count + 1))
    return (_HQQ,) if _HQQ in files else ()


def read_pickled(draft: Draft, names: Collection[str]) -> Pickled:
    """Read pickled files into a draft and return what else they tell."""
    pickled = Pickled()
    wrapped: set[str] = set()
    for name in names:
        if draft.faults:
            break
        tree = draft.read_torch(name)
        state = tree.get(STATE_DICT, tree) if isinstance(tree, dict) else None
        for key, value in state.items() if isinstance(state, dict) else ():
            if not isinstance(key, str):
                continue
            if isinstance(value, dict):
                pickled.values[split_key(f"{key}.weight")[0]] = dict(_plain(value))
            elif isinstance(value, Call) and str(value.target) == _WRAPPER:
                _take(pickled, key, value)
                wrapped.add(key)
    # What is packed inside such a weight has no meaning of its own.
    for name in [one for one in draft.tensors if one.rpartition(".")[0] in wrapped]:
        del draft.tensors[name]
    return pickled


def _plain(values: Mapping[object, object]) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(key, str) and isinstance(value, str | int | tuple | Global):
            yield key, value


def _take(pickled: Pickled, key: str, call: Call) -> None:
    """Keep a weight by the class, the dtype and the shape that its pickle names first."""
    kind, dtype, shape = (*call.arguments[:3], None, None, None)[:3]
    if not isinstance(kind, Global):
        return
    extents = [as_count(one) for one in shape] if isinstance(shape, tuple) else []
    is_matrix = len(extents) == 2  # noqa: PLR2004 - outputs and inputs
    module, _ = split_key(key)
    precision = precision_named(str(dtype) if isinstance(dtype, Global) else None)
    if precision is not None:
        pickled.precisions.add(precision)
    pickled.wrapped[module] = BaseWeight(
        module=module,
        tensor=key,
        dtype="U8",
        scheme=f"torchao-{kind_of(kind.name)}",
        out_features=extents[0] if is_matrix else None,
        in_features=extents[1] if is_matrix else None,
    )
