"""Files that are long enough and whose end was never written.

After a crash some file systems keep a file's length without the data of its last blocks, which
then read as zeros. Such a file begins right and is zero from one place on, a place that knows
nothing of tensors and rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from sentinel.checkpoint import Fault, path_text
from sentinel.dtypes import BLOCKS, DTYPES, is_float
from sentinel.stats.reading import MemberFiles

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint, Tensor
    from sentinel.stats.measure import Measured
    from sentinel.stats.reading import MemberFile

SECTOR_BYTES = 512
"""The smallest piece that a disk writes: less is not lost in a torn write."""

PAGE_BYTES = 4096
"""What file systems keep or lose in one piece."""

_BLOCK_BYTES = 64 * 1024
_RANDOM_ROLES = frozenset({"lora_down", "lora_mid", "magnitude"})


def zero_tails(checkpoint: Checkpoint, measured: Measured) -> tuple[Fault, ...]:
    """Return a fault for each safetensors or GGUF file whose end reads as if never written.

    Rows and tensors of zeros have other causes too, and rules of their own. So the zeros must
    reach over more than a row of a float tensor and begin inside a row, or where a page of the
    file begins, or go on over a tensor that no initialisation sets to zero. Of the values only
    those of the torn tensor are read again, from its end. Raises as
    reading does.
    """
    columns = measured.tensors.select(["tensor", "numel", "zero_count"]).to_pydict()
    zeros = {
        name
        for name, numel, count in zip(*columns.values(), strict=True)
        if count is not None and count == numel
    }
    ends: dict[str, list[Tensor]] = {}
    # Of a file of chunks the last tensor is not the last thing in it.
    sharded = {piece.member for tensor in checkpoint.tensors for piece in tensor.pieces}
    for tensor in checkpoint.tensors:
        is_laid = tensor.member.endswith((".safetensors", ".gguf"))
        if is_laid and tensor.member not in sharded:
            ends.setdefault(tensor.member, []).append(tensor)
    with MemberFiles(checkpoint) as files:
        found = (_zero_tail(tensors, zeros, files) for tensors in ends.values())
        return tuple(fault for fault in found if fault is not None)


def _zero_tail(tensors: Iterable[Tensor], zeros: set[str], files: MemberFiles) -> Fault | None:
    lost: list[Tensor] = []
    for tensor in sorted(tensors, key=lambda one: one.offset, reverse=True):
        if not tensor.numel:
            continue
        if tensor.name in zeros:
            lost.append(tensor)
            continue
        return _torn(tensor, lost, files.open(tensor.member))
    return None


def _torn(tensor: Tensor, lost: list[Tensor], file: MemberFile) -> Fault | None:
    """Return the fault when zeros begin in the middle of a row of ``tensor``."""
    row_bytes = _row_bytes(tensor)
    if row_bytes is None:
        return None
    tail_bytes = _zero_bytes_at_end(tensor, file)
    if tensor.dtype in BLOCKS:
        # The last codes of a block are often zero, and prove nothing.
        tail_bytes -= tail_bytes % BLOCKS[tensor.dtype].size_bytes
    begin = tensor.offset + tensor.size_bytes - tail_bytes
    total = tail_bytes + sum(one.size_bytes for one in lost)
    if total < SECTOR_BYTES or not _is_torn(row_bytes, tail_bytes, begin, lost):
        return None
    member = path_text(tensor.member)
    after = f", as is all of the {len(lost)} after it" if lost else ""
    return Fault(
        rule="zero-filled-tail",
        part="weights",
        member=tensor.member,
        message=(
            f"tensor '{tensor.name}' in '{member}': is zero from byte {begin} on{after}, {total}"
            " bytes up to the end of the file, which were probably lost in a crash while it was"
            " written; take the checkpoint before it"
        ),
    )


def _row_bytes(tensor: Tensor) -> int | None:
    """Return the bytes of a row of floats, None of anything else."""
    if not tensor.shape:
        return None
    if tensor.dtype in BLOCKS:
        block = BLOCKS[tensor.dtype]
        return tensor.shape[-1] // block.elements * block.size_bytes
    if not is_float(tensor.dtype) or DTYPES[tensor.dtype].bits % 8:
        return None
    return tensor.shape[-1] * DTYPES[tensor.dtype].bits // 8


def _is_torn(row_bytes: int, tail_bytes: int, begin: int, lost: Iterable[Tensor]) -> bool:
    in_a_row = tail_bytes % row_bytes != 0
    if tail_bytes <= row_bytes:
        # The last columns of a rank that was made smaller are as short as this.
        return in_a_row and tail_bytes >= PAGE_BYTES
    random = any(one.role in _RANDOM_ROLES and not one.zero_at_init for one in lost)
    return in_a_row or random or begin % PAGE_BYTES == 0


def _zero_bytes_at_end(tensor: Tensor, file: MemberFile) -> int:
    """Count the zero bytes a tensor ends with, reading backwards."""
    end = tensor.size_bytes
    while end:
        start = max(0, end - _BLOCK_BYTES)
        written = np.flatnonzero(file.read(tensor.offset + start, end - start))
        if written.size:
            return tensor.size_bytes - (start + int(written[-1]) + 1)
        end = start
    return tensor.size_bytes
