"""Which checkpoints are offered to be pinned, and when a run's pins are needed no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sentinel.checkpoint import Checkpoint
from sentinel.daemon.candidates import identity_or_own
from sentinel.daemon.journal import Journal, Judged
from sentinel.daemon.past import Past
from sentinel.daemon.pinning import Pinner, PinSettings
from sentinel.daemon.recording import Outcome
from sentinel.daemon.telling import Teller
from sentinel.errors import SentinelError
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.pin_copy import Source
from sentinel.repairs.pins import PinStore


@contextmanager
def pinning(
    store: PinStore,
    settings: PinSettings,
    *,
    journal: Journal,
    teller_of: Callable[[str], Teller],
    on_note: Callable[[str], None],
) -> Iterator[PinOffers]:
    """Pin while the block lasts; what is under way at its end is given up."""
    pinner = Pinner(store, settings, teller_of=teller_of, on_note=on_note)
    try:
        yield PinOffers(pinner, store, journal)
    finally:
        pinner.close()


class PinOffers:
    """What the judging tells the pinning; to be called by the judging thread alone."""

    def __init__(self, pinner: Pinner, store: PinStore, journal: Journal) -> None:
        self._pinner = pinner
        self._store = store
        self._journal = journal

    def judged(self, outcome: Outcome) -> None:
        """Offer a checkpoint that was judged just now, if a resume would choose it."""
        if worth_pinning(outcome.judged):
            self._offer(outcome.judged, outcome.judgement.checkpoint)

    def heard(self, listener: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """Return a listener that hears of each outcome after the pinning."""

        def both(outcome: Outcome) -> None:
            self.judged(outcome)
            listener(outcome)

        return both

    def finish(self) -> None:
        """Wait until nothing is left to be pinned."""
        self._pinner.finish()

    def begin(self, run_id: str) -> None:
        """Offer the newest good checkpoint of a run that is known already.

        Its pin is missing when sentinel was killed, or had none configured, at the time.
        """
        self._store.sweep(run_id)
        good = (j for j in reversed(Past(self._journal, run_id).on_disk()) if worth_pinning(j))
        newest = next(good, None)
        if newest is None:
            return
        try:
            checkpoint = open_checkpoint(newest.path)
        except SentinelError:
            return
        lies = identity_or_own(newest.path, checkpoint.members)
        if self._journal.is_judged_as(newest.checkpoint_id, lies):
            self._offer(newest, checkpoint)

    def end(self, run_id: str) -> None:
        """Drop a run's pins when its trainer ended well on a good last checkpoint."""
        self._pinner.close()
        last = self._journal.last_attempt(run_id)
        if last is None or last.state != "ended" or last.exit_code != 0:
            return
        newest = next(iter(self._journal.newest(run_id, last.attempt, limit=1)), None)
        if newest is not None and worth_pinning(newest) and newest.path.exists():
            for pin in self._store.pins(run_id):
                self._store.drop(pin)

    def _offer(self, judged: Judged, checkpoint: Checkpoint) -> None:
        last = self._journal.last_attempt(judged.run_id)
        reach = Past(self._journal, judged.run_id).reach(last)
        source = Source.of(
            checkpoint,
            run_id=judged.run_id,
            attempt=judged.attempt,
            checkpoint_id=judged.checkpoint_id,
            seq=judged.seq,
        )
        self._pinner.offer(source, reach=reach)


def worth_pinning(judged: Judged) -> bool:
    """Tell whether a resume would choose this checkpoint: it may, and nothing speaks against it."""
    return judged.target and not judged.doubts
