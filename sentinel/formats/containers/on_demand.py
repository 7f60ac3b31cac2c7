"""Readers of the containers that most adapters are not in, imported when a file of one is met.

What tells such a file by its name stands here too, so that looking at names imports nothing: of a
scan of one safetensors file every third module would be a reader that it has no use for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sentinel.checkpoint import Tensor
    from sentinel.formats.containers.dcp_items import ItemFile
    from sentinel.formats.containers.dcp_metadata import DistributedMetadata
    from sentinel.formats.containers.gguf import GgufFile
    from sentinel.formats.containers.tfevents import Events
    from sentinel.formats.containers.torch_objects import TorchFile

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
PICKLE_SUFFIX = ".pkl"
NUMPY_SUFFIXES = (".npz", ".npy")
GGUF_SUFFIX = ".gguf"
DCP_METADATA = ".metadata"
EVENTS_PREFIX = "events.out.tfevents."
"""How the name of a TensorBoard file begins; the time of its creation (seconds) comes next."""


def read_torch_file(path: Path, *, member: str | None = None) -> TorchFile:
    """Read a file of `torch.save`, see `torch_file.read_torch_file`."""
    from sentinel.formats.containers import torch_file  # noqa: PLC0415 - only where one is met

    return torch_file.read_torch_file(path, member=member)


def pickle_mentions(path: Path, text: bytes) -> bool | None:
    """Tell whether a pickle holds a text, see `torch_file.pickle_mentions`."""
    from sentinel.formats.containers import torch_file  # noqa: PLC0415 - only where one is met

    return torch_file.pickle_mentions(path, text)


def read_pickle_file(path: Path, *, member: str | None = None) -> TorchFile:
    """Read a plain pickle, see `plain_pickle.read_pickle_file`."""
    from sentinel.formats.containers import plain_pickle  # noqa: PLC0415 - only where one is met

    return plain_pickle.read_pickle_file(path, member=member)


def read_dcp_metadata(path: Path) -> DistributedMetadata:
    """Read what names every chunk, see `dcp_metadata.read_dcp_metadata`."""
    from sentinel.formats.containers import dcp_metadata  # noqa: PLC0415 - only where one is met

    return dcp_metadata.read_dcp_metadata(path)


def open_items(path: Path, member: str) -> AbstractContextManager[ItemFile]:
    """Open a file of chunks, see `dcp_items.open_items`."""
    from sentinel.formats.containers import dcp_items  # noqa: PLC0415 - only where one is met

    return dcp_items.open_items(path, member)


def read_numpy_file(path: Path, *, member: str | None = None) -> tuple[Tensor, ...]:
    """Read the headers of NumPy's files, see `npz.read_numpy_file`."""
    from sentinel.formats.containers import npz  # noqa: PLC0415 - only where one is met

    return npz.read_numpy_file(path, member=member)


def read_gguf(path: Path, *, member: str | None = None) -> GgufFile:
    """Read the header of a GGUF file, see `gguf.read_gguf`."""
    from sentinel.formats.containers import gguf  # noqa: PLC0415 - only where one is met

    return gguf.read_gguf(path, member=member)


def read_events(path: Path) -> Events:
    """Read a TensorBoard file, see `tfevents.read_events`."""
    from sentinel.formats.containers import tfevents  # noqa: PLC0415 - only where one is met

    return tfevents.read_events(path)
