# ruff: noqa: ARG002 - the signatures are Transformers'
"""Deleting old checkpoints, but never the last good one.

Rotation that only counts deletes the last good checkpoint a few saves after the weights went
bad. So `sentinel scan` is asked, as a command: between the two only files and processes pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from .checkpoints import delete, numbered

Verdicts = Mapping[int, str] | None
"""Step -> what sentinel says of that checkpoint; None when nobody could be asked."""

_USABLE = frozenset({"healthy", "suspect"})
_TIMEOUT_S = 600


class Rotation(TrainerCallback):
    """Keep the newest ``keep`` checkpoints, and beyond them the newest that is usable."""

    def __init__(self, keep: int, judge: Callable[[Path], Verdicts] | None = None) -> None:
        self.keep = keep
        self.judge = judge or ask_sentinel
        self._said: set[str] = set()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Delete what is too old, after a checkpoint was written whole."""
        output_dir = Path(args.output_dir)
        found = numbered(output_dir)
        if not state.is_world_process_zero or len(found) <= self.keep:
            return
        if find_spec("sentinel") is None:
            self._say("sentinel is not installed: old checkpoints are deleted by their age alone")
            chosen = outdated(list(found), self.keep, dict.fromkeys(found, "healthy"))
        else:
            chosen = outdated(list(found), self.keep, self.judge(output_dir))
            if chosen is None:
                self._say("sentinel could not judge the checkpoints: none is deleted")
        for step in chosen or ():
            delete(found[step])

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            print(sentence, flush=True)


def outdated(steps: list[int], keep: int, verdicts: Verdicts) -> list[int] | None:
    """Return the steps to delete: all but the newest ``keep`` and the newest usable one.

    None when the verdicts are not known, or one of those that stay or go has none: what was
    not judged is neither called good nor deleted.
    """
    ordered = sorted(steps)
    if verdicts is None or not set(ordered) <= verdicts.keys():
        return None
    usable = [step for step in ordered if verdicts[step] in _USABLE]
    return [step for step in ordered[:-keep] if step not in usable[-1:]]


def ask_sentinel(output_dir: Path) -> Verdicts:
    """Return what `sentinel scan` says of each checkpoint in a directory."""
    found = {str(path): step for step, path in numbered(output_dir).items()}
    command = [sys.executable, "-m", "sentinel", "scan", "--format", "json", *found]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, paths as single words
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        judged = json.loads(done.stdout)["checkpoints"]
        return {found[each["path"]]: each["verdict"] for each in judged if each["path"] in found}
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return None
