"""The files of a log, read: JSON lines and TensorBoard events, both into the same entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from sentinel.checkpoint import Member
from sentinel.errors import InputError
from sentinel.formats.containers.json_lines import read_json_lines
from sentinel.formats.containers.on_demand import read_events
from sentinel.formats.files import stat_member
from sentinel.formats.logs.entry import Entry, Log
from sentinel.formats.logs.names import is_known, unified
from sentinel.formats.scalars import as_count, as_finite, as_number

_STEPS = ("step", "global_step", "current_steps", "_step", "global_step/max_steps")
"""`current_steps` is LLaMA-Factory's, the last one ms-swift's, written "40/120"."""

_TIMES = ("time", "timestamp", "_timestamp")


def read_json_log(path: Path) -> Log | None:
    """Return the log in a file of JSON lines, None when it cannot be read or tells nothing."""
    return _read_as_of(_json_log, path)


def read_event_log(path: Path) -> Log | None:
    """Return the log in a TensorBoard event file, None when it cannot be read or tells nothing."""
    return _read_as_of(_event_log, path)


def _read_as_of(read: Callable[[Path, Member], Log], path: Path) -> Log | None:
    try:
        log = read(path, stat_member(path.parent, path.name, "state"))
    except InputError:
        return None
    return log if log.entries else None


# The checkpoints of one run share a log: what its bytes say is kept until they change.
@lru_cache(maxsize=8)
def _json_log(path: Path, file: Member) -> Log:
    lines = read_json_lines(path)
    entries = unified(entry for line in lines.objects for entry in _entries(line))
    return Log(path, entries, file.mtime_ns / 1e9, lines.is_all)


@lru_cache(maxsize=8)
def _event_log(path: Path, file: Member) -> Log:
    events = read_events(path)
    entries = unified(
        Entry(found.step, found.tag, found.value, found.at_s if math.isfinite(found.at_s) else None)
        for found in events.scalars
    )
    return Log(path, entries, file.mtime_ns / 1e9, events.is_all)


def _entries(line: Mapping[str, object]) -> Iterator[Entry]:
    """Yield the numbers of one line.

    SimpleTuner puts them into `metrics`. The bundled trainer writes null for what is not finite
    and names it in `non_finite`; elsewhere null means that nothing was logged.
    """
    step = next((at for at in map(_step, map(line.get, _STEPS)) if at is not None), None)
    if step is None:
        return
    at_s = next((at for at in map(_time_s, map(line.get, _TIMES)) if at is not None), None)
    nested = line.get("metrics")
    numbers = nested if isinstance(nested, dict) else line
    named = line.get("non_finite")
    for name, value in numbers.items():
        number = as_number(value)
        if number is None and value is None and isinstance(named, list) and name in named:
            number = math.nan
        if number is not None and is_known(name):
            yield Entry(step, name, number, at_s)


def _step(value: object) -> int | None:
    if isinstance(value, str):
        value = value.partition("/")[0]
    if isinstance(value, float) and value.is_integer():
        # What pandas made of a column with gaps.
        value = int(value)
    return as_count(value)


def _time_s(value: object) -> float | None:
    if not isinstance(value, str):
        return as_finite(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
