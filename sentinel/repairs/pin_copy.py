"""Making a pin: a reflink of each file where the file system has it, else a copy in blocks.

Never a hard link: it shares the bytes with a trainer that rewrites its files in place, and
changes their ctime, by which ai-toolkit picks its latest. The source is only read, through
files that are opened before the first block is copied: what a trainer deletes from then on is
still read to its end. A source that is written meanwhile ends in no pin at all.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path

from sentinel.checkpoint import Checkpoint, Identity, identity, path_text
from sentinel.errors import InputError, RepairError
from sentinel.formats.opening import candidate_at
from sentinel.regular import is_file, open_file
from sentinel.repairs.pins import (
    BLOCK_BYTES,
    SCHEMA,
    How,
    Manifest,
    Pin,
    PinnedFile,
    PinStore,
    digest_of,
    publish,
    read_blocks,
)

MOST_FILES = 10_000
"""A checkpoint has some dozens; a directory with more than this is something else."""

FLUSHED_BYTES = 16 * BLOCK_BYTES
"""How much of a copy may wait to be written to the disk."""

MOST_OPEN = 200
"""So many files are open at once, of the 1024 that systems commonly allow a process."""

FICLONE = 0x40049409
"""`_IOW(0x94, 9, int)` of linux/fs.h: https://man7.org/linux/man-pages/man2/ioctl_ficlone.2.html"""

Name = tuple[int, int, int, int]
"""By which a file is known again: device, inode, size, mtime in nanoseconds."""


class SourceChangedError(RepairError):
    """The checkpoint is not the one that was judged any more, or not there."""


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that is to be pinned, as it was judged; ``lies`` is how its members lay.

    ``root`` is what the files' names are relative to: the checkpoint, or for a single file the
    directory that holds it.
    """

    run_id: str
    attempt: int
    checkpoint_id: str
    seq: int
    step: int | None
    layout: str
    path: Path
    root: Path
    members: tuple[str, ...]
    lies: Identity

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, *, run_id: str, attempt: int, checkpoint_id: str, seq: int
    ) -> Source:
        """Return the source that a judged checkpoint is."""
        return cls(
            run_id=run_id,
            attempt=attempt,
            checkpoint_id=checkpoint_id,
            seq=seq,
            step=checkpoint.step,
            layout=checkpoint.layout,
            path=checkpoint.path,
            root=checkpoint.root,
            members=tuple(member.path for member in checkpoint.members),
            lies=identity(checkpoint.members),
        )


def files_of(source: Source) -> dict[str, Name]:
    """Return every file that belongs to a checkpoint, by its name below the root.

    Of a directory whose name carries the step all of it: a resume also reads what no layout
    names. One without may be the trainer's output directory, with logs and other checkpoints in
    it: only its members. Links to directories are not followed.
    Raises SourceChangedError when its members do not lie as they were judged.
    """
    try:
        files = {name: _name(source.root / name) for name in _names(source)}
    except OSError as error:
        raise _changed(source, f"'{error.filename}' is gone") from error
    if len(files) > MOST_FILES:
        fact = f"has more than {MOST_FILES} files"
        raise RepairError("checkpoint", where=f"'{path_text(source.path)}'", fact=fact)
    judged = {path: (device, inode, size, at) for path, device, inode, size, at in source.lies}
    if any(files.get(path) != lay for path, lay in judged.items()):
        raise _changed(source, "it is not as it was judged")
    return files


def take(
    store: PinStore, source: Source, files: dict[str, Name], *, stopped: Callable[[], bool]
) -> Pin:
    """Copy a checkpoint's files into the store and return the pin.

    Raises SourceChangedError when the source changed or vanished, AbandonedError once
    ``stopped`` says so (it is asked before each block), OSError when the disk refuses: in each
    case nothing is left. A pin that is already there is returned as it is.
    """
    place = store.place(source.run_id, source.checkpoint_id)
    known = store.find(source.run_id, source.checkpoint_id)
    if known is not None:
        return known
    unready = store.partial(source.run_id, source.checkpoint_id)
    shutil.rmtree(unready, ignore_errors=True)
    shutil.rmtree(place, ignore_errors=True)  # what lies there is no pin that can be believed
    unready.mkdir(parents=True)
    try:
        with ExitStack() as held:
            early = {name: held.enter_context(_opened(source, name)) for name in _largest(files)}
            copy = _Copy(source, unready, stopped)
            copied = [copy.file(name, files[name], early.get(name)) for name in sorted(files)]
        _refuse_rewritten(source, files)
        return publish(unready, _manifest(source, copied), place)
    except BaseException:
        shutil.rmtree(unready, ignore_errors=True)
        raise


def _names(source: Source) -> Iterator[str]:
    candidate = candidate_at(source.path) if source.root == source.path else None
    if candidate is None or candidate.step is None:
        yield from source.members
    else:
        yield from _below(source.root)


def _below(top: Path) -> Iterator[str]:
    for directory, _, names in os.walk(top):
        here = Path(directory)
        for name in names:
            if is_file(here / name):
                yield (here / name).relative_to(top).as_posix()


def _refuse_rewritten(source: Source, files: dict[str, Name]) -> None:
    """Refuse a copy of files that were written again since; deleted ones are whole in the copy."""
    for name, lay in files.items():
        try:
            now = _name(source.root / name)
        except OSError:
            continue
        if now != lay:
            raise _changed(source, f"'{name}' was written meanwhile")


def _largest(files: dict[str, Name]) -> list[str]:
    return sorted(files, key=lambda name: -files[name][2])[:MOST_OPEN]


def _opened(source: Source, name: str) -> FileIO:
    try:
        return open_file(source.root / name)
    except (OSError, InputError) as error:
        raise _changed(source, f"'{name}' is gone") from error


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy under way, from a source into a place of its own."""

    source: Source
    place: Path
    stopped: Callable[[], bool]

    def file(self, name: str, lay: Name, early: FileIO | None) -> tuple[PinnedFile, How]:
        """Copy one file; what was read is what lay there, or the error says that it was not."""
        source = self.source
        inner = name if source.root != source.path else f"{source.path.name}/{name}"
        target = self.place / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        with early or _opened(source, name) as opened, target.open("xb", buffering=0) as copy:
            if _name_of(os.fstat(opened.fileno())) != lay:
                raise _changed(source, f"'{name}' was written again")
            how: How = "reflink" if _reflinked(opened, copy) else "copy"
            if how == "reflink":
                read = digest_of(target, self.stopped)
            else:
                read = read_blocks(opened, self.stopped, partial(_write, copy))
            if _name_of(os.fstat(opened.fileno())) != lay or read[0] != lay[2]:
                raise _changed(source, f"'{name}' was written meanwhile")
            os.fsync(copy.fileno())
            os.utime(target, ns=(lay[3], lay[3]))
            _forget(copy)
        return PinnedFile(path=inner, size_bytes=read[0], digest=read[1]), how


def _write(copy: FileIO, block: memoryview) -> None:
    while block:
        block = block[copy.write(block) :]
    if copy.tell() % FLUSHED_BYTES == 0:
        # What piles up unwritten would come out at once, in the way of the trainer's own saves.
        os.fsync(copy.fileno())
        _forget(copy)


def _reflinked(opened: FileIO, copy: FileIO) -> bool:
    """Share the blocks of a file until one of both is written; False where that is not had."""
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - not on Windows

    try:
        fcntl.ioctl(copy.fileno(), FICLONE, opened.fileno())
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        return False
    return True


def _forget(copy: FileIO) -> None:
    """Leave the page cache to the training: nobody will read the copy soon."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _manifest(source: Source, copied: list[tuple[PinnedFile, How]]) -> Manifest:
    return Manifest(
        schema_version=SCHEMA,
        run_id=source.run_id,
        attempt=source.attempt,
        checkpoint_id=source.checkpoint_id,
        seq=source.seq,
        step=source.step,
        name=source.path.name,
        source=path_text(source.path),
        how="reflink" if all(how == "reflink" for _, how in copied) else "copy",
        pinned_at=datetime.now(UTC),
        files=tuple(file for file, _ in copied),
    )


def _name(path: Path) -> Name:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "is no regular file", str(path))
    return _name_of(status)


def _name_of(status: os.stat_result) -> Name:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _changed(source: Source, fact: str) -> SourceChangedError:
    return SourceChangedError("checkpoint", where=f"'{path_text(source.path)}'", fact=fact)
