"""From what the user named to the one checkpoint that is meant."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint


def open_single(path: Path) -> Checkpoint:
    """Open the checkpoint at a path, or the only one below it.

    Raises ConfigError when there is none or more than one.
    """
    from sentinel.formats.opening import candidate_at, discover, open_checkpoint

    if candidate_at(path) is not None:
        return open_checkpoint(path)
    found = list(islice(discover(path), 2))
    if not found:
        raise ConfigError(f"path '{path_text(path)}'", fact="holds no checkpoint", todo="name one")
    if len(found) > 1:
        raise ConfigError(
            f"path '{path_text(path)}'",
            fact="holds more than one checkpoint",
            todo=f"name one, such as '{path_text(found[0].path)}'",
        )
    return open_checkpoint(found[0].path)


def refuse_torn(checkpoint: Checkpoint) -> None:
    """Raise InputError when the weights cannot be read, or not to their end."""
    for fault in checkpoint.faults:
        if fault.part == "weights":
            raise InputError(
                f"checkpoint '{path_text(checkpoint.path)}'",
                fact=f"cannot be compared, since its weights are damaged: {fault.message}",
            )
    if not checkpoint.tensors:
        raise InputError(
            f"checkpoint '{path_text(checkpoint.path)}'",
            fact="has no tensors that could be compared",
            todo="name one whose weights can be read",
        )
