"""Writing a copy: under a temporary name beside its place, then renamed, whole or not at all.

A kill at any instant leaves no half-made checkpoint under a real name: what is being made lies in
a hidden directory that ends in `.tmp`, which no trainer and no reader takes for a checkpoint.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from errno import EEXIST
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.checkpoint import identity, path_text
from sentinel.errors import ChangedWhileReadError, RepairError
from sentinel.receipt import Receipt
from sentinel.repairs.files.digests import digest_of
from sentinel.repairs.files.keeping import KEPT
from sentinel.repairs.files.places import check_target
from sentinel.repairs.files.receipts import receipt_place, remove_stale, write_receipt
from sentinel.stats.reading import current_identity
from sentinel.storage import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel.receipt import CopyPlan, NewFile
    from sentinel.repairs.files.actions import Action
    from sentinel.repairs.files.planning import Preparation

_MARGIN_BYTES = 1024 * 1024


def write(preparation: Preparation) -> Receipt:
    """Make the copy that was prepared, and return its receipt, which lies beside or inside it.

    The original is only read. Raises RepairError when there is no room, when something lies at the
    target by now, or when the system refuses to write; ChangedWhileReadError when the original
    changed meanwhile. Then nothing is left under a real name.
    """
    plan, checkpoint = preparation.plan, preparation.checkpoint
    check_target(checkpoint, KEPT[checkpoint.layout], plan.target)
    _refuse_changed(preparation)
    parent = plan.target.parent
    try:
        made_directories = _make_directories(parent)
        try:
            _refuse_full(plan)
            with _staging(plan.target) as staging:
                receipt = _fill(preparation, staging, made_directories)
                _refuse_changed(preparation)
                _place(receipt, staging)
        except BaseException:
            _remove_empty(made_directories)
            raise
    except OSError as error:
        raise RepairError(
            f"copy '{path_text(plan.target)}'",
            fact=f"cannot be written ({error.strerror or type(error).__name__})",
            todo="check its place, or name another with --to",
        ) from error
    return receipt


def _fill(preparation: Preparation, staging: Path, made_directories: tuple[Path, ...]) -> Receipt:
    """Write every file and the receipt below a temporary directory."""
    plan, root = preparation.plan, preparation.checkpoint.root
    files: list[NewFile] = []
    originals: list[tuple[str, str]] = []
    for action in preparation.actions:
        made = {file.path: file.size_bytes for file in files}
        file = _make(action, root, staging, made)
        files.append(file)
        source = file.sha256 if file.how == "copied" else digest_of(root / file.source)
        originals.append((file.source, source))
    receipt = Receipt(
        plan=replace(plan, files=tuple(files)),
        path=receipt_place(plan.target, is_directory=plan.is_directory),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        originals=tuple(originals),
        made_directories=made_directories,
    )
    write_receipt(staging / receipt.path.name, receipt)
    for directory, _names, _files in os.walk(staging, topdown=False):
        sync_directory(Path(directory))
    return receipt


def _make(action: Action, root: Path, staging: Path, made: dict[str, int]) -> NewFile:
    """Write one file to the disk and return it with its size and digest."""
    path = staging / action.file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x+b") as out:
        action.write(root, out, made)
        out.flush()
        os.fsync(out.fileno())
    return replace(action.file, size_bytes=path.stat().st_size, sha256=digest_of(path))


def _place(receipt: Receipt, staging: Path) -> None:
    """Give the copy its name: one rename of a directory; of a single file the file comes last."""
    plan = receipt.plan
    if plan.is_directory:
        os.rename(staging, plan.target)  # noqa: PTH104 - fails where anything but nothing lies
        sync_directory(plan.target.parent)
        return
    beside = {file.path.split("/")[0] for file in plan.files} - {plan.target.name}
    remove_stale(receipt.path)
    for name in (receipt.path.name, *sorted(beside), plan.target.name):
        place = plan.target.parent / name
        if os.path.lexists(place):
            raise FileExistsError(EEXIST, f"'{path_text(name)}' lies there already", str(place))
        os.rename(staging / name, place)  # noqa: PTH104
    sync_directory(plan.target.parent)


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Yield a temporary directory beside a target, which is gone afterwards."""
    name = tempfile.mkdtemp(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=target.parent)
    try:
        # What other users may do with the copy is what they may with any new directory.
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o777 & ~mask)
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def _make_directories(path: Path) -> tuple[Path, ...]:
    """Make a directory and those around it that are missing; return the new ones, inner first."""
    missing: list[Path] = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir()
        sync_directory(directory.parent)
    return tuple(missing)


def _remove_empty(directories: tuple[Path, ...]) -> None:
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:
            return


def _refuse_full(plan: CopyPlan) -> None:
    free = shutil.disk_usage(plan.target.parent).free
    needed = plan.size_bytes + _MARGIN_BYTES
    if free < needed:
        raise RepairError(
            f"copy '{path_text(plan.target)}'",
            fact=f"needs {needed} bytes, {free} are free there",
            todo="make room, or name another place with --to",
        )


def _refuse_changed(preparation: Preparation) -> None:
    checkpoint = preparation.checkpoint
    if current_identity(checkpoint) != identity(checkpoint.members):
        raise ChangedWhileReadError(
            f"checkpoint '{path_text(checkpoint.path)}'",
            fact="changed after it was looked at",
            todo="try again when its writer is done",
        )
