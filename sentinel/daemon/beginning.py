"""Where a trainer would begin by itself, before it is started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sentinel.daemon.journal import Judged
from sentinel.daemon.launching import RunSettings
from sentinel.daemon.repairing import step_order
from sentinel.repairs.recipes import chosen_checkpoint


def own_choice(settings: RunSettings, known: Sequence[Judged]) -> Judged | None:
    """Return the checkpoint that the user's command would begin from, None when it is unknown.

    ``known`` are the judged checkpoints that lie there.
    """
    recipe = settings.recipe
    if recipe is not None:
        named = chosen_checkpoint(recipe, settings.command, settings.cwd)
        if named is not None:
            same = (j for j in known if j.path == named or _real(j.path) == _real(named))
            return next(same, None)
        if not recipe.picks.latest:
            return None
    return max(known, key=step_order, default=None)


def _real(path: Path) -> str:
    return os.path.realpath(path)
