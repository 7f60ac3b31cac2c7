"""The tensors of one checkpoint as a table: sorted, filtered and paged by DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentinel.health.query import fetch_from
from sentinel.reports.words import shown
from sentinel.ui.look import LIMITS
from sentinel.ui.pages import PAGE_SIZE, Asked

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: what a reader sees as its title, and the SQL that it is sorted by."""

    title: str
    by: str
    is_number: bool = True


COLUMNS: Mapping[str, Column] = {
    "tensor": Column("tensor", "tensor", is_number=False),
    "role": Column("role", "role", is_number=False),
    "dtype": Column("dtype", "dtype", is_number=False),
    "shape": Column("shape", "numel"),
    "bad": Column("not finite", "not_finite"),
    "zero": Column("zero", "zero_share"),
    "rms": Column("RMS", "rms"),
    "largest": Column("largest", "abs_max"),
    "norm": Column("‖scale·B·A‖", "effect_norm"),
    "base": Column("of the base", "relative"),
    "same": Column("unchanged", "unchanged"),
}
PARAMETERS = ("sort", "order", "q", "role", "dtype", "state")
STATES: Mapping[str, str] = {
    "": "true",
    "not finite": "not_finite > 0",
    "all zero": "zero_share = 1",
    "unchanged": "unchanged",
}
"""Filters by what is odd about a tensor."""

_TENSORS = """
WITH told AS (
    SELECT tensor, coalesce(role, '') AS role, coalesce(dtype, '') AS dtype, shape, numel, abs_max,
           coalesce(nan_count, 0) + coalesce(inf_count, 0) AS not_finite,
           zero_count / nullif(numel, 0) AS zero_share,
           l2 / sqrt(nullif(numel - coalesce(zero_count, 0) - not_finite, 0)) AS rms,
           effect_norm, effect_norm / nullif(base_norm, 0) AS relative, unchanged
    FROM tensors
)
SELECT *, count(*) OVER () AS total
FROM told
WHERE (? = '' OR contains(lower(tensor), lower(?))) AND (? = '' OR role = ?)
  AND (? = '' OR dtype = ?) AND (_STATE_)
ORDER BY _SORT_ NULLS LAST, tensor
LIMIT ? OFFSET ?
"""
_CHOICES = """
SELECT list(DISTINCT role ORDER BY role) FILTER (role <> '') AS roles,
       list(DISTINCT dtype ORDER BY dtype) FILTER (dtype <> '') AS dtypes
FROM tensors
"""


@dataclass(frozen=True, slots=True)
class TensorLine:
    """One tensor, safe to show; cells in the order of `COLUMNS`, "" when unknown."""

    cells: tuple[str, ...]
    is_broken: bool


@dataclass(frozen=True, slots=True)
class TensorLines:
    """A page of the table, how many rows it has in all, and what it can be filtered by."""

    lines: tuple[TensorLine, ...]
    total: int
    roles: tuple[str, ...]
    dtypes: tuple[str, ...]
    sort: str
    order: str


def tensor_lines(tensors: pa.Table, asked: Asked) -> TensorLines:
    """Return the page of the table that is asked for; what is asked and not known is ignored."""
    sort = asked.choice("sort", COLUMNS, "tensor")
    first = "asc" if sort in {"tensor", "role", "dtype"} else "desc"
    order = asked.choice("order", ("asc", "desc"), first)
    state = STATES[asked.choice("state", STATES)]
    text, role, dtype = asked["q"], asked["role"], asked["dtype"]
    query = _TENSORS.replace("_SORT_", f"{COLUMNS[sort].by} {order}").replace("_STATE_", state)
    parameters = (text, text, role, role, dtype, dtype, PAGE_SIZE, asked.offset)
    found = fetch_from({"tensors": tensors}, query, parameters, limits=LIMITS).to_pylist()
    choices = fetch_from({"tensors": tensors}, _CHOICES, limits=LIMITS).to_pylist()[0]
    return TensorLines(
        lines=tuple(_line(row) for row in found),
        total=found[0]["total"] if found else 0,
        roles=tuple(choices["roles"] or ()),
        dtypes=tuple(choices["dtypes"] or ()),
        sort=sort,
        order=order,
    )


def _line(row: Mapping[str, Any]) -> TensorLine:
    shape = row["shape"]
    same = {True: "yes", False: "no", None: ""}[row["unchanged"]]
    cells = (
        shown(row["tensor"]),
        shown(row["role"]),
        shown(row["dtype"]),
        " x ".join(map(str, shape)) if shape else "scalar" if shape is not None else "",
        f"{row['not_finite']:,}" if row["not_finite"] else "",
        _share(row["zero_share"]),
        _number(row["rms"]),
        _number(row["abs_max"]),
        _number(row["effect_norm"]),
        _share(row["relative"]),
        same,
    )
    return TensorLine(cells, bool(row["not_finite"]))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"
