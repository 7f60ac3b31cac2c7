"""Taking a faulty checkpoint out of the trainer's reach: one rename, never a deletion."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sentinel.checkpoint import path_text
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
    by ctime, OneTrainer by name); never on another device, since a copy is no rename. A root
    that is a link is followed: beside the link may be another device.
    """
    beside = Path(os.path.realpath(root)).parent
    place = beside / DIRECTORY / checkpoint_id / checkpoint.name
    return Quarantine(source=checkpoint, place=place)


def move(quarantine: Quarantine, receipt: Mapping[str, object]) -> None:
    """Rename the checkpoint into its place and leave a receipt that says why, and the way back.

    Doing it again after a kill is harmless. Raises RepairError when it is not possible: then
    nothing was moved, no receipt is left, and the caller says so.
    """
    source, place = quarantine.source, quarantine.place
    if place.exists() and not source.exists():
        return
    refusal = _refusal(quarantine)
    if refusal:
        raise _impossible(source, f"cannot be quarantined: {refusal}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(place.parent / RECEIPT, _receipt(quarantine, receipt))
        os.rename(source, place)  # noqa: PTH104 - a rename and nothing else
        sync_directory(place.parent)
        sync_directory(source.parent)
    except OSError as error:
        if not place.exists():
            _clear(place)
        why = error.strerror or str(error)
        raise _impossible(source, f"cannot be moved to '{place}' ({why})") from error


def receipt_at(path: Path) -> Path | None:
    """Return the receipt of a quarantine that a path stands for: itself, or its directory's."""
    receipt = path / RECEIPT if path.is_dir() else path
    is_ours = receipt.name == RECEIPT and receipt.absolute().parents[1].name == DIRECTORY
    return receipt if is_ours and receipt.is_file() else None


def bring_back(receipt: Path, *, dry_run: bool = False) -> Quarantine:
    """Rename a checkpoint back to where it was; nothing is ever written over.

    Its verdict stays, so `sentinel run` still begins elsewhere. Raises RepairError when the
    receipt cannot be read, and when something lies in its place by now.
    """
    quarantine = _told(receipt)
    source, place = quarantine.source, quarantine.place
    refusal = None
    if not os.path.lexists(place):
        refusal = f"is not in its quarantine '{path_text(place)}' any more"
    elif os.path.lexists(source):
        refusal = "cannot be brought back: something else lies there by now"
    elif not source.parent.is_dir():
        refusal = "cannot be brought back: its directory is gone"
    if refusal:
        raise RepairError(
            "checkpoint",
            where=f"'{path_text(source)}'",
            fact=refusal,
            todo="move it by hand to where you want it",
        )
    if not dry_run:
        try:
            os.rename(place, source)  # noqa: PTH104 - a rename and nothing else
            sync_directory(source.parent)
        except OSError as error:
            why = error.strerror or str(error)
            raise _impossible(place, f"cannot be brought back ({why})") from error
        _clear(place)
    return quarantine


def _told(receipt: Path) -> Quarantine:
    """Return what a receipt tells; its place is taken from where it lies, should that move."""
    try:
        told = json.loads(receipt.read_bytes())
        source = Path(told["from"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RepairError(
            "receipt",
            where=f"'{path_text(receipt)}'",
            fact=f"cannot be read ({error})",
            todo="move the checkpoint beside it back by hand",
        ) from error
    return Quarantine(source=source, place=receipt.absolute().parent / source.name)


def _receipt(quarantine: Quarantine, receipt: Mapping[str, object]) -> bytes:
    """Return what is told beside the checkpoint; ``undo`` is a command for a shell."""
    source, place = path_text(quarantine.source), path_text(quarantine.place)
    content = {
        **receipt,
        "quarantined_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "from": source,
        "to": place,
        "undo": shlex.join(["mv", "-n", "--", place, source]),
    }
    return json.dumps(content, indent=1).encode()


def _clear(place: Path) -> None:
    """Leave no receipt of a move that was not made, nor an empty directory."""
    with suppress(OSError):
        (place.parent / RECEIPT).unlink()
        place.parent.rmdir()
        place.parents[1].rmdir()


def _impossible(source: Path, fact: str) -> RepairError:
    return RepairError(
        "checkpoint",
        where=f"'{path_text(source)}'",
        fact=fact,
        todo="move it away by hand before the trainer picks it",
    )


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
