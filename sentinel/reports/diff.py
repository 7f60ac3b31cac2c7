"""What changed between two checkpoints, as text and as JSON. Our own text is ASCII."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.health.plain import path_text, plain
from sentinel.reports.sections import Facts, Listing, Section, Sentence
from sentinel.reports.table import Rows
from sentinel.reports.words import origin_words, path_words

if TYPE_CHECKING:
    from sentinel.checkpoint import Tensor
    from sentinel.stats.comparison import ComparedTensor, Comparison, ModuleDifference

SCHEMA = 1

MAX_ROWS = 1000
"""Lines of text a table has at most; JSON has them all."""


def diff_sections(comparison: Comparison, base_dir: Path) -> Iterator[Section]:
    """Yield what differs, the sentence that sums it up first; paths relative to ``base_dir``."""
    yield Sentence(summary_words(comparison))
    yield Facts(
        tuple(
            (name, f"{path_words(one.path, base_dir)}  {origin_words(one)}")
            for name, one in (("A", comparison.first), ("B", comparison.second))
        )
    )
    for title, head, differing in (
        ("progress", "fact", comparison.progress),
        ("settings that differ", "setting", comparison.choices),
    ):
        if differing:
            rows = tuple((name, *values) for name, values in differing.items())
            yield Listing(title, Rows((head, "A", "B"), rows))
    for name, tensors in (("A", comparison.only_first), ("B", comparison.only_second)):
        if tensors:
            yield Listing(f"tensors only in {name}: {len(tensors)}", _tensor_rows(tensors))
    yield from _kinds(comparison)
    changed = [one for one in comparison.modules if not one.is_identical]
    if changed:
        yield Listing(f"modules that differ: {len(changed)}", _module_rows(changed))
    unknown = comparison.unknown
    if unknown:
        named = tuple(pair.first for pair in unknown)
        yield Listing(f"could not be compared: {len(unknown)}", _tensor_rows(named))


def summary_words(comparison: Comparison) -> str:
    """Return in one sentence how much of a checkpoint changed."""
    modules = comparison.modules
    changed = [one for one in modules if not one.is_identical]
    parts = [_changed_words(changed, len(modules))] if modules else ["no tensor is in both"]
    parts[0] += _between(comparison)
    faint = sum(one.is_below_epsilon for one in changed)
    if faint:
        parts.append(f"{faint} of them by less than one step of their dtype")
    for name, tensors in (("A", comparison.only_first), ("B", comparison.only_second)):
        if tensors:
            parts.append(f"{_count(len(tensors), 'tensor')} only in {name}")
    if comparison.choices:
        count = len(comparison.choices)
        parts.append(f"{_count(count, 'setting')} {'differs' if count == 1 else 'differ'}")
    if comparison.unknown:
        parts.append(f"{_count(len(comparison.unknown), 'tensor')} could not be compared")
    return "; ".join(parts)


def _between(comparison: Comparison) -> str:
    """Return from which step to which, where the two are known and differ."""
    steps = comparison.progress.get("step")
    return f" from step {steps[0]} to {steps[1]}" if steps and None not in steps else ""


def diff_to_json(comparison: Comparison) -> str:
    """Return the comparison as JSON text, ASCII only; every tensor and module is listed."""
    first, second = comparison.first, comparison.second
    whole = {
        "schema": SCHEMA,
        "a": {"path": path_text(first.path), "layout": first.layout, "step": first.step},
        "b": {"path": path_text(second.path), "layout": second.layout, "step": second.step},
        "summary": summary_words(comparison),
        "different": comparison.is_different,
        "settings": {
            name: {"a": ours, "b": theirs} for name, (ours, theirs) in comparison.settings.items()
        },
        "only_in_a": [tensor.name for tensor in comparison.only_first],
        "only_in_b": [tensor.name for tensor in comparison.only_second],
        "not_compared": [pair.first.name for pair in comparison.unknown],
        "modules": [_module_object(one) for one in comparison.modules],
        "tensors": [_tensor_object(pair) for pair in comparison.tensors],
    }
    return json.dumps(plain(whole), indent=2, allow_nan=False)


def _changed_words(changed: list[ModuleDifference], total: int) -> str:
    if not changed:
        return f"{total} of {_count(total, 'module')} unchanged"
    known = [one.relative for one in changed if one.relative is not None]
    low, high = (_percent(bound) for bound in (min(known, default=0), max(known, default=0)))
    by = f" by {low} %" if low == high else f" by {low} to {high} %"
    said = f"{len(changed)} of {_count(total, 'module')} changed{by if known else ''}"
    unmeasured = len(changed) - len(known)
    if known and unmeasured:
        said += f" ({unmeasured} from zero or beyond measure)"
    same = total - len(changed)
    return f"{said}, {same} unchanged" if same else said


def _kinds(comparison: Comparison) -> Iterator[Section]:
    rows = tuple(
        (pair.first.name, _kind_words(pair.first), _kind_words(pair.second))
        for pair in comparison.tensors
        if (pair.first.dtype, pair.first.shape) != (pair.second.dtype, pair.second.shape)
    )
    if rows:
        yield Listing(
            f"tensors of another shape or dtype: {len(rows)}", _cut(("tensor", "A", "B"), rows)
        )


def _kind_words(tensor: Tensor) -> str:
    return f"{tensor.dtype} [{', '.join(map(str, tensor.shape))}]"


def _tensor_rows(tensors: tuple[Tensor, ...]) -> Rows:
    rows = tuple((tensor.name, _kind_words(tensor)) for tensor in tensors)
    return _cut(("tensor", "kind"), rows)


def _module_rows(modules: list[ModuleDifference]) -> Rows:
    rows = tuple(
        (
            one.module,
            _share(one),
            "" if one.relative is None else f"{_percent(one.relative)} %",
            "" if one.largest is None else f"{one.largest:.3g}",
            _note(one),
        )
        for one in modules
    )
    return _cut(("module", "identical", "change", "largest", "note"), rows)


def _share(one: ModuleDifference) -> str:
    """Return how much is identical; what is not whole never looks whole, nor the reverse."""
    percent = 100 * one.identical_count / one.numel if one.numel else 100.0
    if one.identical_count < one.numel:
        percent = min(percent, 99.9)
    return f"{percent:.1f} %"


def _note(one: ModuleDifference) -> str:
    notes = []
    if one.is_below_epsilon:
        notes.append(f"below the dtype's step of {one.epsilon:.2g}")
    if one.non_finite_count:
        notes.append(f"{one.non_finite_count} NaN or Inf")
    if one.relative is None and one.largest:
        notes.append("was zero, or is beyond measure")
    return ", ".join(notes)


def _cut(names: tuple[str, ...], rows: tuple[tuple[object, ...], ...]) -> Rows:
    if len(rows) <= MAX_ROWS:
        return Rows(names, rows)
    rest = (f"... and {len(rows) - MAX_ROWS} more", *[""] * (len(names) - 1))
    return Rows(names, (*rows[:MAX_ROWS], rest))


def _percent(share: float) -> str:
    return f"{100 * share:.2g}" if share < 1 else f"{100 * share:.0f}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _module_object(one: ModuleDifference) -> dict[str, object]:
    return {
        "module": one.module,
        "numel": one.numel,
        "identical_count": one.identical_count,
        "relative_change": one.relative,
        "largest_change": one.largest,
        "epsilon": one.epsilon,
        "below_epsilon": one.is_below_epsilon,
        "non_finite_count": one.non_finite_count,
        "unchanged": one.is_identical,
    }


def _tensor_object(pair: ComparedTensor) -> dict[str, object]:
    found = pair.difference
    return {
        "tensor": pair.first.name,
        "dtype": {"a": pair.first.dtype, "b": pair.second.dtype},
        "shape": {"a": pair.first.shape, "b": pair.second.shape},
        "identical_count": found.identical_count if found else None,
        "change_l2": found.change_l2 if found else None,
        "a_l2": found.first_l2 if found else None,
        "largest_change": found.largest if found else None,
        "unchanged": None if pair.is_unknown else pair.is_identical,
    }
