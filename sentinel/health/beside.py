"""What the log keeps beside a tensor's own statistics: its module's norms, and whether it moved."""

from __future__ import annotations

import pyarrow as pa


def with_norms(tensors: pa.Table, pairs: pa.Table, effects: pa.Table) -> pa.Table:
    """Return ``tensors`` with the columns ``effect_norm`` and ``base_norm``.

    A module's norms stand in one row: that of its up matrix where it has one, else that of the
    tensor which can keep it without effect. Norms are Frobenius norms, NULL when not finite or
    not known.
    """
    effect_of, base_of = dict[str, float | None](), dict[str, float | None]()
    paired = set()
    for row in pairs.select(["module", "up", "norm", "base_norm"]).to_pylist():
        paired.add(row["module"])
        effect_of[row["up"]], base_of[row["up"]] = row["norm"], row["base_norm"]
    for row in effects.select(["module", "tensor", "norm"]).to_pylist():
        if row["module"] not in paired:
            effect_of[row["tensor"]] = row["norm"]
    names = tensors["tensor"].to_pylist()
    for column, known in (("effect_norm", effect_of), ("base_norm", base_of)):
        values = pa.array([known.get(name) for name in names], pa.float64())
        tensors = tensors.append_column(column, values)
    return tensors


def with_unchanged(tensors: pa.Table, before: pa.Table | None) -> pa.Table:
    """Return ``tensors`` with the column ``unchanged``, by the digests of those ``before``.

    NULL where one of the two digests is not known.
    """
    known = _digests(before) if before is not None else {}
    values = [
        None if digest is None or known.get(name) is None else digest == known[name]
        for name, digest in _digests(tensors).items()
    ]
    return tensors.append_column("unchanged", pa.array(values, pa.bool_()))


def _digests(tensors: pa.Table) -> dict[str, str | None]:
    names, digests = tensors["tensor"].to_pylist(), tensors["digest"].to_pylist()
    return dict(zip(names, digests, strict=True))
