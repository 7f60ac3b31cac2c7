"""An adapter's tables beside those of the model under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from sentinel.stats.base_match import match_modules
from sentinel.stats.table import PAIRS, base_table

if TYPE_CHECKING:
    from sentinel.checkpoint import Base
    from sentinel.stats.base_norms import BaseNorms
    from sentinel.stats.measure import Measured

_ADAPTER_ROLES = frozenset({"lora_up", "lora_down", "lora_mid", "magnitude", "adapter"})


def base_tables(
    base: Base, measured: Measured | None, norms: BaseNorms | None = None
) -> dict[str, pa.Table]:
    """Return the table ``base``, and ``pairs`` with the size of the weights they change.

    Weights are only read when ``norms`` is given, and only those under the adapter.
    """
    if measured is None:
        return {"base": base_table(base)}
    columns = measured.tensors.select(["module", "role"]).to_pydict()
    modules = [
        module
        for module, role in zip(columns["module"], columns["role"], strict=True)
        if module and role in _ADAPTER_ROLES
    ]
    matches = match_modules(modules, (weight.module for weight in base.weights))
    found = norms.measure(base, frozenset(matches.values())) if norms is not None else {}
    sizes = {own: found[theirs].norm for own, theirs in matches.items() if theirs in found}
    column = PAIRS.get_field_index("base_norm")
    values = [sizes.get(module) for module in measured.pairs["module"].to_pylist()]
    pairs = measured.pairs.set_column(column, PAIRS.field(column), pa.array(values, pa.float64()))
    return {"base": base_table(base, matches, found), "pairs": pairs}
