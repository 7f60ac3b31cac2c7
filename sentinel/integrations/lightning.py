# ruff: noqa: ARG002 - the signatures are Lightning's
"""Inside Lightning's Trainer: what its ModelCheckpoint saves is judged.

    trainer = Trainer(..., callbacks=[SentinelCallback()])

Works with `lightning` and with `pytorch_lightning`, whichever the script has imported. Needs the
extra `lightning`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sentinel.checkpoint import Identity
from sentinel.daemon.candidates import identity_or_own
from sentinel.formats.opening import candidate_at, stat_members
from sentinel.integrations.guard import Guard, Options, TrainingStopped
from sentinel.integrations.processes import told_by_first

# Each Trainer takes callbacks of its own distribution only.
if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from sentinel.flow import Judgement
elif "pytorch_lightning" in sys.modules:
    from pytorch_lightning import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:
        from pytorch_lightning import Callback

__all__ = ["SentinelCallback", "TrainingStopped"]


class SentinelCallback(Callback):
    """Judge each checkpoint that a ModelCheckpoint saved, and stop at the first faulty one.

    Lightning tells no callback that a file has been written, only that one will be; so a save
    is looked for at the next thing that happens, which is the next batch or the end of the fit.
    A stop is ``trainer.should_stop``: it waits for `min_epochs` and `min_steps`. ``on_stop``
    and the other arguments are as in `sentinel.integrations.transformers`.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self._guard = Guard(**options)
        self._saving = False
        self._named: tuple[str, ...] = ()
        self._seen: dict[Path, Identity] = {}
        self._resumed_from: Path | None = None

    @property
    def exit_code(self) -> int:
        """Return 76 when the training was stopped, 70 when its last save is no good, else 0."""
        return self._guard.exit_code

    @property
    def judgement(self) -> Judgement | None:
        """Return what was said of the newest checkpoint; on rank 0 only."""
        return self._guard.judgement

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note what lies there already, and what the training goes on from."""
        self._guard.renew()
        self._guard.harmless(self._begin, trainer, otherwise=None)

    def _begin(self, trainer: Any) -> None:
        self._resumed_from = Path(trainer.ckpt_path) if trainer.ckpt_path else None
        self._saving, self._named = False, _names(trainer)
        self._seen = {path: _lying(path) for path in map(Path, self._named)}

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        """Note that a file is about to be written."""
        self._saving = True

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judge what was saved since the batch before."""
        self._look(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Judge the last save; raises TrainingStopped when the training was stopped."""
        self._look(trainer)
        self._guard.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Let the run go."""
        self._guard.close()

    def _look(self, trainer: Any) -> None:
        # Both are the same on every process, so all of them look or none does.
        named = self._guard.harmless(_names, trainer, otherwise=self._named)
        if not self._saving and named == self._named:
            return
        self._saving, self._named = False, named
        if self._guard.heard(told_by_first(lambda: self._judged_harmlessly(named))):
            trainer.should_stop = True

    def _judged_harmlessly(self, named: Sequence[str]) -> bool:
        return self._guard.harmless(self._judged, named, otherwise=self._guard.stopped)

    def _judged(self, named: Sequence[str]) -> bool:
        """Judge the new save; several since the last batch are one state under several names."""
        lying = {path: _lying(path) for path in map(Path, named)}
        new = [path for path, lies in lying.items() if lies and lies != self._seen.get(path)]
        self._seen = lying
        return self._guard.saved(new[0], self._resumed_from) if new else self._guard.stopped


def _names(trainer: Any) -> tuple[str, ...]:
    """Return what the Trainer's ModelCheckpoints say they keep; `last` and bare weights last."""
    names: dict[str, None] = {}
    saving = trainer.checkpoint_callbacks
    for callback in sorted(saving, key=lambda one: bool(getattr(one, "save_weights_only", False))):
        kept = getattr(callback, "best_k_models", {})
        best, last = (getattr(callback, f"{one}_model_path", "") for one in ("best", "last"))
        names |= dict.fromkeys(str(name) for name in (*kept, best, last) if name)
    return tuple(names)


def _lying(path: Path) -> Identity:
    candidate = candidate_at(path)
    return identity_or_own(path, stat_members(path, candidate.layout)) if candidate else ()
