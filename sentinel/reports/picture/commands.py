"""Commands to copy: what a reader can do about a finding, and take back of a repair."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from sentinel.health.rows import CheckpointRow, EventRow
from sentinel.reports.picture.told import QUARANTINED, Told
from sentinel.reports.words import shown

_KEYS = "adapter-keys-load-nothing"
"""The rule whose fault a change of names mends."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to copy, and what it does."""

    line: str
    does: str


def commands_for(run: Told, event: EventRow, options: Sequence[str]) -> tuple[Command, ...]:
    """Return what helps against a finding, the usual way first; nothing without a remedy."""
    return tuple(_commands(run, event, options))


def undo_commands(run: Told) -> list[Command]:
    """Return how each quarantined checkpoint comes back."""
    found = []
    for event in run.events:
        row = run.by_id.get(event.checkpoint_id or "")
        place = event.message.rpartition(" to '")[2].removesuffix("'")
        if event.kind == "action" and event.message.startswith(QUARANTINED) and row is not None:
            line = _line("sentinel", "undo", str(PurePath(place).parent))
            found.append(Command(line, f"brings back {PurePath(row.path).name}"))
    return found


def _commands(run: Told, event: EventRow, options: Sequence[str]) -> Iterator[Command]:
    row = run.by_id.get(event.checkpoint_id or "")
    if event.rule == _KEYS and row is not None and row.checkpoint_id not in run.moved:
        line = _line("sentinel", "repair", row.path, "--rename-keys", "auto", "--apply")
        yield Command(line, "writes a copy whose keys load, beside the original")
        return
    wish = (event.remedy or {}).get("resume")
    if not isinstance(wish, Mapping):
        return
    if run.is_supervised:
        name = run.run_id[:8]
        yield Command(
            _line("sentinel", "resume", name, "--dry-run", *options),
            "tells where the training would go on, and with which changes",
        )
        yield Command(
            _line("sentinel", "resume", name, *options),
            "moves what is faulty away and goes on from the last good checkpoint",
        )
        return
    yield Command(
        "sentinel run -- YOUR USUAL COMMAND",
        "looks at what lies there first, and begins from the last good checkpoint",
    )
    good = _last_good(run, event)
    if good is not None and wish.get("precision") in {"fp32", "auto"}:
        drop = ("--optimizer", "drop") if wish.get("optimizer") == "drop" else ()
        yield Command(
            _line("sentinel", "repair", good.path, "--cast", "fp32", *drop, "--apply"),
            f"or by hand: writes a copy of the last good checkpoint (step {good.step}) in fp32,"
            " to begin from",
        )


def _last_good(run: Told, event: EventRow) -> CheckpointRow | None:
    """Return the last healthy checkpoint of the finding's attempt that still lies in its place."""
    good = [
        row
        for row in run.rows
        if row.attempt == event.attempt
        and row.verdict == "healthy"
        and row.checkpoint_id not in run.moved
    ]
    return good[-1] if good else None


def _line(*words: str) -> str:
    return shown(shlex.join(words))
