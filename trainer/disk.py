"""Whether the disk has room for the checkpoints that a training is going to write."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import RefusedError
from .recipe import Recipe

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

_FULL_BYTES = 1 << 20
"""Less than this free after a failed write, and the disk is what it failed by."""


class DiskFullError(Exception):
    """A checkpoint did not fit; the command ends with exit code 4."""


@contextmanager
def telling_full_disk(directory: Path) -> Iterator[None]:
    """Raise DiskFullError for whatever a block raises because the disk below it is full.

    Python's own writes say so; torch's ("unexpected pos") and safetensors' only fail, so free
    room is looked at while the half-made checkpoint still lies there.
    """
    try:
        yield
    except Exception as error:
        said = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
        if not said and shutil.disk_usage(directory).free >= _FULL_BYTES:
            raise
        raise DiskFullError(
            f"disk full: a checkpoint does not fit into '{directory.parent}'; the last whole one "
            "stays: make room or set training.keep, then --resume it"
        ) from error


def checkpoints_to_come(recipe: Recipe, step: int) -> int:
    """Return how many checkpoints will lie there at once when ``step`` is done already.

    With rotation one more than is kept, since the oldest goes when the newest is whole.
    """
    training = recipe.training
    coming = -(-training.last_step // training.save_every) - step // training.save_every
    coming = max(0, coming)
    return coming if training.keep is None else min(coming, training.keep + 1)


def check_room(recipe: Recipe, step: int, checkpoint_bytes: int) -> str:
    """Return what the checkpoints to come will take, or refuse a disk without room for them."""
    count = checkpoints_to_come(recipe, step)
    needed = count * checkpoint_bytes
    place = Path(recipe.output_dir)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    words = f"{count} checkpoints of about {size_words(checkpoint_bytes)}"
    if needed > free:
        raise RefusedError(
            f"output_dir '{recipe.output_dir}'",
            f"{words} need {size_words(needed)}, {size_words(free)} are free",
            "set training.keep, a larger training.save_every, or another output_dir",
        )
    return f"{words}, {size_words(free)} free"


def size_words(size_bytes: float) -> str:
    """Return an amount of bytes in the largest unit that it reaches."""
    for unit, name in _UNITS:
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes:.0f} bytes"
