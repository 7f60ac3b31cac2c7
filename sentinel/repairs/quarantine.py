"""Taking a faulty checkpoint out of the trainer's reach: one rename, never a deletion."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sentinel.errors import RepairError
from sentinel.storage import atomic_write, sync_directory

DIRECTORY = ".sentinel-quarantine"
RECEIPT = "receipt.json"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Where a checkpoint was and where it goes: ``place`` lies beside the watched directory."""

    source: Path
    place: Path


def quarantine_place(checkpoint: Path, root: Path, checkpoint_id: str) -> Quarantine:
    """Return where a checkpoint would be moved: beside the outermost directory of the trainer.

    Never below ``root``, since trainers take any entry there for a checkpoint (ai-toolkit picks
    by ctime, OneTrainer by name); never on another device, since a copy is no rename.
    """
    place = root.parent / DIRECTORY / checkpoint_id / checkpoint.name
    return Quarantine(source=checkpoint, place=place)


def move(quarantine: Quarantine, receipt: Mapping[str, object]) -> None:
    """Rename the checkpoint into its place and leave a receipt that says how to undo it.

    Doing it again after a kill is harmless. Raises RepairError when it is not possible: then
    nothing was moved, and the caller says so.
    """
    source, place = quarantine.source, quarantine.place
    if place.exists() and not source.exists():
        return
    refusal = _refusal(quarantine)
    if refusal:
        raise RepairError(
            "checkpoint",
            where=f"'{source}'",
            fact=f"cannot be quarantined: {refusal}",
            todo="move it away by hand before the trainer picks it",
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        content = {**receipt, "from": str(source), "to": str(place), "undo": "rename it back"}
        atomic_write(place.parent / RECEIPT, json.dumps(content, indent=1).encode())
        os.rename(source, place)  # noqa: PTH104 - a rename and nothing else
        sync_directory(place.parent)
        sync_directory(source.parent)
    except OSError as error:
        raise RepairError(
            "checkpoint",
            where=f"'{source}'",
            fact=f"cannot be moved to '{place}' ({error.strerror})",
            todo="move it away by hand before the trainer picks it",
        ) from error


def _refusal(quarantine: Quarantine) -> str | None:
    source, place = quarantine.source, quarantine.place
    if not source.exists():
        return "it is no longer there"
    if place.exists():
        return f"'{place}' is already taken"
    beside = place.parents[2]
    if not os.access(beside, os.W_OK):
        return f"'{beside}' is not writable"
    if beside.stat().st_dev != source.stat().st_dev:
        return f"'{beside}' is on another device"
    return None
