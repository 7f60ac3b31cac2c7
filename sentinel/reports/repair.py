"""What a repair on files would write or has written, and what undoing one took away."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.health.plain import plain
from sentinel.receipt import CopyPlan, Receipt, plan_object
from sentinel.reports.facts import counted
from sentinel.reports.json_report import SCHEMA
from sentinel.reports.sections import Facts, Listing, Section, Sentence, Verbatim
from sentinel.reports.table import Rows
from sentinel.reports.words import path_words
from sentinel.sizes import size_words

if TYPE_CHECKING:
    from sentinel.receipt import Loss

_MOST_KEYS = 10
"""Renamed keys that are listed; `--format json` has all of them."""

_OPTIMIZER = {
    "keep": "kept bit for bit",
    "cast": "cast along with the weights",
    "drop": "left out",
}


def repair_sections(
    plan: CopyPlan, command: Sequence[str], base_dir: Path, receipt: Receipt | None = None
) -> Iterator[Section]:
    """Yield what a copy is, and the command that writes it, or that takes it away again."""
    size = f"{counted(len(plan.files), 'file')}, {size_words(plan.size_bytes)}"
    verb = "would write" if receipt is None else "wrote"
    yield Sentence(f"{verb} {path_words(plan.target, base_dir)} ({size})")
    yield Facts(tuple(_facts(plan, base_dir)))
    dtypes = [one for one in plan.dtypes if plan.cast]
    if dtypes:
        yield Listing(
            "dtypes",
            Rows(
                ("part", "from", "to", "tensors", "values"),
                tuple(
                    (
                        one.part,
                        one.before,
                        one.after if one.after != one.before else "stays",
                        one.tensor_count,
                        one.value_count,
                    )
                    for one in dtypes
                ),
            ),
        )
    if plan.losses:
        rows = tuple(row for part, loss in plan.losses for row in _loss_rows(part, loss))
        yield Listing("values that are lost", Rows(("part", "become", "values", "first in"), rows))
    if plan.renamed:
        yield Listing(_keys_title(plan), Rows(("from", "to"), plan.renamed[:_MOST_KEYS]))
    rows = tuple((one.path, one.how, one.size_bytes) for one in plan.files)
    yield Listing("files", Rows(("file", "is", "bytes"), rows))
    if plan.left_out:
        yield Listing("left out", Rows(("file", "because"), plan.left_out))
    if plan.notes:
        yield Facts(tuple(("note", note) for note in plan.notes))
    if receipt is None:
        yield Verbatim("to write it", shlex.join(command))
    else:
        undo = shlex.join(["sentinel", "undo", path_words(receipt.path, base_dir)])
        yield Verbatim("to take it away again", undo)
    yield Verbatim("to go on with it", plan.go_on)


def repair_to_json(plan: CopyPlan, command: Sequence[str], receipt: Receipt | None = None) -> str:
    """Return the same as one JSON object; ``written`` tells a plan from what was done."""
    told = {
        "schema": SCHEMA,
        "written": receipt is not None,
        **plan_object(plan if receipt is None else receipt.plan),
        "receipt": None if receipt is None else path_text(receipt.path),
        "command": list(command),
    }
    return json.dumps(plain(told), indent=2, allow_nan=False)


def undo_sections(
    *,
    root: Path,
    removed: Sequence[str],
    gone: Sequence[str],
    changed: Sequence[str],
    added: Sequence[str],
    dry_run: bool,
    base_dir: Path,
) -> Iterator[Section]:
    """Yield what was taken away, and what stays with the reason."""
    verb = "would take away" if dry_run else "took away"
    yield Sentence(f"{verb} {counted(len(removed), 'file')} in {path_words(root, base_dir)}")
    stays = [(name, "changed since it was written") for name in changed]
    stays += [(name, "came in addition") for name in added]
    if stays:
        yield Listing("stays", Rows(("file", "because"), tuple(stays)))
    if gone:
        rows = tuple((name,) for name in gone)
        yield Listing("was gone already", Rows(("file",), rows))


def _facts(plan: CopyPlan, base_dir: Path) -> Iterator[tuple[str, str]]:
    step = "" if plan.step is None else f", step {plan.step}"
    yield "from", f"{path_words(plan.source, base_dir)} ({plan.layout}{step}), which stays as it is"
    if plan.cast:
        yield "cast", f"floats to {plan.cast}"
    yield "optimizer", _OPTIMIZER[plan.optimizer]
    if plan.renamed:
        yield "keys", f"{counted(len(plan.renamed), 'tensor')} renamed"


def _keys_title(plan: CopyPlan) -> str:
    count = len(plan.renamed)
    return (
        f"renamed keys (the first {_MOST_KEYS} of {count})"
        if count > _MOST_KEYS
        else ("renamed keys")
    )


def _loss_rows(part: str, loss: Loss) -> Iterator[tuple[object, ...]]:
    if loss.overflow_count:
        yield part, "infinite", f"{loss.overflow_count} of {loss.value_count}", loss.first_overflow
    if loss.underflow_count:
        yield part, "zero", f"{loss.underflow_count} of {loss.value_count}", loss.first_underflow
