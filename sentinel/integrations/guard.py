"""Judging inside the trainer's own process: what the callbacks of all hosts share.

A callback must never harm the training it is in: whatever goes wrong here is logged once and the
training goes on. Checkpoints are read without mapping, nothing is written where they lie.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from sentinel.checkpoint import path_text
from sentinel.config import load_config
from sentinel.daemon.places import places_of
from sentinel.daemon.process_tree import MARK
from sentinel.daemon.recording import Times
from sentinel.daemon.repairing import acting
from sentinel.daemon.room import room_for_next
from sentinel.daemon.supervise import ENDED_FAULTY, STOPPED_BY_POLICY
from sentinel.errors import GuardedError, SentinelError
from sentinel.flow import Inspected, Judgement, conclude, inspect, past_after
from sentinel.formats.base import read_base
from sentinel.formats.naming import group_of
from sentinel.formats.opening import discover
from sentinel.integrations.options import (
    OnStop,
    Options,
    Policy,
    paths_of,
    refuse_unknown,
    rule_ids,
)
from sentinel.integrations.record import Record
from sentinel.rules.baseline import read_baseline
from sentinel.rules.load import load_rules
from sentinel.rules.past import Past
from sentinel.stats.base_norms import FOUND_BUDGET_BYTES, GIVEN_BUDGET_BYTES, BaseNorms
from sentinel.verdict import LEVEL_OF, LEVELS

Told = TypeVar("Told")

LOGGER = logging.getLogger("sentinel")

__all__ = ["Guard", "Options", "TrainingStopped"]


class TrainingStopped(SystemExit):
    """The end of a script whose training sentinel stopped; ``code`` is its exit code.

    Python ends with this code when nobody catches it, and no traceback is shown.
    """


class Guard:
    """One training as seen from inside: told of every save, it says when to stop.

    ``policy`` "stop" stops on a critical finding of a certain rule and of the rules in
    ``act_on``, "report" never does. ``base`` is the model under the adapter, ``rules`` are files
    or directories of your own rules. ``state`` is where the journal and, unless ``log`` says
    another place, the health log are kept; without both nothing is written at all. ``config``
    is a `sentinel.yaml`, by default the one in the working directory; what is given here goes
    before what it says, and its policy `auto` stops. ``on_stop`` "exit" makes `end` raise
    TrainingStopped after a stop, "return" leaves it to the script. Raises SentinelError for what
    cannot be used, before the training begins.
    """

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        act_on: str | Iterable[str] | None = None,
        base: str | Path | None = None,
        rules: str | Path | Sequence[str | Path] = (),
        state: str | Path | None = None,
        log: str | Path | None = None,
        config: str | Path | None = None,
        on_stop: OnStop = "exit",
    ) -> None:
        refuse_unknown("policy", policy, ("stop", "report"))
        refuse_unknown("on_stop", on_stop, ("exit", "return"))
        settings = load_config(None if config is None else Path(config), Path.cwd())
        given = {"state": state and Path(state), "log": log and Path(log)}
        settings = settings.model_copy(update={name: at for name, at in given.items() if at})
        known = load_rules(paths_of(rules), settings.rules)
        # From inside a training nothing can be started again: `auto` stops, too.
        self._stops = (policy or settings.policy) != "report"
        self._exits = on_stop == "exit"
        self._act_on = frozenset(settings.act_on) if act_on is None else rule_ids(act_on, known)
        self._places = places_of(settings) if settings.state or settings.log else None
        self._conclude = partial(
            conclude,
            rules=known,
            base=None if base is None else read_base(Path(base)),
            norms=BaseNorms(FOUND_BUDGET_BYTES if base is None else GIVEN_BUDGET_BYTES),
            baseline=read_baseline(settings.baseline) if settings.baseline else None,
        )
        self._logged: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._record: Record | None = None
        self._last: dict[str, Judgement] = {}
        self._aside = self._begun = self._stopped = False
        self._newest: Judgement | None = None

    @property
    def judgement(self) -> Judgement | None:
        """Return what was said of the newest save (its worst adapter), None before the first."""
        return self._newest

    @property
    def stopped(self) -> bool:
        """Tell whether the training was told to stop."""
        return self._stopped

    @property
    def exit_code(self) -> int:
        """Return 76 when the training was stopped, 70 when its last save is no good, else 0."""
        if self._stopped:
            return STOPPED_BY_POLICY
        newest = self._newest
        is_good = newest is None or newest.verdict.level in {"healthy", "suspect"}
        return 0 if is_good else ENDED_FAULTY

    def begin(self, run: Path, directory: Path, resumed_from: Path | None = None) -> None:
        """Hear that a training begins whose checkpoints come to ``directory``.

        ``run`` is the name its checkpoints share, ``resumed_from`` the checkpoint it goes on
        from: that one is judged too, as the first one's history, but never stops anything.
        """
        places = (run.absolute(), directory.absolute())
        since = None if resumed_from is None else resumed_from.absolute()
        self.harmless(self._begin, *places, since, otherwise=None)

    def saved(self, path: str | Path, resumed_from: Path | None = None) -> bool:
        """Judge a checkpoint that was just written whole; tell whether the training must stop.

        The first save begins the training where nobody did; see `begin` for ``resumed_from``.
        """
        return self.harmless(self._saved, path, resumed_from, otherwise=self._stopped)

    def heard(self, must_stop: bool) -> bool:  # noqa: FBT001 - what the first process said
        """Take over on this process what the first one said, and return it."""
        self._stopped = must_stop
        return must_stop

    def close(self) -> None:
        """Close the record and let the run go."""
        self.harmless(self._end, otherwise=None)

    def renew(self) -> None:
        """Be as before the first training: another one begins in the same process."""
        self.close()
        self._forget()

    def end(self) -> None:
        """Hear that the training is over: `close`, and end the script when it was stopped.

        Raises TrainingStopped when ``on_stop`` is "exit" and the training was stopped.
        """
        self.close()
        if self._stopped and self._exits:
            raise TrainingStopped(self.exit_code)

    def harmless(self, act: Callable[..., Told], *given: object, otherwise: Told) -> Told:
        """Return what ``act`` does; what it raises is logged once, and the training goes on."""
        try:
            return act(*given)
        except Exception as error:  # noqa: BLE001 - nothing of ours may end a training
            expected = isinstance(error, SentinelError)
            message = str(error) if expected else f"a bug ({type(error).__name__}: {error})"
            if message not in self._logged:
                self._logged.add(message)
                trace = None if expected else error
                _say(logging.WARNING, f"{message}; the training goes on", trace)
            return otherwise

    def _begin(self, run: Path, directory: Path, resumed_from: Path | None) -> None:
        self.renew()
        self._begun = True
        if MARK in os.environ:
            self._aside = True
            _say(logging.INFO, "the checkpoints are left to `sentinel run`, which started this")
            return
        self._record = self.harmless(self._opened, run, directory, otherwise=None)
        if self._aside:
            return
        if resumed_from is not None and os.path.lexists(resumed_from):
            self.harmless(self._look_back, run, resumed_from, otherwise=None)
        if self._record is not None:
            self.harmless(self._record.begin, resumed_from, otherwise=None)

    def _look_back(self, run: Path, resumed_from: Path) -> None:
        """Judge what the training begins from, unless the record knows it already."""
        if self._record is None or self._record.known(resumed_from) is None:
            self._last[str(run)] = self._judge(resumed_from)

    def _opened(self, run: Path, directory: Path) -> Record | None:
        if self._places is None:
            return None
        try:
            return Record(self._places, run, directory)
        except GuardedError as error:
            self._aside = True
            _say(logging.WARNING, f"{error}; the checkpoints are left to that one")
            return None

    def _saved(self, path: str | Path, resumed_from: Path | None) -> bool:
        place = Path(path).absolute()
        if not self._begun:
            self.begin(Path(group_of(place)), place.parent, resumed_from)
        if self._aside:
            return False
        tried = [self.harmless(self._judge, one.path, otherwise=None) for one in discover(place)]
        judged = [judgement for judgement in tried if judgement is not None]
        worst = max(judged, key=lambda one: LEVELS.index(one.verdict.level), default=None)
        self._newest = worst or self._newest
        asking = [found for one in judged for found in acting(one.verdict.findings, self._act_on)]
        if asking and self._stops and not self._stopped:
            self._stopped = True
            rules = ", ".join(dict.fromkeys(found.rule for found in asking))
            _say(logging.ERROR, f"the training is stopped ({rules}), exit code {self.exit_code}")
            if self._record is not None:
                self.harmless(self._record.stopped, rules, otherwise=None)
        return self._stopped

    def _judge(self, path: Path) -> Judgement:
        began_at, began_s = datetime.now(UTC), time.monotonic()
        inspected = inspect(path, digest=True)
        last = self._last.get(group_of(path))
        judgement = self._conclude(
            inspected,
            past=self._past(inspected, last),
            free_bytes=room_for_next(inspected.checkpoint),
        )
        self._last[group_of(path)] = judgement
        _tell(judgement, last)
        if self._record is not None:
            times = Times(began_at, began_at, measure_s=time.monotonic() - began_s)
            self.harmless(self._record.keep, judgement, times, otherwise=None)
        return judgement

    def _past(self, inspected: Inspected, last: Judgement | None) -> Past:
        """Return what came before: in this training, else up from what it was resumed from."""
        if last is not None or self._record is None:
            return past_after(last)
        nothing: Past = ()
        return self.harmless(self._record.past, inspected.checkpoint, otherwise=nothing)

    def _end(self) -> None:
        if self._record is not None:
            record, self._record = self._record, None
            record.close(self._newest.verdict.level if self._newest else None)


def _tell(judgement: Judgement, last: Judgement | None) -> None:
    """Log a verdict; what was found in the checkpoint before is no news."""
    verdict = judgement.verdict
    known = _rules_of(last) if last is not None else frozenset()
    is_news = verdict.level != "healthy" and not _rules_of(judgement) <= known
    reason = f": {verdict.reason}" if verdict.reason else ""
    text = f"'{path_text(judgement.checkpoint.path)}' is {verdict.level}{reason}"
    _say(logging.WARNING if is_news else logging.INFO, text)


def _say(level: int, message: str, error: Exception | None = None) -> None:
    # Where nobody has set up logging, Python shows the bare message.
    LOGGER.log(level, "sentinel: %s", message, exc_info=error)


def _rules_of(judgement: Judgement) -> frozenset[str]:
    """Return the rules that make the verdict what it is."""
    verdict = judgement.verdict
    grave = (one for one in verdict.findings if LEVEL_OF[one.severity] == verdict.level)
    return frozenset(found.rule for found in grave)
