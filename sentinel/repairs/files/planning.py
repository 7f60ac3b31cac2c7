"""From a checkpoint and what is asked for to the files of a copy; nothing is written.

The values are read once where a cast could lose some of them, so that the plan says what it costs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import ConfigError
from sentinel.receipt import CopyPlan, DTypeChange
from sentinel.repairs.files import refusing
from sentinel.repairs.files.contents import contents_of
from sentinel.repairs.files.keeping import KEPT
from sentinel.repairs.files.keys import KeyRules, new_keys
from sentinel.repairs.files.making import Making, Wish
from sentinel.repairs.files.notes import notes_of
from sentinel.repairs.files.places import check_target, default_target
from sentinel.repairs.files.torch_archive import TorchArchive

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Part
    from sentinel.receipt import CastTo, OptimizerWish
    from sentinel.repairs.files.actions import Action

NO_RULES = KeyRules()


@dataclass(frozen=True, slots=True)
class Preparation:
    """A plan, the checkpoint it is about, and what is done for each file, in order."""

    plan: CopyPlan
    checkpoint: Checkpoint
    actions: tuple[Action, ...]


def prepare(
    checkpoint: Checkpoint,
    to: Path | None = None,
    *,
    cast: CastTo | None = None,
    optimizer: OptimizerWish = "keep",
    rename: KeyRules = NO_RULES,
    allow_loss: bool = False,
) -> Preparation:
    """Return how a copy of a checkpoint would be made.

    ``to`` is the new checkpoint's path, None for a free place beside its trainer's directory.
    Raises RepairError when the checkpoint cannot be written anew, when two keys would be one, or
    when a cast would lose finite values and ``allow_loss`` does not accept that; ConfigError for
    a wish that contradicts itself; InputError when its files cannot be read any more.
    """
    _refuse(checkpoint, cast, optimizer, rename)
    keeping = KEPT[checkpoint.layout]
    target = default_target(checkpoint, keeping) if to is None else to.absolute()
    check_target(checkpoint, keeping, target)
    wish = Wish(cast, optimizer, new_keys(checkpoint.tensors, rename) if rename else {})
    contents = contents_of(checkpoint, keeping, optimizer)
    making = Making(checkpoint, target.name, wish)
    actions = making.actions(contents.files)
    losses = making.losses(actions) if cast is not None else ()
    if cast is not None and not allow_loss:
        refusing.refuse_loss(checkpoint, cast, losses)
    plan = CopyPlan(
        source=checkpoint.path.absolute(),
        layout=checkpoint.layout,
        trainer=checkpoint.trainer,
        step=checkpoint.step,
        target=target,
        is_directory=checkpoint.root == checkpoint.path,
        cast=cast,
        optimizer=optimizer,
        files=tuple(action.file for action in actions),
        left_out=contents.left_out,
        dtypes=_dtypes(actions, checkpoint, wish),
        renamed=tuple(sorted(wish.keys.items())),
        losses=losses,
        go_on=keeping.how_to_go_on(optimizer).format(path=path_text(target)),
    )
    noted = replace(plan, notes=notes_of(plan, checkpoint, actions))
    return Preparation(noted, checkpoint, actions)


def _refuse(
    checkpoint: Checkpoint, cast: CastTo | None, optimizer: OptimizerWish, rename: KeyRules
) -> None:
    """Refuse what can be told from headers alone."""
    if optimizer == "cast" and cast is None:
        raise ConfigError(
            "the optimizer's state", fact="cannot be cast to nothing", todo="name --cast too"
        )
    refusing.refuse_unknown(checkpoint)
    refusing.refuse_broken(checkpoint, optimizer)
    if cast is not None or optimizer == "drop" or rename:
        refusing.refuse_sharded_state(checkpoint)
    if cast is not None:
        refusing.refuse_cast(checkpoint)
    if rename and optimizer != "drop":
        refusing.refuse_same_wrappers(checkpoint)


def _dtypes(
    actions: tuple[Action, ...], checkpoint: Checkpoint, wish: Wish
) -> tuple[DTypeChange, ...]:
    """Return how many tensors of the weights go from which dtype to which, and of the moments."""
    tensors: Counter[tuple[Part, str, str]] = Counter()
    values: Counter[tuple[Part, str, str]] = Counter()
    for tensor in checkpoint.tensors:
        kind: tuple[Part, str, str] = ("weights", tensor.dtype, wish.dtype_of(tensor))
        tensors[kind] += 1
        values[kind] += tensor.numel
    optimizers = {member.path for member in checkpoint.members if member.part == "optimizer"}
    for action in actions:
        if not isinstance(action, TorchArchive) or action.file.source not in optimizers:
            continue
        for storage in action.storages:
            kind = ("optimizer", storage.before, storage.after)
            tensors[kind] += 1
            values[kind] += storage.value_count
    return tuple(DTypeChange(*kind, tensors[kind], values[kind]) for kind in tensors)
