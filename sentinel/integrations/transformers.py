# ruff: noqa: ARG002 - the signatures are Transformers'
"""Inside Transformers' Trainer: every save is judged, and a faulty one ends the training.

    trainer = Trainer(..., callbacks=[SentinelCallback()])

Needs the extra `transformers`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from transformers import TrainerCallback

from sentinel.formats.naming import step_of_path
from sentinel.integrations.guard import Guard, Options, TrainingStopped
from sentinel.integrations.processes import is_first, told_by_first

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from sentinel.flow import Judgement

__all__ = ["SentinelCallback", "TrainingStopped"]


class SentinelCallback(TrainerCallback):
    """Judge each checkpoint the Trainer saves, and stop at the first on which sentinel acts.

    The Trainer calls `on_save` when the checkpoint is whole: `trainer_state.json` is written
    last, then old ones are rotated away
    (https://github.com/huggingface/transformers/blob/main/src/transformers/trainer.py).

    A stopped training ends with `TrainingStopped`, a SystemExit with code 76, where `train()`
    would return: the script saves and uploads nothing more, and its job does not pass for a
    success. With ``on_stop="return"`` `train()` returns and the script looks at ``exit_code``.
    The options are those of `sentinel.integrations.guard.Guard`.

    With several processes rank 0 judges and torch.distributed tells the others.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._guard = Guard(**options)

    @property
    def exit_code(self) -> int:
        """Return 76 when the training was stopped, 70 when its last save is no good, else 0."""
        return self._guard.exit_code

    @property
    def judgement(self) -> Judgement | None:
        """Return what was said of the newest checkpoint; on rank 0 only."""
        return self._guard.judgement

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Open the record, and look at the checkpoint that the training goes on from."""
        self._guard.renew()
        if is_first():
            output = Path(args.output_dir or ".")
            resumed_from = self._guard.harmless(_resumed_from, args, state, otherwise=None)
            self._guard.begin(output, output, resumed_from)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl | None:
        """Judge the checkpoint that was just saved; on every process or on none it stops."""
        path = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
        if not self._guard.heard(told_by_first(lambda: self._guard.saved(path))):
            return None
        control.should_training_stop = True
        return control

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Close the record; raises TrainingStopped when the training was stopped."""
        self._guard.end()


def _resumed_from(args: TrainingArguments, state: TrainerState) -> Path | None:
    """Return the checkpoint a resumed training begins from, if it can be told.

    What `train(resume_from_checkpoint=...)` was given is not passed on to callbacks, only what
    the script was; else it is almost always the one of this step in the output directory.
    """
    step, given = state.global_step, args.resume_from_checkpoint
    if not step:
        return None
    if isinstance(given, str) and step_of_path(Path(given)) == step:
        return Path(given)
    return Path(args.output_dir or ".") / f"checkpoint-{step}"
