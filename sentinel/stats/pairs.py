"""Up and down matrices taken together: what an adapter adds to a weight, without forming it.

The Frobenius norm of B·A follows from two rank-sized Gram matrices,
``‖B·A‖² = trace((BᵀB)(AAᵀ))``, so a module costs its own two matrices and nothing of the size
of the base weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentinel.stats.scale import scale_of
from sentinel.stats.values import as_float64, is_decodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from sentinel.checkpoint import AdapterConfig, Tensor
    from sentinel.stats.moments import Moments
    from sentinel.stats.reading import MemberFile

PIECE_BYTES = 8 * 1024 * 1024
"""Bytes of a matrix in memory at a time."""

LARGEST_RANK = 4096
"""Above this a Gram matrix would outgrow the adapter; no adapter trains such a rank."""

_COMPONENTS = {
    "lora_unet": "unet",
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
    "lora_te3": "text_encoder_3",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The matrices of one module; ``up`` is [out, r], ``down`` [r, in], kernels behind."""

    module: str
    up: Tensor
    down: Tensor
    alpha: Tensor | None
    has_mid: bool

    @property
    def zero_side(self) -> Tensor | None:
        """Return the matrix that the initialisation sets to zero, None when it has none."""
        return next((side for side in (self.up, self.down) if side.zero_at_init), None)


def find_pairs(tensors: Iterable[Tensor]) -> tuple[Pair, ...]:
    """Return the modules that have an up and a down matrix, in the file's order."""
    by_module: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        by_module.setdefault(tensor.module, {}).setdefault(tensor.role, tensor)
    return tuple(
        Pair(module, roles["lora_up"], roles["lora_down"], roles.get("alpha"), "lora_mid" in roles)
        for module, roles in by_module.items()
        if "lora_up" in roles and "lora_down" in roles
    )


def component_of(module: str) -> str:
    """Return the part of the model a module lies in: ``unet``, ``text_encoder``, ``model``, ``""``.

    It is the first segment of a dotted path; kohya's flat names carry it as a prefix.
    """
    head, dot, _rest = module.partition(".")
    if dot:
        return _COMPONENTS.get(head, head)
    prefix = "_".join(module.split("_", 2)[:2])
    return _COMPONENTS.get(prefix, "")


def pair_row(
    pair: Pair,
    moments: Mapping[str, Moments],
    adapter: AdapterConfig | None,
    open_member: Callable[[str], MemberFile],
) -> dict[str, object]:
    """Return one row of the table ``pairs``, its columns in no particular order.

    ``moments`` are the tensors' by name; ``open_member`` gives the open file of a member.
    """
    up, down = moments[pair.up.name], moments[pair.down.name]
    rank = pair.down.shape[0] if pair.down.shape else 0
    alpha, scale = scale_of(pair.module, rank, _alpha_value(pair, moments), adapter)
    side = pair.zero_side
    return {
        "module": pair.module,
        "family": pair.up.family,
        "component": component_of(pair.module),
        "up": pair.up.name,
        "down": pair.down.name,
        "up_dtype": pair.up.dtype,
        "down_dtype": pair.down.dtype,
        "rank": rank,
        "alpha": alpha,
        "scale": scale,
        "zero_side": side.name if side else None,
        "zero_side_zero_count": moments[side.name].zero_count if side else None,
        "zero_side_numel": side.numel if side else None,
        "up_l2": up.l2,
        "down_l2": down.l2,
        "up_rms": _rms(up),
        "down_rms": _rms(down),
        "in_features": pair.down.shape[1] if len(pair.down.shape) > 1 else None,
        "out_features": pair.up.shape[0] if pair.up.shape else None,
        "norm": _norm(pair, (up, down), scale, open_member),
        "base_norm": None,
    }


def _alpha_value(pair: Pair, moments: Mapping[str, Moments]) -> float | None:
    if pair.alpha is None or pair.alpha.numel != 1:
        return None
    return moments[pair.alpha.name].mean


def _rms(moments: Moments) -> float | None:
    if moments.l2 is None:
        return None
    return moments.l2 / math.sqrt(moments.finite_count)


def _norm(
    pair: Pair,
    moments: tuple[Moments, Moments],
    scale: float | None,
    open_member: Callable[[str], MemberFile],
) -> float | None:
    if scale is None or pair.has_mid or not _multiplicable(pair):
        return None
    if any(side.nan_count != 0 or side.inf_count != 0 for side in moments):
        return None
    up_gram = _gram(pair.up, open_member(pair.up.member), by_rows=True)
    down_gram = _gram(pair.down, open_member(pair.down.member), by_rows=False)
    norm = abs(scale) * math.sqrt(max(0.0, float(np.sum(up_gram * down_gram))))
    return norm if math.isfinite(norm) else None


def _multiplicable(pair: Pair) -> bool:
    up, down = pair.up, pair.down
    if len(up.shape) < 2 or len(down.shape) < 2:  # noqa: PLR2004 - a matrix has two axes
        return False
    rank = down.shape[0]
    fits = up.shape[1] == rank and all(extent == 1 for extent in up.shape[2:])
    return fits and 0 < rank <= LARGEST_RANK and is_decodable(up.dtype) and is_decodable(down.dtype)


def _gram(tensor: Tensor, file: MemberFile, *, by_rows: bool) -> NDArray[np.float64]:
    """Return MᵀM of an up matrix (``by_rows``) or MMᵀ of a down matrix, both [r, r]."""
    rows = tensor.shape[0]
    columns = tensor.numel // rows if rows else 0
    rank = columns if by_rows else rows
    gram = np.zeros((rank, rank))
    pieces = _row_pieces if by_rows else _column_pieces
    for piece in pieces(tensor, rows, columns, file):
        gram += piece.T @ piece if by_rows else piece @ piece.T
    return gram


def _row_pieces(
    tensor: Tensor, rows: int, columns: int, file: MemberFile
) -> Iterable[NDArray[np.float64]]:
    if not rows * columns:
        return
    row_bytes = tensor.size_bytes // rows
    step = max(1, PIECE_BYTES // row_bytes)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        data = file.read(tensor.offset + start * row_bytes, count * row_bytes)
        yield as_float64(tensor.dtype, data).reshape(count, columns)


def _column_pieces(
    tensor: Tensor, rows: int, columns: int, file: MemberFile
) -> Iterable[NDArray[np.float64]]:
    """Yield a wide matrix in bands of columns: every row's part of the band lies apart."""
    if tensor.size_bytes <= PIECE_BYTES:
        yield from _row_pieces(tensor, rows, columns, file)
        return
    item_bytes = tensor.size_bytes // tensor.numel
    step = max(1, PIECE_BYTES // (rows * item_bytes))
    for start in range(0, columns, step):
        count = min(step, columns - start)
        band = np.empty((rows, count))
        for row in range(rows):
            begin = tensor.offset + (row * columns + start) * item_bytes
            band[row] = as_float64(tensor.dtype, file.read(begin, count * item_bytes))
        yield band
