"""What a checkpoint is, as text and as JSON: its making, its settings, its modules and tensors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.health.plain import json_text, path_text, plain
from sentinel.reports.facts import checkpoint_facts, families_of, setting_groups
from sentinel.reports.sections import Facts, Listing, Section
from sentinel.reports.table import Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.checkpoint import Base, Checkpoint
    from sentinel.stats.optimizer import OptimizerGlance

SCHEMA = 1

LONG = 400
"""Characters of a value that text shows: trainers write whole tables into one. JSON has all."""

_MODULE_COLUMNS = ("rank", "alpha", "scale", "up_l2", "down_l2", "norm")
_MODULE_NAMES = ("module", "rank", "alpha", "scale", "up", "down", "change")
_TENSOR_COLUMNS = MappingProxyType(
    {
        "nan_count": "nan",
        "inf_count": "inf",
        "zero_count": "zero",
        "min": "min",
        "max": "max",
        "mean": "mean",
        "l2": "l2",
    }
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What is to be shown of a checkpoint; None stands for what was not asked for.

    ``pairs``, ``effects`` and ``tensors`` are the tables of those names, ``metadata`` what each
    member's header carries beside its tensors. ``base`` is the model under the adapter, if it lies
    on this machine, ``optimizer`` what a saved one says of itself.
    """

    checkpoint: Checkpoint
    pairs: pa.Table | None = None
    effects: pa.Table | None = None
    tensors: pa.Table | None = None
    metadata: Mapping[str, Mapping[str, str]] | None = field(default=None)
    base: Base | None = None
    optimizer: OptimizerGlance | None = None


def show_sections(shown: Shown, base_dir: Path) -> Iterator[Section]:
    """Yield what a checkpoint is, then what else was asked for; paths relative to ``base_dir``."""
    checkpoint = shown.checkpoint
    yield Facts(tuple(checkpoint_facts(checkpoint, base_dir, shown.base, shown.optimizer)))
    if checkpoint.faults:
        faults = tuple((fault.rule, fault.message) for fault in checkpoint.faults)
        yield Facts(faults, title="what is wrong with its files")
    if shown.metadata is not None:
        yield Facts(_values(checkpoint.settings), title=f"settings: {len(checkpoint.settings)}")
        for member, metadata in shown.metadata.items():
            yield Facts(_values(metadata), title=f"metadata of {member}: {len(metadata)}")
    else:
        grouped = tuple(setting_groups(checkpoint.settings))
        if grouped:
            yield Facts(grouped, title="settings (--meta lists each by its name)")
    if shown.pairs is not None:
        yield from _modules(shown)
    if shown.tensors is not None:
        yield Listing(f"tensors: {shown.tensors.num_rows}", _tensor_rows(shown.tensors))


def show_to_json(shown: Shown) -> str:
    """Return the same as JSON text, ASCII only; what was not asked for has no key."""
    checkpoint = shown.checkpoint
    whole: dict[str, object] = {
        "schema": SCHEMA,
        "path": path_text(checkpoint.path),
        "layout": checkpoint.layout,
        "trainer": checkpoint.trainer,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "updates_done": checkpoint.updates_done,
        "complete": checkpoint.complete,
        "size_bytes": checkpoint.size_bytes,
        "members": [
            {"path": member.path, "part": member.part, "size_bytes": member.size_bytes}
            for member in checkpoint.members
        ],
        "dtypes": _counts(tensor.dtype for tensor in checkpoint.tensors),
        "roles": _counts(tensor.role for tensor in checkpoint.tensors),
        "families": _counts(families_of(checkpoint.tensors)),
        "settings": checkpoint.settings,
        "state_is_whole": checkpoint.state_is_whole,
        "optimizer": _optimizer_object(shown),
        "base": _base_object(shown.base),
        "faults": [
            {"rule": fault.rule, "part": fault.part, "message": fault.message}
            for fault in checkpoint.faults
        ],
    }
    if shown.metadata is not None:
        whole["metadata"] = shown.metadata
    if shown.pairs is not None:
        whole["modules"] = shown.pairs.to_pylist()
    if shown.effects is not None:
        whole["effects"] = shown.effects.to_pylist()
    if shown.tensors is not None:
        whole["tensors"] = shown.tensors.to_pylist()
    return json.dumps(plain(whole), indent=2, allow_nan=False)


def _optimizer_object(shown: Shown) -> dict[str, object] | None:
    state = shown.checkpoint.optimizer
    if state is None:
        return None
    glance = shown.optimizer
    return {
        "member": state.member,
        "parameters": len(state.parameters),
        "opaque": state.opaque_count,
        "steps": list(glance.steps) if glance and glance.steps else None,
        "groups": list(glance.groups) if glance else [],
    }


def _base_object(base: Base | None) -> dict[str, object] | None:
    if base is None:
        return None
    return {
        "path": path_text(base.path),
        "scheme": base.scheme,
        "compute_dtype": base.compute_dtype,
        "weights": len(base.weights),
    }


def _modules(shown: Shown) -> Iterator[Section]:
    pairs = shown.pairs.to_pylist() if shown.pairs is not None else []
    effects = shown.effects.to_pylist() if shown.effects is not None else []
    if pairs:
        idle = {row["module"] for row in effects if row["idle"]}
        names = [*_MODULE_NAMES]
        rows = [[row["module"], *(_short(row[name]) for name in _MODULE_COLUMNS)] for row in pairs]
        # A column that says nothing of any module would only push the others together.
        if any(row["base_norm"] for row in pairs):
            names.append("of base")
            _widen(rows, (_ratio(row["norm"], row["base_norm"]) for row in pairs))
        if idle:
            names.append("note")
            _widen(rows, ("no effect" if row["module"] in idle else "" for row in pairs))
        title = f"modules with up and down: {len(pairs)}{_range_words(pairs)}"
        yield Listing(title, Rows(tuple(names), tuple(map(tuple, rows))))
    known = {row["module"] for row in pairs}
    others = [row for row in effects if row["module"] not in known]
    if others:
        cells = tuple(
            (row["module"], row["family"], _effect_words(row), _short(row["norm"]))
            for row in others
        )
        head = ("module", "family", "does something", "change")
        yield Listing(f"modules of other families: {len(others)}", Rows(head, cells))
    if not pairs and not others:
        yield Facts((), title="no adapted modules")


def _widen(rows: list[list[object]], cells: Iterable[object]) -> None:
    for row, cell in zip(rows, cells, strict=True):
        row.append(cell)


def _range_words(pairs: list[dict[str, object]]) -> str:
    """Return between which sizes the modules change their weights, "" when none is known."""
    norms = [norm for row in pairs if isinstance(norm := row["norm"], float)]
    low, high = (f"{bound(norms, default=0.0):.3g}" for bound in (min, max))
    return f", change {low if low == high else f'{low} to {high}'}" if norms else ""


def _tensor_rows(tensors: pa.Table) -> Rows:
    rows = tuple(
        (
            row["tensor"],
            row["role"],
            row["dtype"],
            "x".join(map(str, row["shape"])),
            *(_short(row[name]) for name in _TENSOR_COLUMNS),
        )
        for row in tensors.to_pylist()
    )
    return Rows(("tensor", "role", "dtype", "shape", *_TENSOR_COLUMNS.values()), rows)


def _values(values: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _cut(value)) for name, value in sorted(values.items()))


def _cut(value: object) -> str:
    said = value if isinstance(value, str) else json_text(value)
    return said if len(said) <= LONG else f"{said[:LONG]}... ({len(said):,} characters)"


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _short(value: object) -> str:
    """Return a number in few characters, so that many fit side by side; "-" when unknown."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _ratio(norm: float | None, base_norm: float | None) -> str:
    return f"{100 * norm / base_norm:.2g} %" if norm is not None and base_norm else "-"


def _effect_words(row: Mapping[str, object]) -> str:
    return "unknown" if row["idle"] is None else "no" if row["idle"] else "yes"
