"""Where the trainers put the log of a run, seen from one of its checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sentinel.errors import InputError
from sentinel.formats.containers.on_demand import EVENTS_PREFIX
from sentinel.formats.files import files_among, list_directory
from sentinel.formats.logs.event_names import event_files_of
from sentinel.regular import is_directory

JSON_NAMES = (
    "trainer_log.jsonl",
    "metrics.jsonl",
    "training_metrics.jsonl",
    "logging.jsonl",
    "train_log.jsonl",
    "log.jsonl",
)
"""Of LLaMA-Factory, the bundled trainer, SimpleTuner, ms-swift, and names used by hand."""

EVENT_DIRECTORIES = ("runs", "logs", "log", "tensorboard", "lightning_logs", "tb_logs")
"""Of Transformers, the diffusers scripts, sd-scripts, OneTrainer, Lightning, and by hand."""

EVENT_FILES_LIMIT = 8

_DEPTH_LIMIT = 4
_DIRECTORIES_LIMIT = 500
_ABOVE = {"backup": 2, "save": 2, "checkpoints": 2, "model": 2}
"""Checkpoints that lie one directory below what belongs to the run: OneTrainer's
`<workspace>/backup` and `save`, Lightning's `version_0/checkpoints`, kohya's GUI's `model`."""

_BEGAN = re.compile(re.escape(EVENTS_PREFIX) + r"(?P<began_s>\d{9,11})\..*")


def bases_of(path: Path) -> Iterator[Path]:
    """Yield the directories that may hold a checkpoint's log, the nearest first."""
    if is_directory(path):
        yield path
    yield path.parent
    for above in range(2, _ABOVE.get(path.parent.name, 1) + 1):
        yield path.parents[above - 1] if len(path.parents) >= above else path.parent


def json_logs_in(base: Path) -> tuple[Path, ...]:
    """Return the JSON logs in a directory, in the order in which they are asked."""
    return tuple(base / name for name in files_among(base, JSON_NAMES))


def event_files_in(base: Path, until_s: float) -> tuple[Path, ...]:
    """Return the newest event files in or below a directory that began before a time."""
    found = list(event_files_of(base))
    for name in EVENT_DIRECTORIES:
        if is_directory(base / name):
            found.extend(_event_files_below(base / name))
    began = [(began_s, path) for path in found for began_s in [_began_s(path)]]
    return tuple(path for at_s, path in sorted(began) if at_s <= until_s)[-EVENT_FILES_LIMIT:]


def _event_files_below(top: Path) -> Iterator[Path]:
    waiting = [(top, 0)]
    for _ in range(_DIRECTORIES_LIMIT):
        if not waiting:
            return
        directory, depth = waiting.pop()
        files, directories = _listed(directory)
        yield from (directory / name for name in files if name.startswith(EVENTS_PREFIX))
        if depth < _DEPTH_LIMIT:
            # The last by name are looked at first: trainers name them by time.
            waiting.extend((directory / name, depth + 1) for name in directories)


def _began_s(path: Path) -> float:
    match = _BEGAN.fullmatch(path.name)
    return float(match["began_s"]) if match else 0.0


def _listed(directory: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return list_directory(directory)
    except InputError:
        return (), ()
