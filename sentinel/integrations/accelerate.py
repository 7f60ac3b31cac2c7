"""Inside a training loop of your own, with Accelerate or with plain torch.

    with guard() as check:
        for step, batch in enumerate(loader):
            ...
            if step % 500 == 0:
                accelerator.save_state(f"out/checkpoint-{step}")
                check(f"out/checkpoint-{step}")

Nothing of Accelerate is needed but the process group of torch.distributed that it sets up.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from sentinel.integrations.guard import Guard, Options, TrainingStopped
from sentinel.integrations.processes import told_by_first

if TYPE_CHECKING:
    from sentinel.flow import Judgement

__all__ = ["Check", "TrainingStopped", "guard"]


def guard(*, resumed_from: str | Path | None = None, **options: Unpack[Options]) -> Check:
    """Return a check to be called with the path of each save, while its `with` block lasts.

    ``resumed_from`` is the checkpoint that the loop goes on from: the history of the first
    save. The options are those of `sentinel.integrations.guard.Guard`.
    """
    return Check(Guard(**options), None if resumed_from is None else Path(resumed_from))


class Check:
    """Judges each save of one training loop; `guard` makes it."""

    def __init__(self, known: Guard, resumed_from: Path | None) -> None:
        self._guard = known
        self._resumed_from = resumed_from

    def __call__(self, path: str | Path) -> bool:
        """Judge what was just saved; tell whether the loop must stop.

        With several processes each of them must call this after the save, so outside
        `if accelerator.is_main_process:`. They wait for each other, rank 0 judges. With
        ``on_stop`` "exit" a stop raises TrainingStopped instead, on every process.
        """
        must_stop = told_by_first(lambda: self._guard.saved(path, self._resumed_from))
        if self._guard.heard(must_stop):
            self._guard.end()
        return must_stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._guard.close()

    @property
    def exit_code(self) -> int:
        """Return 76 when the loop was stopped, 70 when its last save is no good, else 0."""
        return self._guard.exit_code

    @property
    def judgement(self) -> Judgement | None:
        """Return what was said of the newest checkpoint; on rank 0 only."""
        return self._guard.judgement
