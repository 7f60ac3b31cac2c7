"""A few elements of each tensor, kept bit for bit, to tell how many of them an update moved.

Half-precision weights that stall are not bit-identical as a whole: a few percent of the elements
still move. Evenly spaced elements are kept from one checkpoint to the next, so that the share is
known without reading the earlier file again (512 elements: within 0.04 of the true share, 95 %).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sentinel.dtypes import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.checkpoint import Tensor

SAMPLED_ELEMENTS = 512

_BYTE_BITS = 8
_WORDS = (1, 2, 4, 8)
_KEY = ("part", "tensor", "dtype")


class Sampler:
    """Takes the same evenly spaced elements out of every reading of one tensor."""

    def __init__(self, tensor: Tensor) -> None:
        bits = DTYPES[tensor.dtype].bits if tensor.dtype in DTYPES else 0
        self._width = bits // _BYTE_BITS if bits % _BYTE_BITS == 0 else 0
        self._stride = max(1, tensor.numel // SAMPLED_ELEMENTS)
        self._wanted = min(tensor.numel, SAMPLED_ELEMENTS) if self._width else 0
        self._at = 0
        self._taken: list[NDArray[np.uint8]] = []

    def take(self, block: NDArray[np.uint8]) -> None:
        """Look at the next bytes of the tensor, whole elements."""
        if not self._wanted:
            return
        elements = block.reshape(-1, self._width)
        first = -self._at % self._stride
        picked = elements[first :: self._stride][: self._wanted]
        self._at += len(elements)
        self._wanted -= len(picked)
        self._taken.append(picked.copy())

    def bytes(self) -> bytes | None:
        """Return the elements' bytes one after another, None for a dtype that shares bytes."""
        return np.concatenate(self._taken).tobytes() if self._taken else None


def with_same_share(now: pa.Table, before: pa.Table | None) -> pa.Table:
    """Return ``tensors`` with the column ``same_share``, against the checkpoint before.

    NULL for a tensor that was not there, had another dtype or another number of elements.
    """
    earlier = {} if before is None else _samples(before)
    mine = _samples(now)
    shares: list[float | None] = [None] * now.num_rows
    if earlier and len(mine) == now.num_rows:  # two tensors of one name have no history
        alike: dict[tuple[str, int], list[tuple[int, bytes, bytes]]] = {}
        for row, (key, sample) in enumerate(mine.items()):
            was = earlier.get(key)
            if sample and was and len(sample) == len(was):
                alike.setdefault((key[-1], len(sample)), []).append((row, sample, was))
        for (dtype, _), samples in alike.items():
            for (row, _, _), share in zip(samples, _shares(dtype, samples), strict=True):
                shares[row] = share
    return now.append_column("same_share", pa.array(shares, pa.float64()))


def without_samples(tensors: pa.Table) -> pa.Table:
    """Return ``tensors`` as it is kept of checkpoints further back than one."""
    return tensors.drop_columns(["sample"]) if "sample" in tensors.column_names else tensors


def _samples(tensors: pa.Table) -> dict[tuple[str, ...], bytes | None]:
    if "sample" not in tensors.column_names:
        return {}
    keys = zip(*(tensors[name].to_pylist() for name in _KEY), strict=True)
    return dict(zip(keys, tensors["sample"].to_pylist(), strict=True))


def _shares(dtype: str, samples: list[tuple[int, bytes, bytes]]) -> list[float]:
    """Return the share of equal elements in each pair of samples, all of one length."""
    now = _elements(dtype, [sample for _, sample, _ in samples])
    before = _elements(dtype, [was for _, _, was in samples])
    shares: list[float] = (now == before).mean(axis=1).tolist()
    return shares


def _elements(dtype: str, samples: list[bytes]) -> NDArray[np.void] | NDArray[np.unsignedinteger]:
    """Return the elements as they are compared: bit for bit."""
    width = DTYPES[dtype].bits // _BYTE_BITS
    kind = f"u{width}" if width in _WORDS else f"V{width}"
    return np.frombuffer(b"".join(samples), kind).reshape(len(samples), -1)
