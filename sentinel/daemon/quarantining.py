"""Moving an attempt's faulty checkpoints out of the trainer's reach, each move an intent first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sentinel.daemon.candidates import identity_or_own
from sentinel.daemon.journal import Action, Attempt, Journal, Judged
from sentinel.daemon.telling import Teller
from sentinel.errors import RepairError
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.quarantine import Quarantine, move, quarantine_place


class Quarantiner:
    """The moves of one run.

    ``shared`` names the file beside the saves, if this trainer keeps one, that belongs to the
    newest of them: it goes where that goes, else a later start would load it with an older save.
    """

    def __init__(
        self,
        *,
        run_id: str,
        roots: Sequence[Path],
        journal: Journal,
        teller: Teller,
        shared: str = "",
    ) -> None:
        self._run_id = run_id
        self._roots = tuple(roots)
        self._journal = journal
        self._teller = teller
        self._shared = shared

    def move_away(self, attempt: Attempt, faulty: Iterable[Judged]) -> None:
        """Move the checkpoints with a grave content finding out of the trainer's reach."""
        for judged in faulty:
            if judged.target:
                continue
            if judged.quarantined_to is None:
                self._move(attempt, judged, judged.path, judged.checkpoint_id, {})
            shared = judged.path.parent / self._shared if self._shared else None
            if shared is not None and shared.is_file() and self._is_newest(attempt, judged):
                key = f"{judged.checkpoint_id}-{self._shared}"
                self._move(attempt, judged, shared, key, {"shared": _written(shared)})

    def finish(self) -> None:
        """Carry out what was begun before a kill; the trainer must not be alive."""
        for action in self._journal.open_actions(self._run_id, "quarantine"):
            self._carry_out(action)

    def _move(
        self, attempt: Attempt, judged: Judged, path: Path, key: str, more: Mapping[str, object]
    ) -> None:
        place = quarantine_place(path, self._outermost(path), key)
        detail = {
            "source": str(place.source),
            "place": str(place.place),
            "attempt": attempt.attempt,
            "checkpoint_id": judged.checkpoint_id,
            "rules": [found.rule for found in judged.findings],
            "reason": judged.findings[0].message if judged.findings else "",
            **more,
        }
        action = self._journal.intend(self._run_id, "quarantine", key, detail)
        if action.state == "intent":
            self._carry_out(action)

    def _is_newest(self, attempt: Attempt, judged: Judged) -> bool:
        """Tell whether the attempt saved nothing later in the same directory."""
        saved = self._journal.judged(self._run_id, attempt.attempt)
        beside = [one.seq for one in saved if one.path.parent == judged.path.parent]
        return judged.seq == max(beside, default=judged.seq)

    def _outermost(self, checkpoint: Path) -> Path:
        """Return the outermost of the trainer's directories that a checkpoint lies in."""
        around = [root for root in self._roots if checkpoint.is_relative_to(root)]
        return min(around or self._roots, key=lambda root: len(root.parts))

    def _carry_out(self, action: Action) -> None:
        detail = action.detail
        source, place = Path(str(detail["source"])), Path(str(detail["place"]))
        checkpoint_id = str(detail["checkpoint_id"])
        is_shared = "shared" in detail
        try:
            self._refuse_another(source, checkpoint_id, detail.get("shared"))
            move(Quarantine(source, place), detail)
        except RepairError as error:
            self._journal.done(action, {"failed": str(error)})
            message = str(error)
        else:
            if not is_shared:
                self._journal.quarantined(checkpoint_id, place)
            self._journal.done(action)
            message = f"quarantined '{source.name}' to '{place}'"
        self._teller.tell(
            "action",
            message,
            attempt=int(str(detail["attempt"])),
            about=("quarantine", action.key),
            checkpoint_id=checkpoint_id,
        )

    def _refuse_another(self, source: Path, checkpoint_id: str, shared: object) -> None:
        """Refuse to move what was written under the faulty checkpoint's name since."""
        if not os.path.lexists(source):
            return
        if shared is not None:
            is_same = shared == _written(source)
        else:
            lies = identity_or_own(source, open_checkpoint(source).members)
            is_same = self._journal.is_judged_as(checkpoint_id, lies)
        if not is_same:
            raise RepairError(
                "checkpoint",
                where=f"'{source}'",
                fact="is not the one that was judged faulty any more, so it stays where it is",
                todo="nothing is to be done; it is judged by itself",
            )


def _written(path: Path) -> list[int]:
    """Return what tells a file from one written over it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
