"""The best checkpoint that a resume would look for and not find.

Transformers' Trainer keeps the path, the step and the metric of the best checkpoint so far in
`trainer_state.json`, protects it from its rotation, and loads it at the end if asked to. In 5.23
a resume forgets a path that is gone, but not the metric: only a better one is the best again. In
5.0 and before the path stays, the end loads nothing, and under `save_total_limit=1` it fails
(https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/trainer.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePath

from sentinel.errors import InputError
from sentinel.regular import open_file

STATE = "trainer_state.json"

_LONGEST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class LostBest:
    """The name of a best checkpoint that is not in its place, and its metric if one is told."""

    name: str
    metric: float | None

    def said(self) -> str:
        """Return the half sentence for a plan."""
        metric = "" if self.metric is None else f" ({self.metric:g})"
        return (
            f"its {STATE} names '{self.name}'{metric} as the best, which is not there any more:"
            " load_best_model_at_end then only finds what is better"
        )


def lost_best(checkpoint: Path, beside: Path) -> LostBest | None:
    """Return the best that a checkpoint names and that does not lie in the directory ``beside``.

    Only the name counts, since the path may be relative to where the trainer was started. None
    when nothing is named, it is there, or the file cannot be understood.
    """
    try:
        with open_file(checkpoint / STATE) as file:
            state = json.loads(file.read(_LONGEST_BYTES))
    except (OSError, InputError, ValueError, RecursionError):
        return None
    named = state.get("best_model_checkpoint") if isinstance(state, dict) else None
    name = PurePath(named).name if isinstance(named, str) else ""
    if not name or (beside / name).is_dir():
        return None
    metric = state.get("best_metric")
    is_number = isinstance(metric, int | float) and not isinstance(metric, bool)
    return LostBest(name, float(metric) if is_number else None)
