"""What is not repaired, each with the reason: torn files, packed values, a cast that loses some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.dtypes import is_float
from sentinel.errors import RepairError
from sentinel.formats.opening import candidate_at
from sentinel.repairs.files.casting import CASTABLE
from sentinel.repairs.files.keeping import KEPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

    from sentinel.checkpoint import Checkpoint, Part, Tensor
    from sentinel.receipt import CastTo, Loss, OptimizerWish

_PACKED = frozenset({"U8", "I8", "U32", "I32"})
_SAME_WRAPPERS = frozenset({"accelerate-state", "sd-scripts-state"})
_MATRIX_AXES = 2
_WIDER = {"fp16": "bf16, which has the range of fp32, or fp32", "bf16": "fp32", "fp32": "none"}


def refuse_unknown(checkpoint: Checkpoint) -> None:
    """Refuse a layout that nobody here knows how to write."""
    if checkpoint.layout not in KEPT:
        around = checkpoint.path.parent
        candidate = candidate_at(around) if checkpoint.root != checkpoint.path else None
        if candidate is not None and candidate.layout in KEPT:
            _refuse(
                checkpoint,
                f"it is a part of a checkpoint of the layout '{candidate.layout}'",
                f"name its directory '{path_text(around)}'",
            )
        known = ", ".join(KEPT)
        _refuse(
            checkpoint,
            f"its layout '{checkpoint.layout}' is not rewritten",
            f"those that are: {known}",
        )


def refuse_broken(checkpoint: Checkpoint, optimizer: OptimizerWish) -> None:
    """Refuse a checkpoint that is not whole; a torn optimizer that is dropped does not matter."""
    for fault in checkpoint.faults:
        if fault.part == "optimizer" and optimizer == "drop":
            continue
        _refuse(checkpoint, f"it is not whole: {fault.message}", "")
    if checkpoint.complete is False:
        _refuse(
            checkpoint, "it is still being written, or its write was cut short", "try again later"
        )
    if not checkpoint.tensors:
        _refuse(checkpoint, "it holds no weights", "name one that does")


def refuse_sharded_state(checkpoint: Checkpoint) -> None:
    """Refuse any change where the trainer resumes from shards that hold the weights as well."""
    for member in checkpoint.members:
        is_inside = "/" in member.path and member.part == "optimizer"
        if is_inside and checkpoint.layout != "onetrainer-backup":
            _refuse(
                checkpoint,
                f"its trainer resumes from the shards in '{member.path.partition('/')[0]}', which"
                " are not rewritten",
                "copy the adapter's own files into a directory, and repair that",
            )


def refuse_cast(checkpoint: Checkpoint) -> None:
    """Refuse to cast weights that are packed, or in floats of eight bits and less."""
    for tensor in checkpoint.tensors:
        if is_float(tensor.dtype) and tensor.dtype not in CASTABLE:
            fact = f"'{tensor.name:.200}' is {tensor.dtype}, whose scale lies in other tensors"
            _refuse(checkpoint, f"cannot be cast: {fact}", "cast it with the tool that packed it")
        if _is_packed(tensor):
            fact = f"'{tensor.name:.200}' is packed ({tensor.dtype}), and a cast of its scales"
            _refuse(
                checkpoint,
                f"cannot be cast: {fact} would break it",
                "cast it with the tool that packed it",
            )
        if tensor.big_endian or tensor.pieces:
            _refuse(
                checkpoint,
                f"cannot be cast: '{tensor.name:.200}' lies in shards, or byte for byte the other"
                " way round",
                "consolidate it with its trainer's own tool",
            )


def refuse_same_wrappers(checkpoint: Checkpoint) -> None:
    """Refuse other keys where the loader puts the same wrappers around the model first."""
    if checkpoint.layout not in _SAME_WRAPPERS:
        return
    _refuse(
        checkpoint,
        "its keys are not renamed: accelerate loads them into the same wrappers again",
        "take the weights alone with --optimizer drop",
    )


def refuse_loss(checkpoint: Checkpoint, cast: CastTo, losses: Sequence[tuple[Part, Loss]]) -> None:
    """Refuse a cast that does not keep finite values, unless told; each loss is named."""
    told = [said for part, loss in losses for said in _losses(part, loss)]
    if told:
        _refuse(
            checkpoint,
            f"a cast to {cast} would lose values: {'; '.join(told)}",
            f"choose {_WIDER[cast]}, or accept that with --allow-loss",
        )


def share(count: int, of: int) -> str:
    """Return a share in per cent as people read it: never 0 % for something."""
    percent = 100 * count / of if of else 0.0
    return f"{percent:.2g} %" if percent < 1 else f"{percent:.1f} %"


def _losses(part: Part, loss: Loss) -> Iterable[str]:
    for count, first, becomes in (
        (loss.overflow_count, loss.first_overflow, "infinite"),
        (loss.underflow_count, loss.first_underflow, "zero"),
    ):
        if count:
            yield (
                f"{count} of {loss.value_count} in the {part} ({share(count, loss.value_count)})"
                f" would become {becomes}, first in '{first:.200}'"
            )


def _is_packed(tensor: Tensor) -> bool:
    is_matrix = len(tensor.shape) >= _MATRIX_AXES
    return tensor.dtype in _PACKED and is_matrix and tensor.role != "adapter"


def _refuse(checkpoint: Checkpoint, fact: str, todo: str) -> NoReturn:
    raise RepairError(f"checkpoint '{path_text(checkpoint.path)}'", fact=fact, todo=todo)
