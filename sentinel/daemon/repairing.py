"""What happens between a faulty attempt and the next one: quarantine and a plan.

Both are read from and written to the journal, so that doing them again after a kill ends in the
same place: a quarantine that is done is skipped, a plan is made from the same facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sentinel.daemon.hanging import HANG
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.daemon.past import Past
from sentinel.daemon.pinned import Pinned
from sentinel.daemon.planning import Planner
from sentinel.daemon.quarantining import Quarantiner
from sentinel.daemon.telling import Teller
from sentinel.formats.configs.reader import LATEST
from sentinel.repairs.plan import START, Plan
from sentinel.verdict import Finding, Verdict

HUNG = "hung"
"""The outcome of an attempt that was stopped since it showed no progress."""


def acting(judged: Judged | Verdict, act_on: frozenset[str]) -> tuple[Finding, ...]:
    """Return the findings on which sentinel acts by itself.

    Critical ones of certain rules (counted on the bytes, no threshold), and warnings too of
    rules that the user's policy names.
    """
    return tuple(
        found
        for found in judged.findings
        if (found.severity == "critical" and found.safety == "certain")
        or (found.severity in {"critical", "warning"} and found.rule in act_on)
    )


class Repairer:
    """The repairs of one run; nothing here touches a process."""

    def __init__(
        self,
        *,
        run_id: str,
        roots: Sequence[Path],
        journal: Journal,
        teller: Teller,
        planner: Planner | None,
        act_on: frozenset[str],
        max_attempts: int,
        pinned: Pinned | None = None,
    ) -> None:
        self._run_id = run_id
        self._journal = journal
        self._pinned = pinned or Pinned(None, teller)
        self._past = Past(journal, run_id, pinned=self._pinned.path)
        self._teller = teller
        self._planner = planner
        self._act_on = act_on
        self._max_attempts = max_attempts
        self._quarantiner = Quarantiner(
            run_id=run_id,
            roots=roots,
            journal=journal,
            teller=teller,
            shared=planner.recipe.resume.shared if planner else "",
        )

    # -- the repair of an attempt, from its first intent to the next start --------------------

    def open(self, attempt: Attempt) -> None:
        """Write down that this attempt is to be stopped and repaired."""
        self._journal.intend(self._run_id, "repair", str(attempt.attempt), {})

    def is_open(self, attempt: Attempt) -> bool:
        """Tell whether a repair of this attempt was begun and not finished."""
        keys = [action.key for action in self._journal.open_actions(self._run_id, "repair")]
        return str(attempt.attempt) in keys

    def close(self, attempt: Attempt) -> None:
        """Write down that the repair led to a next attempt, or to the end."""
        action = self._journal.action(self._run_id, "repair", str(attempt.attempt))
        if action is not None:
            self._journal.done(action)

    def faulty(self, attempt: int) -> list[Judged]:
        """Return the attempt's checkpoints on which sentinel acts by itself."""
        judged = self._journal.judged(self._run_id, attempt)
        return [one for one in judged if acting(one, self._act_on)]

    def quarantine(self, attempt: Attempt, faulty: Iterable[Judged]) -> None:
        """Move the checkpoints with a grave content finding out of the trainer's reach."""
        self._quarantiner.quarantine(attempt, faulty)

    def finish_quarantine(self) -> None:
        """Carry out what was begun before a kill; the trainer must not be alive."""
        self._quarantiner.finish()

    def plan(self, attempt: Attempt, faulty: Sequence[Judged]) -> Plan | str:
        """Return how to go on after this attempt, or the sentence that says why not."""
        series = self._past.series(attempt)
        if self._planner is None:
            return "no recipe knows this trainer, so it cannot be resumed; give --recipe FILE"
        if len(series) >= self._max_attempts:
            return f"gave up after {len(series)} attempts that ended faulty"
        failures = _failures(series)
        findings = [found for judged in faulty for found in acting(judged, self._act_on)]
        plan = self._planner.plan(
            findings,
            faulty=faulty,
            starts=self._past.lineage(attempt),
            failures=failures,
            before=Plan.from_detail(attempt.plan) if attempt.plan else None,
            number=attempt.attempt + 1,
        )
        if plan is None:
            return f"gave up: {failures[START]} attempts from step 0 ended faulty"
        if not faulty:
            plan = replace(plan, rules=(HANG,))
        plan = self._pinned.told(plan)
        in_the_way = self._in_the_way() if plan.target is None else None
        if in_the_way is not None:
            return f"gave up: the trainer would begin from '{in_the_way.path}' by itself"
        self._tell_plan(plan, attempt.attempt)
        return plan

    def plan_before_start(self, chosen: Judged) -> Plan | str:
        """Return how to begin when the checkpoint the trainer would load is not usable."""
        if self._planner is None:
            return "no recipe knows this trainer, so it cannot be told to begin elsewhere"
        known = [judged for judged in self._past.beside(chosen.path) if _before(judged, chosen)]
        last = self._journal.last_attempt(self._run_id)
        plan = self._planner.plan(
            acting(chosen, self._act_on),
            faulty=[chosen],
            starts=known,
            failures={},
            before=None,
            number=last.attempt + 1 if last else 1,
        )
        if plan is None:
            return "no good checkpoint lies before it"
        plan = self._pinned.told(plan)
        self._tell_plan(plan, chosen.attempt)
        return plan

    def continue_plan(self, lost: Attempt) -> Plan | None:
        """Return how to go on after a repaired attempt whose trainer was lost (a reboot).

        The repair's precision is kept, since the user's command alone would bring the fault
        back; None when there was no repair. Where the attempt has written nothing good yet, it
        begins once more where it began, or further back when that is gone.
        """
        if lost.plan is None or self._planner is None:
            return None
        before = Plan.from_detail(lost.plan)
        newest = next((j for j in reversed(self._past.lineage(lost)) if j.target), None)
        repaired = newest is not None and newest.attempt == lost.attempt
        step = newest.step if newest else 0
        plan = replace(
            before,
            target=newest.checkpoint_id if newest else None,
            target_path=str(newest.path) if newest else None,
            target_step=step,
            # Only what the repaired attempt wrote holds no settings from before the repair.
            optimizer="keep" if repaired else before.optimizer,
            reason=f"the repaired run was cut off; it goes on from step {step}",
            steps_lost=None,
        )
        plan = self._pinned.told(self._planner.placed(plan, lost.attempt + 1))
        self._tell_plan(plan, lost.attempt)
        return plan

    # -- facts from the journal -----------------------------------------------------------------

    def failures(self, attempt: Attempt) -> int:
        """Return how many attempts up to this one failed in a row, at least 1.

        One that wrote a checkpoint to resume from made progress: counting begins there anew.
        """
        count = 0
        for known in reversed(self._past.series(attempt)):
            count += 1
            if any(judged.target for judged in self._journal.judged(self._run_id, known.attempt)):
                break
        return count

    def on_disk(self) -> list[Judged]:
        """Return the judged checkpoints that still lie in the trainer's reach, oldest first."""
        return self._past.on_disk()

    def _in_the_way(self) -> Judged | None:
        """Return the faulty checkpoint that a trainer told nothing would begin from, if any."""
        planner = self._planner
        if planner is None or planner.asked.begins != LATEST or planner.recipe.resume.into == "new":
            return None
        newest = max(self._past.on_disk(), key=step_order, default=None)
        return None if newest is None or newest.target else newest

    def _tell_plan(self, plan: Plan, attempt: int) -> None:
        self._teller.tell(
            "plan",
            plan.reason,
            attempt=attempt,
            about=("plan",),
            checkpoint_id=plan.target,
            rule=plan.rules[0] if plan.rules else None,
            detail=plan.as_detail(),
        )


_FAILED = frozenset({"faulty", HUNG})


def _failures(series: Sequence[Attempt]) -> Counter[str]:
    """Count the attempts that ended faulty or hung by the place they began from."""
    return Counter(known.parent or START for known in series if known.outcome in _FAILED)


def step_order(judged: Judged) -> tuple[int, int]:
    """Order checkpoints as a trainer that takes its latest does: by step, then by age."""
    return (-1 if judged.step is None else judged.step, judged.seq)


def _before(judged: Judged, chosen: Judged) -> bool:
    return judged.step is None or chosen.step is None or judged.step < chosen.step
