"""Taking the faulty checkpoints of one run out of the trainer's reach, whatever kills us meanwhile.

Each move is written to the journal as an intent before it is made; one that is done is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sentinel.daemon.candidates import identity_or_own
from sentinel.daemon.journal import Action, Attempt, Journal, Judged
from sentinel.daemon.telling import Teller
from sentinel.errors import RepairError
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.quarantine import Quarantine, move, quarantine_place


class Quarantining:
    """The quarantine of one run; the trainer must not be alive when anything is moved.

    ``roots`` are the directories in which its trainer looks for checkpoints.
    """

    def __init__(
        self, *, run_id: str, roots: Sequence[Path], journal: Journal, teller: Teller
    ) -> None:
        self._run_id = run_id
        self._roots = tuple(roots)
        self._journal = journal
        self._teller = teller

    def move_away(self, attempt: Attempt, faulty: Iterable[Judged]) -> None:
        """Move the checkpoints with a grave content finding out of the trainer's reach."""
        for judged in faulty:
            if judged.target or judged.quarantined_to is not None:
                continue
            root = self._outermost(judged.path)
            place = quarantine_place(judged.path, root, judged.checkpoint_id)
            action = self._journal.intend(
                self._run_id,
                "quarantine",
                judged.checkpoint_id,
                {
                    "source": str(place.source),
                    "place": str(place.place),
                    "attempt": attempt.attempt,
                    "checkpoint_id": judged.checkpoint_id,
                    "rules": [found.rule for found in judged.findings],
                    "reason": judged.findings[0].message if judged.findings else "",
                },
            )
            if action.state == "intent":
                self._carry_out(action)

    def finish(self) -> None:
        """Carry out what was begun before a kill; the trainer must not be alive."""
        for action in self._journal.open_actions(self._run_id, "quarantine"):
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        detail = action.detail
        source, place = Path(str(detail["source"])), Path(str(detail["place"]))
        checkpoint_id = str(detail["checkpoint_id"])
        try:
            self._refuse_another(source, checkpoint_id)
            move(Quarantine(source, place), detail)
        except RepairError as error:
            self._journal.done(action, {"failed": str(error)})
            message = str(error)
        else:
            self._journal.quarantined(checkpoint_id, place)
            self._journal.done(action)
            message = f"quarantined '{source.name}' to '{place}'"
        self._teller.tell(
            "action",
            message,
            attempt=int(str(detail["attempt"])),
            about=("quarantine", checkpoint_id),
            checkpoint_id=checkpoint_id,
        )

    def _refuse_another(self, source: Path, checkpoint_id: str) -> None:
        """Refuse to move what was written under the faulty checkpoint's name since."""
        if not os.path.lexists(source):
            return
        lies = identity_or_own(source, open_checkpoint(source).members)
        if not self._journal.is_judged_as(checkpoint_id, lies):
            raise RepairError(
                "checkpoint",
                where=f"'{source}'",
                fact="is not the one that was judged faulty any more, so it stays where it is",
                todo="nothing is to be done; it is judged by itself",
            )

    def _outermost(self, checkpoint: Path) -> Path:
        """Return the outermost of the trainer's directories that a checkpoint lies in."""
        around = [root for root in self._roots if checkpoint.is_relative_to(root)]
        return min(around or self._roots, key=lambda root: len(root.parts))
