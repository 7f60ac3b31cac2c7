"""Telling others what the daemon tells: metrics, messages, trackers.

They hear of a verdict when it is written down and said. None of them can delay or end anything:
what they do takes place in threads and processes of their own, and what they raise is said once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sentinel import __version__
from sentinel.config import Config
from sentinel.daemon.journal import Journal
from sentinel.daemon.noticing import Does, Noticing
from sentinel.daemon.places import places_of
from sentinel.daemon.recording import Outcome
from sentinel.daemon.tallied import tally_of
from sentinel.daemon.tracking import Tracking
from sentinel.daemon.written import written_s
from sentinel.health.rows import EventRow
from sentinel.metrics.tally import Tallies
from sentinel.notices.addresses import resolved
from sentinel.notices.outbox import Outbox
from sentinel.notices.post import Post
from sentinel.trackers.feed import Feed

if TYPE_CHECKING:
    from sentinel.metrics.serving import Metered


class Observer(Protocol):
    """Whoever is told; both calls return at once."""

    def judged(self, outcome: Outcome, written_s: float | None) -> None:
        """Take note of a verdict; ``written_s`` is when the checkpoint was (since 1970)."""

    def told(self, event: EventRow) -> None:
        """Take note of an event."""


class Observing:
    """The observers of one daemon. Make one with `observing`."""

    def __init__(self, observers: Sequence[Observer], on_note: Callable[[str], None]) -> None:
        self._observers = tuple(observers)
        self._on_note = on_note
        self._said: set[str] = set()

    def heard(self, listener: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """Return a listener to verdicts that is told and then tells the observers."""

        def tell(outcome: Outcome) -> None:
            listener(outcome)
            at_s = written_s(outcome.judged.path)
            self._each(lambda one: one.judged(outcome, at_s))

        return tell

    def told(self, listener: Callable[[EventRow], None]) -> Callable[[EventRow], None]:
        """Return a listener to events that is told and then tells the observers."""

        def tell(event: EventRow) -> None:
            listener(event)
            self._each(lambda one: one.told(event))

        return tell

    def _each(self, tell: Callable[[Observer], None]) -> None:
        for one in self._observers:
            try:
                tell(one)
            except Exception as error:  # noqa: BLE001 - whoever looks on must not end the daemon
                why = f"{type(one).__name__}: {type(error).__name__}: {error}"
                if why not in self._said:
                    self._on_note(
                        f"a bug in sentinel ({why}); the training is guarded all the same"
                    )
                self._said.add(why)


class _Counting:
    """The metrics as an observer."""

    def __init__(self, metered: Metered) -> None:
        self._metered = metered
        self.told = metered.told

    def judged(self, outcome: Outcome, written_s: float | None) -> None:
        """Count a verdict."""
        self._metered.judged(outcome.row, outcome.judgement.verdict, written_s)


@contextmanager
def observing(
    config: Config,
    journal: Journal,
    *,
    runs: Sequence[str],
    queue: Callable[[], int],
    does: Does,
    on_note: Callable[[str], None],
) -> Iterator[Observing]:
    """Open what the configuration asks for, and close it again.

    ``runs`` are those known already, ``queue`` tells how many checkpoints wait for a verdict,
    ``does`` what sentinel does about findings. Raises ConfigError for what cannot work at all.
    """
    observers: list[Observer] = []
    with ExitStack() as stack:
        if config.metrics.port is not None or config.metrics.file is not None:
            # The client of Prometheus is loaded only where it is wanted.
            from sentinel.metrics.serving import Metered, serving  # noqa: PLC0415

            tallies = _tallies(journal, places_of(config).log, runs)
            metered = Metered(tallies, version=__version__, queue=queue)
            stack.enter_context(serving(config.metrics, metered, on_note=on_note))
            observers.append(_Counting(metered))
        for tracker in config.trackers:
            feed = Feed(tracker, places_of(config).state, on_note)
            stack.callback(feed.close)
            observers.append(Tracking(feed.put, journal))
        if config.notify.urls:
            observers.append(_noticing(stack, config, journal, does, on_note))
        yield Observing(observers, on_note)


def _noticing(
    stack: ExitStack,
    config: Config,
    journal: Journal,
    does: Does,
    on_note: Callable[[str], None],
) -> Observer:
    places, notify = places_of(config), config.notify
    post = Post(
        notify,
        resolved(notify.urls, os.environ),
        outbox=Outbox(places.state / "notices"),
        log=places.log,
        on_note=on_note,
    )
    post.start()
    stack.callback(post.close)
    return Noticing(notify.events, post.put, journal=journal, state=places.state, does=does)


def _tallies(journal: Journal, log: Path, runs: Sequence[str]) -> Tallies:
    tallies, roots = Tallies(), journal.runs()
    for run_id in runs:
        tallies.take(run_id, tally_of(journal, log, run_id, roots.get(run_id, ())))
    return tallies
