"""Files of `torch.save` of any age: `.pt`, `.pth`, `.bin`, `.ckpt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.torch_legacy import read_torch_legacy
from sentinel.formats.containers.torch_zip import pickle_in_zip, read_torch_zip
from sentinel.formats.containers.zip_directory import LOCAL_MAGIC
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.formats.containers.torch_objects import TorchFile

_TAR_BLOCK_BYTES = 512
_TAR_SUM = slice(148, 156)
_LOOKED_THROUGH = 1024 * 1024


def read_torch_file(path: Path, *, member: str | None = None) -> TorchFile:
    """Read what a file of `torch.save` says about itself; nothing in it is run.

    ``member`` is the file's name inside its checkpoint, its own name if not given. Raises
    TruncatedError when the file is cut short, UnsafePickleError when loading it would call
    something that no checkpoint needs, another InputError when it is no such file.
    """
    subject = f"file '{path_text(path)}'"
    name = path.name if member is None else member
    with open_regular(path) as (file, size_bytes):
        head = file.read(_TAR_BLOCK_BYTES)
        file.seek(0)
        if not head.strip(b"\0"):
            raise TruncatedError(
                subject,
                fact="is empty" if not size_bytes else "begins with zeros",
                todo="the write was cut short, or is still going on",
            )
        if head.startswith(LOCAL_MAGIC):
            return read_torch_zip(file, path, size_bytes, member=name)
        if _is_tar(head):
            raise InputError(
                subject,
                fact="is of torch before version 0.1.10, which sentinel does not read",
                todo="load and save it with a newer torch",
            )
        return read_torch_legacy(file, path, size_bytes, member=name)


def pickle_mentions(path: Path, text: bytes) -> bool | None:
    """Tell whether the pickle of a file of `torch.save` has some bytes in it, without reading it.

    Of a file of the older kind only the beginning is looked through. None when the file is no
    whole archive.
    """
    try:
        with open_regular(path) as (file, size_bytes):
            head = file.read(len(LOCAL_MAGIC))
            file.seek(0)
            if head == LOCAL_MAGIC:
                return text in pickle_in_zip(file, path, size_bytes)
            return text in file.read(_LOOKED_THROUGH)
    except InputError:
        return None


def _is_tar(head: bytes) -> bool:
    """Tell whether a file begins as a tar archive, also one of the oldest kind, without a magic.

    torch asks that first. The sum of the header's bytes stands in it, itself counted as spaces
    (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html).
    """
    digits = head[_TAR_SUM].split(b"\0")[0].strip()
    if len(head) != _TAR_BLOCK_BYTES or not digits.isdigit() or set(digits) & set(b"89"):
        return False
    blank = head[: _TAR_SUM.start] + b" " * 8 + head[_TAR_SUM.stop :]
    return int(digits, 8) == sum(blank)
