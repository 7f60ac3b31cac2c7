"""Which directories no event tells about, so that they must be looked at again and again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import psutil

# Kinds of file systems whose changes another machine (or the host of this one) can make without
# this kernel noticing, as psutil names them. `fuse.*` is tested by its prefix; `fuseblk` is a
# local disk (NTFS) and `overlay` a container's own root.
_REMOTE = frozenset(
    {
        "9p",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "drvfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "macfuse",
        "ncpfs",
        "nfs",
        "nfs4",
        "osxfuse",
        "prl_fs",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
        "webdav",
    }
)


def remote_mount(root: Path) -> str | None:
    """Return the kind of a network or host file system at, above or below ``root``.

    None when every change below it is made by this machine's own kernel, as far as its table of
    mounts tells; a directory that does not exist lies where its nearest parent does.
    """
    real = Path(os.path.realpath(root))
    mounts = {
        Path(part.mountpoint): _kind(part.fstype, part.opts)
        for part in psutil.disk_partitions(all=True)
    }
    holder = next((path for path in (real, *real.parents) if path in mounts), None)
    if holder is not None and _is_remote(mounts[holder]):
        return mounts[holder]
    below = (kind for path, kind in mounts.items() if real in path.parents)
    return next(filter(_is_remote, below), None)


def limit_sentence(root: Path, error: OSError) -> str:
    """Say why ``root`` is polled although events could reach it, and how to change that."""
    match error.errno:
        case errno.ENOSPC:
            fact = "the limit fs.inotify.max_user_watches is reached"
            todo = "raise it with 'sysctl fs.inotify.max_user_watches=1048576'"
        case errno.EMFILE:
            fact = "the limit fs.inotify.max_user_instances is reached"
            todo = "raise it with 'sysctl fs.inotify.max_user_instances=1024'"
        case _:
            fact, todo = f"the system refuses events ({error})", "nothing is missed, only later"
    return f"directory '{root}': {fact}, so it is polled; {todo}"


def remote_sentence(root: Path, kind: str) -> str:
    """Say that ``root`` is polled because of the file system it lies on."""
    return f"directory '{root}': events do not reach file system '{kind}', so it is polled"


def _kind(fstype: str, opts: str) -> str:
    return "smbfs" if "remote" in opts.split(",") else fstype  # so Windows tells network drives


def _is_remote(kind: str) -> bool:
    return kind.lower() in _REMOTE or kind.lower().startswith("fuse.")
