"""Optimizer state in numbers: what would make the first update after a resume go wrong.

Two tables: one row a parameter, one row a group of parameters. Values are read in blocks; the
two moments of Adam are read side by side, since the fault is an element whose second moment has
vanished while its first has not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sentinel.stats.floats import FLOATS
from sentinel.stats.moments import (
    BLOCK_BYTES,
    Moments,
    Scratch,
    block_bytes,
    merge,
    moments_of,
    unmeasured,
)
from sentinel.stats.values import as_float64, is_decodable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from sentinel.checkpoint import OptimizerState, ParameterGroup, ParameterState, Tensor
    from sentinel.stats.reading import MemberFiles

OPTIMIZER = pa.schema(
    [
        ("tensor", pa.string()),
        ("part", pa.string()),
        ("param", pa.int64()),
        ("group_index", pa.int64()),
        ("step", pa.float64()),
        ("dtype", pa.string()),
        ("numel", pa.int64()),
        ("value_count", pa.int64()),
        ("nan_count", pa.int64()),
        ("inf_count", pa.int64()),
        ("vanished_count", pa.int64()),
        ("vanished_share", pa.float64()),
        ("rms", pa.float64()),
        ("eps", pa.float64()),
    ]
)
"""``dtype`` and ``numel`` are those of the first moment, of the largest tensor where there is
none. ``vanished_count`` counts elements whose second moment is 0 and whose first is not; NULL
where the two cannot be compared (8-bit codes, factored moments)."""

GROUPS = pa.schema(
    [
        ("group_index", pa.int64()),
        ("parameter_count", pa.int64()),
        *((name, pa.float64()) for name in ("lr", "initial_lr", "eps", "eps2", "beta1", "beta2")),
        *((name, pa.float64()) for name in ("weight_decay", "momentum", "d", "d0", "d_max")),
        *((name, pa.bool_()) for name in ("scale_parameter", "relative_step", "warmup_init")),
        ("nan_settings", pa.string()),
    ]
)
"""``d`` is the rate that Prodigy and its relatives found; ``nan_settings`` names those that are
NaN, "" for none."""

_SETTINGS: dict[str, tuple[str, ...]] = {
    "eps": ("eps", "eps.0"),
    "eps2": ("eps.1",),
    "beta1": ("betas.0", "beta1"),
    "beta2": ("betas.1", "beta2"),
}
"""Columns of `GROUPS` whose setting has another name; Adafactor's `eps` is a pair."""

MOMENT_PAIRS = (("exp_avg", "exp_avg_sq"), ("state1", "state2"))
"""The first and second moment: torch's names, and those of bitsandbytes in 32 bits."""

_MAY_BE_INFINITE = frozenset({"growth_rate"})
"""Prodigy's limit of its own growth: Inf by default, in a group or beside the moments."""

_CLIPS_AT_D = "beta2_decay"
"""A setting that only torch's own Adafactor has, whose ``d`` is a threshold."""

_GROUP_STEPS = ("step", "k")
"""Where schedule-free optimizers count their steps: once a group."""

_COUNTS_FROM_ONE = "prodigy_steps"
"""A setting that only ProdigyPlusScheduleFree has, whose first step is number 1."""

_LOCKSTEP = BLOCK_BYTES // 8
"""Elements of both moments in memory at a time."""


@dataclass(frozen=True, slots=True)
class OptimizerMeasured:
    """The two tables of one optimizer."""

    parameters: pa.Table
    groups: pa.Table


def measure_optimizer(
    state: OptimizerState, files: MemberFiles, tick: Callable[[int], None]
) -> OptimizerMeasured:
    """Read every value of an optimizer's state once (both moments twice) in bounded memory.

    ``tick`` is told the bytes read. Raises as `MemberFile` does.
    """
    reader = _Reader(files, tick)
    groups = [_group_row(at, group, reader) for at, group in enumerate(state.groups)]
    steps = [_group_step(group, reader) for group in state.groups]
    rows = [_parameter_row(one, groups, steps, reader) for one in state.parameters]
    return OptimizerMeasured(
        pa.Table.from_pylist(rows, schema=OPTIMIZER), pa.Table.from_pylist(groups, schema=GROUPS)
    )


@dataclass(frozen=True, slots=True)
class OptimizerGlance:
    """What an optimizer says of itself without its moments being read.

    ``steps`` are the fewest and the most that any parameter has made, None when nothing counts
    them; ``groups`` are the rows of the table ``optimizer_groups``.
    """

    steps: tuple[float, float] | None
    groups: tuple[Mapping[str, object], ...]


def glance_at_optimizer(state: OptimizerState, files: MemberFiles) -> OptimizerGlance:
    """Read only the tensors of one element; raises as `MemberFile` does."""
    reader = _Reader(files, lambda _size_bytes: None)
    groups = tuple(_group_row(at, group, reader) for at, group in enumerate(state.groups))
    counted = [_number_of(one, "step", reader) for one in state.parameters]
    counted += [_group_step(group, reader) for group in state.groups]
    steps = [step for step in counted if step is not None]
    return OptimizerGlance((min(steps), max(steps)) if steps else None, groups)


class _Reader:
    """Reads tensors of the state with one set of buffers."""

    def __init__(self, files: MemberFiles, tick: Callable[[int], None]) -> None:
        self._files = files
        self._tick = tick
        self._scratch = Scratch()
        self._whole = np.empty(block_bytes(), np.uint8)
        self._buffers = (
            np.empty(self._scratch.block_bytes, np.uint8),
            np.empty(self._scratch.block_bytes, np.uint8),
        )

    def moments(self, tensor: Tensor) -> Moments:
        if not tensor.is_dense:
            return unmeasured(tensor.numel)
        blocks = (
            moments_of(tensor.dtype, block, self._scratch)
            for block in self._files.blocks(tensor, self._whole)
        )
        found = reduce(merge, blocks, Moments())
        self._tick(tensor.size_bytes)
        return found

    def number(self, tensor: Tensor | None) -> float | None:
        """Return the value of a tensor of one element."""
        if tensor is None or tensor.numel != 1 or not tensor.size_bytes:
            return None
        (data,) = self._files.blocks(tensor, self._buffers[0])
        if is_decodable(tensor.dtype):
            return float(as_float64(tensor.dtype, data)[0])
        return moments_of(tensor.dtype, data, self._scratch).max

    def vanished(self, first: Tensor, second: Tensor) -> int | None:
        """Count the elements whose second moment is zero and whose first is not."""
        same = _order(first) == _order(second)
        if not same or first.dtype not in FLOATS or second.dtype not in FLOATS:
            return None
        if not first.is_dense:
            return None
        buffers = (
            self._buffers[0][: _LOCKSTEP * FLOATS[first.dtype].bits.itemsize],
            self._buffers[1][: _LOCKSTEP * FLOATS[second.dtype].bits.itemsize],
        )
        pieces = zip(
            self._files.blocks(first, buffers[0]),
            self._files.blocks(second, buffers[1]),
            strict=True,
        )
        return sum(
            int(np.count_nonzero(_nonzero(first.dtype, one) & ~_nonzero(second.dtype, other)))
            for one, other in pieces
        )


def _order(tensor: Tensor) -> list[tuple[object, ...]]:
    """Return what is equal for two tensors whose elements lie in the same order."""
    return [tensor.shape, *((box.place, box.shape, box.strides) for box in tensor.boxes)]


def _nonzero(dtype: str, block: NDArray[np.uint8]) -> NDArray[np.bool_]:
    form = FLOATS[dtype]
    nonzero: NDArray[np.bool_] = np.not_equal(block.view(form.bits) & form.magnitude_mask, 0)
    return nonzero


def _parameter_row(
    one: ParameterState,
    groups: list[dict[str, object]],
    steps: list[float | None],
    reader: _Reader,
) -> dict[str, object]:
    kept = {name: t for name, t in one.tensors.items() if _leaf_name(name) not in _MAY_BE_INFINITE}
    found = [reader.moments(tensor) for tensor in kept.values()]
    counts = reduce(merge, found, _of_numbers(one.numbers))
    pair = _pair(kept)
    # AdEMAMix keeps two first moments in one tensor: the smaller has the parameter's size.
    largest = pair[0] if pair else max(kept.values(), key=lambda t: t.numel, default=None)
    vanished = reader.vanished(*pair) if pair else None
    at = one.group if one.group is not None and one.group < len(groups) else None
    step = _number_of(one, "step", reader)
    return {
        "tensor": one.name or f"parameter {one.index}",
        "part": "optimizer",
        "param": one.index,
        "group_index": one.group,
        "step": steps[at] if step is None and at is not None else step,
        "dtype": largest.dtype if largest else None,
        "numel": one.numel or min((t.numel for t in pair or [largest] if t), default=0),
        "value_count": counts.numel,
        "nan_count": counts.nan_count,
        "inf_count": counts.inf_count,
        "vanished_count": vanished,
        "vanished_share": _share(vanished, largest),
        "rms": _number_of(one, "RMS", reader),
        "eps": groups[at].get("eps") if at is not None else None,
    }


def _share(count: int | None, tensor: Tensor | None) -> float | None:
    return count / tensor.numel if count is not None and tensor and tensor.numel else None


def _leaf_name(path: str) -> str:
    return path.rpartition(".")[2]


def _of_numbers(numbers: Mapping[str, float]) -> Moments:
    values = np.array([v for name, v in numbers.items() if name not in _MAY_BE_INFINITE])
    return Moments(
        values.size,
        int(np.count_nonzero(np.isnan(values))),
        int(np.count_nonzero(np.isinf(values))),
    )


def _pair(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    for first, second in MOMENT_PAIRS:
        if first in tensors and second in tensors:
            return tensors[first], tensors[second]
    return None


def _number_of(one: ParameterState, name: str, reader: _Reader) -> float | None:
    return one.numbers[name] if name in one.numbers else reader.number(one.tensors.get(name))


def _group_row(at: int, group: ParameterGroup, reader: _Reader) -> dict[str, object]:
    row: dict[str, object] = {
        "group_index": at,
        "parameter_count": group.parameter_count,
        "nan_settings": _nan_settings(group, reader),
    }
    for field in GROUPS:
        if field.name in row or (field.name == "d" and _CLIPS_AT_D in group.settings):
            continue
        value = _setting(group, _SETTINGS.get(field.name, (field.name,)), reader)
        row[field.name] = _fitting(value, is_flag=field.type == pa.bool_())
    return row


def _setting(group: ParameterGroup, names: tuple[str, ...], reader: _Reader) -> object:
    """Return the first setting of some names, be it a value or a tensor of one element."""
    value = next((group.settings[name] for name in names if name in group.settings), None)
    if value is not None:
        return value
    return reader.number(next((group.tensors[n] for n in names if n in group.tensors), None))


def _group_step(group: ParameterGroup, reader: _Reader) -> float | None:
    value = _fitting(_setting(group, _GROUP_STEPS, reader), is_flag=False)
    if not isinstance(value, float):
        return None
    return value - 1 if _COUNTS_FROM_ONE in group.settings else value


def _nan_settings(group: ParameterGroup, reader: _Reader) -> str:
    values: dict[str, object] = dict(group.settings)
    values |= {name: reader.number(tensor) for name, tensor in group.tensors.items()}
    return ", ".join(
        name for name, value in values.items() if isinstance(value, float) and math.isnan(value)
    )


def _fitting(value: object, *, is_flag: bool) -> object:
    """Return a setting where it is of its column's type: False is no learning rate."""
    if is_flag:
        return value if isinstance(value, bool) else None
    return float(value) if isinstance(value, int | float) and value is not True else None
