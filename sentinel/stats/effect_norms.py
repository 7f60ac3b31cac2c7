"""Frobenius norms of what LoHa and LoKr add to a weight, from their factors alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sentinel.stats.gram import multiplicable, product_norm, row_pieces
from sentinel.stats.pairs import alpha_value
from sentinel.stats.scale import rank_of, scale_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.checkpoint import AdapterConfig, Tensor
    from sentinel.stats.moments import Moments
    from sentinel.stats.reading import MemberFile

    Labelled: TypeAlias = Mapping[str, Sequence[Tensor]]
    Opener: TypeAlias = Callable[[str], MemberFile]

LARGEST_RANK = 16
"""A Hadamard product of two rank-r products has rank r²: above this it costs too much to ask."""

LARGEST_FACTOR = 2**22
"""Elements of one factor that are held in memory together."""

_ROWS = 1024


def loha_norm(
    module: str,
    labelled: Labelled,
    moments: Mapping[str, Moments],
    adapter: AdapterConfig | None,
    open_member: Opener,
) -> float | None:
    """Return ‖scale·(w1_a·w1_b)∘(w2_a·w2_b)‖, None when it is unknown or costs too much.

    The product of two low-rank matrices element by element is one of rank r² whose factors are
    the row-wise Kronecker products [out, r²] and [in, r²] of theirs.
    """
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    factors = [labelled[name][0] for name in names if name in labelled]
    if len(factors) < len(names) or "hada_t1" in labelled or not _finite(factors, moments):
        return None
    first, second = (factors[0], factors[1]), (factors[2], factors[3])
    rank = factors[1].shape[0] if factors[1].shape else 0
    same = first[0].shape == second[0].shape and first[1].shape == second[1].shape
    small = all(factor.numel <= LARGEST_FACTOR for factor in factors)
    if not (same and small and multiplicable(*first) and rank <= LARGEST_RANK):
        return None
    left = _kronecker_gram(*(_whole(one, open_member) for one in (first[0], second[0])))
    right = _kronecker_gram(*(_whole(one, open_member).T for one in (first[1], second[1])))
    scale = scale_of(module, rank, _alpha(labelled, moments), adapter)[1]
    return _scaled(math.sqrt(max(0.0, float(np.sum(left * right)))), scale)


def lokr_norm(
    module: str,
    labelled: Labelled,
    moments: Mapping[str, Moments],
    adapter: AdapterConfig | None,
    open_member: Opener,
) -> float | None:
    """Return ‖scale·w1⊗w2‖, the product of the two norms; None when it is unknown.

    LyCORIS writes an alpha equal to its dimension where neither side is decomposed.
    """
    if "lokr_t2" in labelled:
        return None
    sides = [_side(f"lokr_{name}", labelled, moments, open_member) for name in ("w1", "w2")]
    if sides[0] is None or sides[1] is None:
        return None
    thin = [labelled[name][0] for name in ("lokr_w1_b", "lokr_w2_b") if name in labelled]
    alpha = _alpha(labelled, moments)
    if thin:
        rank = thin[0].shape[0] if thin[0].shape else 0
    elif alpha is not None:
        return _scaled(sides[0] * sides[1], 1.0)
    else:
        rank = rank_of(module, adapter) or 0
    return _scaled(sides[0] * sides[1], scale_of(module, rank, alpha, adapter)[1])


NORMS: Mapping[str, Callable[..., float | None]] = MappingProxyType(
    {"loha": loha_norm, "lokr": lokr_norm}
)
"""Family → its norm; LoRA's is known from the table ``pairs``."""


def _side(
    name: str, labelled: Labelled, moments: Mapping[str, Moments], open_member: Opener
) -> float | None:
    """Return the norm of one side of a Kronecker product, whole or as a product of two."""
    if name in labelled:
        whole = labelled[name][0]
        return moments[whole.name].l2 if _finite([whole], moments) else None
    if f"{name}_a" not in labelled or f"{name}_b" not in labelled:
        return None
    left, right = labelled[f"{name}_a"][0], labelled[f"{name}_b"][0]
    if not multiplicable(left, right) or not _finite([left, right], moments):
        return None
    return product_norm(left, right, open_member)


def _finite(tensors: Sequence[Tensor], moments: Mapping[str, Moments]) -> bool:
    found = [moments[tensor.name] for tensor in tensors]
    is_finite = all(one.nan_count == 0 and one.inf_count == 0 for one in found)
    return is_finite and all(tensor.is_plain for tensor in tensors)


def _alpha(labelled: Labelled, moments: Mapping[str, Moments]) -> float | None:
    alphas = labelled.get("alpha", ())
    return alpha_value(alphas[0], moments) if alphas else None


def _whole(tensor: Tensor, open_member: Opener) -> NDArray[np.float64]:
    return np.concatenate(list(row_pieces(tensor, open_member)))


def _kronecker_gram(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gram matrix [r², r²] of two matrices [rows, r] multiplied row by row."""
    size = one.shape[1] * two.shape[1]
    gram = np.zeros((size, size))
    for start in range(0, one.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        piece = np.einsum("ik,il->ikl", one[rows], two[rows]).reshape(-1, size)
        gram += piece.T @ piece
    return gram


def _scaled(norm: float, scale: float | None) -> float | None:
    value = math.inf if scale is None else abs(scale) * norm
    return value if math.isfinite(value) else None
