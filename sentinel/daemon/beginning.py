"""Where a trainer would begin by itself, before it is started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sentinel.daemon.journal import Judged
from sentinel.daemon.launching import RunSettings
from sentinel.daemon.repairing import step_order
from sentinel.repairs.plan import Plan


def own_choice(settings: RunSettings, known: Sequence[Judged]) -> Judged | None:
    """Return the checkpoint that the user's command would begin from, None when it is unknown.

    ``known`` are the judged checkpoints that lie there.
    """
    begins = settings.asked.begins
    if isinstance(begins, Path):
        same = (j for j in known if j.path == begins or _real(j.path) == _real(begins))
        return next(same, None)
    if settings.recipe is not None and begins is None:
        return None
    output = settings.asked.output
    if output is not None:  # what lies in a repair's fresh directory is not in the trainer's own
        own = Path(_real(output))
        known = [judged for judged in known if Path(_real(judged.path)).is_relative_to(own)]
    return max(known, key=step_order, default=None)


def is_gone(plan: Plan) -> bool:
    """Tell whether what a plan begins from is not there any more, nor its copy."""
    places = (plan.target_path, plan.output if plan.copy else None)
    return plan.target_path is not None and not any(map(os.path.lexists, filter(None, places)))


def _real(path: Path) -> str:
    return os.path.realpath(path)
