"""What whoever goes on with a copy has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.repairs.files.tensors_file import TensorsFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sentinel.checkpoint import Checkpoint
    from sentinel.receipt import CopyPlan
    from sentinel.repairs.files.actions import Action


_TENSORS = ".safetensors"
_AVERAGES = frozenset({"ema.pt", "ema_model.pt"})


def notes_of(plan: CopyPlan, checkpoint: Checkpoint, actions: Iterable[Action]) -> tuple[str, ...]:
    """Return the sentences for a plan."""
    return (*_notes(plan, checkpoint), *_metadata_notes(actions))


def _notes(plan: CopyPlan, checkpoint: Checkpoint) -> Iterator[str]:
    has_optimizer = any(member.part == "optimizer" for member in checkpoint.members)
    if plan.optimizer != "keep" and not has_optimizer:
        yield "no optimizer state lies in the original"
    if plan.cast == "fp16" and plan.optimizer == "keep" and has_optimizer:
        yield (
            "torch casts the kept moments to the parameters' own precision when it loads them, and"
            " in fp16 small second moments become zero: prefer --optimizer drop where the trainer"
            " keeps its parameters in fp16"
        )
    if plan.optimizer == "keep" and has_optimizer and plan.layout != "onetrainer-backup":
        yield (
            "the kept optimizer state brings its own settings back: a new learning rate takes"
            " effect with --optimizer drop only"
        )
    others = _not_cast(plan, checkpoint)
    if others:
        yield f"not cast, since they are no weights of the adapter: {', '.join(others)}"


def _metadata_notes(actions: Iterable[Action]) -> Iterator[str]:
    for action in actions:
        if isinstance(action, TensorsFile) and action.stale:
            yield (
                f"left out of the metadata of {action.file.path}, since it would be untrue:"
                f" {', '.join(action.stale)}"
            )


def _not_cast(plan: CopyPlan, checkpoint: Checkpoint) -> list[str]:
    """Return the files of tensors that a cast leaves alone: averages, embeddings, more models."""
    weights = {member.path for member in checkpoint.members if member.part == "weights"}
    return sorted(
        file.path
        for file in plan.files
        if plan.cast
        and file.how == "copied"
        and file.source not in weights
        and (file.source.endswith(_TENSORS) or file.source.rpartition("/")[2] in _AVERAGES)
    )
