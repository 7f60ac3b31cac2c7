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
from sentinel.reports.sections import Facts, Listing, Section
from sentinel.reports.table import Rows
from sentinel.reports.words import path_words

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.checkpoint import Checkpoint

SCHEMA = 1

LONG = 400
"""Characters of a value that text shows: trainers write whole tables into one. JSON has all."""

_VERSIONS = "versions."
_COMPLETE = MappingProxyType(
    {
        True: "yes",
        False: "no: its layout's completion mark is missing",
        None: "its layout tells not",
    }
)
_MODULE_COLUMNS = ("rank", "alpha", "scale", "up_l2", "down_l2", "norm")
_MODULE_NAMES = ("module", "rank", "alpha", "scale", "up", "down", "change", "of base")
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
    member's header carries beside its tensors.
    """

    checkpoint: Checkpoint
    pairs: pa.Table | None = None
    effects: pa.Table | None = None
    tensors: pa.Table | None = None
    metadata: Mapping[str, Mapping[str, str]] | None = field(default=None)


def show_sections(shown: Shown, base_dir: Path) -> Iterator[Section]:
    """Yield what a checkpoint is, then what else was asked for; paths relative to ``base_dir``."""
    checkpoint = shown.checkpoint
    yield Facts(tuple(_facts(checkpoint, base_dir)))
    if checkpoint.faults:
        faults = tuple((fault.rule, fault.message) for fault in checkpoint.faults)
        yield Facts(faults, title="what is wrong with its files")
    if shown.metadata is not None:
        yield Facts(_values(checkpoint.settings), title=f"settings: {len(checkpoint.settings)}")
        for member, metadata in shown.metadata.items():
            yield Facts(_values(metadata), title=f"metadata of {member}: {len(metadata)}")
    else:
        settings = {
            name: value
            for name, value in checkpoint.settings.items()
            if not name.startswith(_VERSIONS)
        }
        if settings:
            yield Facts(_values(settings), title="settings")
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
        "families": _counts(tensor.family for tensor in checkpoint.tensors if tensor.family),
        "settings": checkpoint.settings,
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


def _facts(checkpoint: Checkpoint, base_dir: Path) -> Iterator[tuple[str, str]]:
    tensors = checkpoint.tensors
    yield "checkpoint", path_words(checkpoint.path, base_dir)
    yield "layout", checkpoint.layout
    yield "trainer", checkpoint.trainer or "unknown"
    versions = {
        name.removeprefix(_VERSIONS): value
        for name, value in checkpoint.settings.items()
        if name.startswith(_VERSIONS)
    }
    if versions:
        yield "written with", ", ".join(f"{name} {said}" for name, said in versions.items())
    yield "step", _number(checkpoint.step)
    yield "epoch", _number(checkpoint.epoch)
    yield "updates done", _number(checkpoint.updates_done)
    yield "complete", _COMPLETE[checkpoint.complete]
    files = len(checkpoint.members)
    size = _size_words(checkpoint.size_bytes)
    yield "size", f"{size} in {files} {'file' if files == 1 else 'files'}"
    yield "parameters", f"{sum(tensor.numel for tensor in tensors):,} in {len(tensors):,} tensors"
    counted = {
        "dtypes": (tensor.dtype for tensor in tensors),
        "roles": (tensor.role for tensor in tensors),
        "families": (tensor.family for tensor in tensors if tensor.family),
    }
    for name, values in counted.items():
        words = _count_words(values)
        if words:
            yield name, words
    if checkpoint.optimizer is not None:
        parameters, groups = checkpoint.optimizer.parameters, checkpoint.optimizer.groups
        said = f"state of {len(parameters)} parameters in {len(groups)} groups"
        yield "optimizer", said


def _modules(shown: Shown) -> Iterator[Section]:
    pairs = shown.pairs.to_pylist() if shown.pairs is not None else []
    effects = shown.effects.to_pylist() if shown.effects is not None else []
    if pairs:
        rows = tuple(
            (
                row["module"],
                *(_short(row[name]) for name in _MODULE_COLUMNS),
                _ratio(row["norm"], row["base_norm"]),
            )
            for row in pairs
        )
        yield Listing(f"modules with up and down: {len(pairs)}", Rows(_MODULE_NAMES, rows))
    known = {row["module"] for row in pairs}
    others = [row for row in effects if row["module"] not in known]
    if others:
        rows = tuple(
            (row["module"], row["family"], _effect_words(row), _short(row["norm"]))
            for row in others
        )
        names = ("module", "family", "does something", "change")
        yield Listing(f"modules of other families: {len(others)}", Rows(names, rows))
    if not pairs and not others:
        yield Facts((), title="no adapted modules")


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


def _count_words(names: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _short(value: object) -> str:
    """Return a number in few characters, so that many fit side by side; "-" when unknown."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _ratio(norm: float | None, base_norm: float | None) -> str:
    return f"{100 * norm / base_norm:.2g} %" if norm is not None and base_norm else "-"


def _effect_words(row: Mapping[str, object]) -> str:
    return "unknown" if row["idle"] is None else "no" if row["idle"] else "yes"


def _size_words(size_bytes: int) -> str:
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:  # noqa: PLR2004 - the step from one unit to the next
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
