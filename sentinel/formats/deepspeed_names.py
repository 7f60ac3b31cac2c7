"""The names of the files in a checkpoint of DeepSpeed: which process wrote what.

A save is a directory named by its tag, ``global_step<N>`` unless the user says otherwise; the
file ``latest`` beside it names the last one. Source: `_get_ckpt_name` and its neighbours in
deepspeed/runtime/engine.py of https://github.com/deepspeedai/DeepSpeed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.files import list_directory, open_regular
from sentinel.formats.naming import is_plain_name

if TYPE_CHECKING:
    from pathlib import Path

LATEST = "latest"

_LONGEST_TAG = 255
_FILE = re.compile(
    r"(?P<head>(?:bf16_)?zero_pp_rank_)?(?P<rank>\d{1,6})?_?mp_rank_(?P<mp>\d{2,})"
    r"_(?P<kind>model|optim)_states\.pt"
)
_EXPERT = re.compile(r"(?:layer_\d+_)?exp(?:ert|p_rank)_.*_(?:model|optim)_states\.pt")


@dataclass(frozen=True, slots=True)
class StateFile:
    """One file of a tag; ``rank`` is None where one process writes for all of its model part."""

    name: str
    is_model: bool
    rank: int | None
    model_part: int

    def of_rank(self, rank: int) -> str:
        """Return the name of the same file of another process."""
        return re.sub(r"pp_rank_\d+", f"pp_rank_{rank}", self.name)


def state_files(files: Iterable[str]) -> tuple[StateFile, ...]:
    """Return what the names in a directory say, by rank; other names are left out."""
    found = []
    for name in files:
        match = _FILE.fullmatch(name)
        if match and (match["head"] is None) == (match["rank"] is None):
            rank = int(match["rank"]) if match["rank"] else None
            found.append(StateFile(name, match["kind"] == "model", rank, int(match["mp"])))
    return tuple(sorted(found, key=lambda one: (one.model_part, one.rank or 0, one.name)))


def is_state_file(name: str) -> bool:
    """Tell whether a file belongs to a checkpoint of DeepSpeed's, an expert's file too."""
    return _FILE.fullmatch(name) is not None or _EXPERT.fullmatch(name) is not None


def holds_states(path: Path) -> bool:
    """Tell whether a directory holds files of DeepSpeed's."""
    try:
        return bool(state_files(list_directory(path)[0]))
    except InputError:
        return False


def latest_tag(path: Path) -> str | None:
    """Return the directory that ``latest`` names, None when there is none or it names no name."""
    try:
        with open_regular(path / LATEST) as (file, _size_bytes):
            text = file.read(_LONGEST_TAG + 1).decode("utf-8", "backslashreplace").strip()
    except InputError:
        return None
    return text if len(text) <= _LONGEST_TAG and is_plain_name(text) else None


def tag_in(path: Path, directories: Collection[str]) -> str | None:
    """Return the directory inside a checkpoint that holds DeepSpeed's files, None for none."""
    tag = latest_tag(path)
    if tag in directories and holds_states(path / str(tag)):
        return tag
    steps = sorted(name for name in directories if re.fullmatch(r"global_step\d{1,15}", name))
    return next((name for name in reversed(steps) if holds_states(path / name)), None)
