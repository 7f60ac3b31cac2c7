# ruff: noqa: ARG002 - the signatures are Transformers'
"""What listens to Transformers' training loop: the metrics file, the counts, the stop signal."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from .processes import Processes

_METRICS = ("loss", "grad_norm", "learning_rate", "eval_loss")
_FIGURES = ("tokens", "tokens_per_s", "eta_s", "memory_bytes")


class MetricsFile(TrainerCallback):
    """Append one JSON line a log to `metrics.jsonl`; a resumed run goes on in the same file.

    A value that JSON can't hold becomes null and is named in `non_finite`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Write the line."""
        if not state.is_world_process_zero:
            return
        given = logs or {}
        numbers = {key: float(given[key]) for key in _METRICS if key in given}
        if not {"loss", "eval_loss"} & numbers.keys():
            return  # the closing summary, not a log
        finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        line: dict[str, Any] = {"step": state.global_step, "epoch": state.epoch} | finite
        line |= {key: given[key] for key in _FIGURES if key in given}
        if None in finite.values():
            line["non_finite"] = [key for key, value in finite.items() if value is None]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"time": time.time()}) + "\n")


class UpdateCount(TrainerCallback):
    """Count the optimizer steps with a learning rate above zero; None stays unknown."""

    def __init__(self, before: int | None, *, estimates_rate: bool) -> None:
        self.done = before
        self.estimates_rate = estimates_rate

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        """Count the step just made; the scheduler has not moved on yet."""
        if getattr(optimizer, "step_was_skipped", False):
            return  # the gradient scaler met an overflow
        moved = self.estimates_rate or any(group["lr"] > 0 for group in optimizer.param_groups)
        if self.done is not None and moved:
            self.done += 1


class Intervals(TrainerCallback):
    """Make the recipe's intervals count after a resume, where Transformers takes the saved ones."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the intervals of this start over those of the checkpoint's trainer_state.json."""
        state.compute_steps(args, state.max_steps)


class EvaluationStopped(Exception):  # noqa: N818 - a signal, not an error
    """An evaluation was left because the training has to end."""


class StopSignal(TrainerCallback):
    """End the training after the current step, with a checkpoint, when a signal came.

    An evaluation is left at once: who sent the signal will not wait for it. ``received`` is the
    first signal's number; a second signal has its usual effect, unless there are several
    processes: a launcher passes on what they got already. They stop at the same step, whichever
    got the signal. ``done`` gets the number of every finished step.
    """

    def __init__(self, done: list[int], processes: Processes) -> None:
        self.received: int | None = None
        self.done = done
        self.processes = processes

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the step; after a signal ask for a checkpoint and the end."""
        self.done[:] = [state.global_step]
        self._agree()
        if self.received is not None and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the evaluation after a signal."""
        self._agree()
        if self.received is not None:
            raise EvaluationStopped

    def _agree(self) -> None:
        """Take a signal that any process got for this one's."""
        self.received = self.processes.largest(self.received or 0) or None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT inside the block; only possible in the main thread."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def receive(number: int, _: FrameType | None) -> None:
            self.received = number
            if self.processes.count == 1:
                for each, handler in before.items():
                    signal.signal(each, handler)

        for number in before:
            signal.signal(number, receive)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
