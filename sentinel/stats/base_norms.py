"""The size of the weights under an adapter, read once and remembered.

Only weights that an adapter changes are read, and only while they fit a budget: the base of a
100 MB adapter may have 15 GB, and nobody who asks about the adapter wants to wait for those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sentinel.errors import ChangedWhileReadError, InputError, WorkerDiedError
from sentinel.regular import is_file
from sentinel.stats.floats import FLOATS
from sentinel.stats.moments import Moments, Scratch, merge, moments_of
from sentinel.stats.reading import MemberFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.checkpoint import Base, BaseWeight, Tensor

FOUND_BUDGET_BYTES = 1024**3
"""What is read of a base that was only found beside an adapter: half a second's work."""

GIVEN_BUDGET_BYTES = 16 * 1024**3
"""What is read of a base that the user named: the adapted weights of a model of 8 billion."""

_BAND_BYTES = 4 * 1024**2  # also the longest row: memory stays bounded whatever a header says

_Key = tuple[str, str, int, int, int]


@dataclass(frozen=True, slots=True)
class BaseNorm:
    """The Frobenius norm of a weight, and how many of its rows are exactly zero (None: unknown)."""

    norm: float | None
    zero_rows: int | None


Call = Callable[[Callable[[Path], BaseNorm], Path], BaseNorm]
"""Runs a reading of one file: here, or in a process that may die in our place."""


def call_here(fn: Callable[[Path], BaseNorm], path: Path) -> BaseNorm:
    """Read in this process."""
    return fn(path)


@dataclass(slots=True)
class BaseNorms:
    """Norms of base weights, each file's read once as long as it stays the same.

    ``call`` runs the readings; a weight on which it raised WorkerDiedError is not tried again.
    """

    budget_bytes: int = FOUND_BUDGET_BYTES
    call: Call = call_here
    _known: dict[_Key, BaseNorm] = field(default_factory=dict)

    def measure(self, base: Base, modules: Collection[str]) -> Mapping[str, BaseNorm]:
        """Return the norms of a base's modules, those that can be had exactly and in budget.

        Nothing is read when the weights asked for are together over the budget: some norms
        without the others would make the largest change a matter of chance.
        """
        wanted = [one for one in base.weights if one.module in modules and _is_exact(one)]
        if sum(one.stored.size_bytes for one in wanted if one.stored) > self.budget_bytes:
            return MappingProxyType({})
        root = base.path.parent if is_file(base.path) else base.path
        found = {one.module: self._norm(root, one.stored) for one in wanted if one.stored}
        return {module: norm for module, norm in found.items() if norm is not None}

    def _norm(self, root: Path, tensor: Tensor) -> BaseNorm | None:
        key = _identity(root, tensor)
        if key is None:
            return None
        if key not in self._known:
            try:
                norm = self.call(partial(read_norm, tensor), root / tensor.member)
            except (ChangedWhileReadError, InputError):
                return None
            except WorkerDiedError:
                norm = BaseNorm(None, None)
            if _identity(root, tensor) != key:
                return None
            self._known[key] = norm
        return self._known[key]


def _is_exact(weight: BaseWeight) -> bool:
    """Tell whether a weight's values are its stored ones, in a dtype the kernel knows."""
    tensor = weight.stored
    return (
        tensor is not None
        and weight.scheme == "none"
        and tensor.is_plain
        and tensor.dtype in FLOATS
        and len(tensor.shape) > 1
        and tensor.numel > 0
        and tensor.size_bytes // tensor.shape[0] <= _BAND_BYTES
    )


def _identity(root: Path, tensor: Tensor) -> _Key | None:
    path = root / tensor.member
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), tensor.name, status.st_ino, status.st_size, status.st_mtime_ns


def read_norm(tensor: Tensor, path: Path) -> BaseNorm:
    """Read a weight in bands of whole rows.

    Raises ChangedWhileReadError and InputError as `MemberFile` does.
    """
    scratch = Scratch()
    total, zero_rows = Moments(), 0
    with MemberFile(path) as file:
        for band in _bands(file, tensor):
            total = merge(total, moments_of(tensor.dtype, band.reshape(-1), scratch))
            zero_rows += _zero_rows(tensor.dtype, band)
    is_whole = total.finite_count == total.numel and total.l2 is not None
    return BaseNorm(total.l2 if is_whole else None, zero_rows)


def _bands(file: MemberFile, tensor: Tensor) -> Iterable[NDArray[np.uint8]]:
    rows = tensor.shape[0]
    row_bytes = tensor.size_bytes // rows
    step = max(1, _BAND_BYTES // row_bytes)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        band = file.read(tensor.offset + start * row_bytes, count * row_bytes)
        yield band.reshape(count, row_bytes)


def _zero_rows(dtype: str, band: NDArray[np.uint8]) -> int:
    form = FLOATS[dtype]
    magnitudes = band.view(form.bits) & form.magnitude_mask
    return int(np.count_nonzero(~magnitudes.any(axis=1)))
