"""A safetensors file written anew: other dtypes, other keys, the values streamed block by block.

The tensors lie in the order that the reference writer gives them (by dtype, the widest first, then
by name), so that each begins at a multiple of its width
(https://github.com/huggingface/safetensors, `prepare` in safetensors/src/tensor.rs).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentinel.dtypes import DTYPES
from sentinel.formats.containers.safetensors import LENGTH_BYTES, HeaderTensor
from sentinel.receipt import Loss, NewFile
from sentinel.repairs.files import hashes
from sentinel.repairs.files.actions import BLOCK_BYTES
from sentinel.repairs.files.casting import cast, is_exact, lost
from sentinel.stats.reading import MemberFile

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_ALIGNMENT = 8
_PLACES = {name: place for place, name in enumerate(DTYPES)}


@dataclass(frozen=True, slots=True)
class NewTensor:
    """One tensor of the new file: where its values lie now, its new key and dtype."""

    source: HeaderTensor
    name: str
    dtype: str

    @property
    def numel(self) -> int:
        """Return the number of its values."""
        return self.source.size_bytes * 8 // DTYPES[self.source.dtype].bits

    @property
    def size_bytes(self) -> int:
        """Return the bytes of its values in the new file."""
        return self.numel * DTYPES[self.dtype].bits // 8


def in_order(tensors: Iterable[NewTensor]) -> tuple[NewTensor, ...]:
    """Return tensors as the reference writer puts them one behind the other."""
    return tuple(sorted(tensors, key=lambda one: (-_PLACES[one.dtype], one.name)))


def header_bytes(tensors: Iterable[NewTensor], metadata: Mapping[str, str]) -> bytes:
    """Return the header with its length before it, padded to a multiple of eight bytes."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for tensor in tensors:
        end = at + tensor.size_bytes
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.source.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def loss_of(path: Path, tensors: Iterable[NewTensor]) -> Loss:
    """Return what the casts of a file's tensors do not keep; reads the values once.

    Raises ChangedWhileReadError or UnreadableError.
    """
    total = Loss()
    buffer = np.empty(BLOCK_BYTES, np.uint8)
    with MemberFile(path) as original:
        for tensor in tensors:
            source = tensor.source
            if is_exact(source.dtype, tensor.dtype):
                continue
            for block in original.blocks(source.offset, source.size_bytes, buffer):
                found = lost(
                    block, cast(block, source.dtype, tensor.dtype), source.dtype, tensor.dtype
                )
                total += named(found, source.name)
    return total


def named(loss: Loss, tensor: str) -> Loss:
    """Return a loss that says in which tensor it was found."""
    return Loss(
        loss.value_count,
        loss.overflow_count,
        loss.underflow_count,
        tensor if loss.overflow_count else "",
        tensor if loss.underflow_count else "",
    )


@dataclass(frozen=True, slots=True)
class TensorsFile:
    """A safetensors file with other dtypes or keys; tensors as `in_order` gives them.

    ``stale`` are keys of the original's metadata that are left out.
    """

    file: NewFile
    tensors: tuple[NewTensor, ...]
    metadata: Mapping[str, str]
    stale: tuple[str, ...] = ()

    def write(self, root: Path, out: BinaryIO, made: Mapping[str, int]) -> None:  # noqa: ARG002 - the protocol
        """Write header and values, and put in the digests that the metadata carries of them."""
        header = header_bytes(self.tensors, self.metadata)
        out.write(header)
        buffer = np.empty(BLOCK_BYTES, np.uint8)
        with MemberFile(root / self.file.source) as original:
            for tensor in self.tensors:
                source = tensor.source
                out.writelines(
                    cast(block, source.dtype, tensor.dtype).data
                    for block in original.blocks(source.offset, source.size_bytes, buffer)
                )
        if hashes.CARRIED & self.metadata.keys():
            told = {key: text for key, text in self.metadata.items() if key.startswith("ss_")}
            metadata = hashes.renewed(
                self.metadata, out, len(header), len(header_bytes(self.tensors, told))
            )
            out.seek(0)
            out.write(header_bytes(self.tensors, metadata))
            out.seek(0, 2)
