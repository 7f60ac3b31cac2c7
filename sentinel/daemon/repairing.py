"""What happens between a faulty attempt and the next one: which checkpoints ask, and the plan.

All of it is read from the journal, so that planning again after a kill makes the same plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sentinel.daemon.hanging import HANG
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.daemon.past import Past
from sentinel.daemon.pinned import Pinned
from sentinel.daemon.planning import Planner
from sentinel.daemon.telling import Teller
from sentinel.formats.configs.reader import LATEST
from sentinel.repairs.plan import START, Plan
from sentinel.verdict import Finding

HUNG = "hung"
"""The outcome of an attempt that was stopped since it showed no progress."""


def acting(findings: Iterable[Finding], act_on: frozenset[str]) -> tuple[Finding, ...]:
    """Return the findings on which sentinel acts by itself.

    Critical ones of certain rules (counted on the bytes, no threshold), and warnings too of
    rules that the user's policy names.
    """
    return tuple(
        found
        for found in findings
        if (found.severity == "critical" and found.safety == "certain")
        or (found.severity in {"critical", "warning"} and found.rule in act_on)
    )


def asks_by_hand(found: Finding) -> bool:
    """Tell whether a finding asks for a resume when the user does, however sure its rule is."""
    return found.severity in {"critical", "warning"} and "resume" in found.remedy


class Repairer:
    """The repairs of one run; nothing here touches a process."""

    def __init__(
        self,
        *,
        run_id: str,
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
        self._spent = 0  # attempts that count no more, since the user asked once again

    # -- the repair of an attempt, from its first intent to the next start --------------------

    def open(self, attempt: Attempt, *, is_over: bool = False) -> None:
        """Write down that this attempt is to be stopped and repaired.

        ``is_over`` says that it had trained all its steps by then.
        """
        detail = {"is_over": is_over}
        self._journal.intend(self._run_id, "repair", str(attempt.attempt), detail)

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
        return [one for one in judged if self.asks(one)]

    def by_hand(self, attempt: Attempt) -> list[Judged]:
        """Return the attempt's checkpoints that ask for a resume, now that the user does.

        From here on their rules are acted on, however sure, and attempts are counted anew.
        """
        judged = self._journal.judged(self._run_id, attempt.attempt)
        asking = {found.rule for one in judged for found in one.findings if asks_by_hand(found)}
        self._act_on |= asking
        self._spent = len(self._past.series(attempt))
        return self.faulty(attempt.attempt)

    def asks(self, judged: Judged) -> bool:
        """Tell whether sentinel acts by itself on a checkpoint."""
        return bool(self.acting(judged.findings))

    def acting(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Return the findings on which sentinel acts by itself in this run."""
        return acting(findings, self._act_on)

    def plan(self, attempt: Attempt, faulty: Sequence[Judged]) -> Plan | str:
        """Return how to go on after this attempt, or the sentence that says why not.

        Without a faulty checkpoint it hung. What is faulty must be quarantined before.
        """
        plan = self.foresee(attempt, faulty)
        if isinstance(plan, str):
            return plan
        if not faulty:
            plan = replace(plan, rules=(HANG,))
        in_the_way = self._in_the_way() if plan.target is None else None
        if in_the_way is not None:
            return f"gave up: the trainer would begin from '{in_the_way.path}' by itself"
        self._tell_plan(plan, attempt.attempt)
        return plan

    def foresee(self, attempt: Attempt, faulty: Sequence[Judged]) -> Plan | str:
        """Return what `plan` would, from what is known now, and tell nobody."""
        series = self._past.series(attempt)
        if self._planner is None:
            return "no recipe knows this trainer, so it cannot be resumed; give --recipe FILE"
        if len(series) - self._spent >= self._max_attempts:
            return f"gave up after {len(series)} attempts that ended faulty"
        failures = _failures(series)
        findings = [found for judged in faulty for found in self.acting(judged.findings)]
        plan = self._planner.plan(
            findings,
            faulty=faulty,
            starts=self._starts(attempt, findings),
            failures=failures,
            before=Plan.from_detail(attempt.plan) if attempt.plan else None,
            number=attempt.attempt + 1,
        )
        if plan is None:
            return f"gave up: {failures[START]} attempts from step 0 ended faulty"
        return self._pinned.told(plan)

    def go_on(self, last: Attempt) -> Plan | None:
        """Return how an attempt goes on that was cut off without a fault.

        None where it has no checkpoint to go on from, and the user's own command is as good.
        """
        if last.plan is not None:
            return self.continue_plan(last)
        plan = self.foresee(last, ())
        if isinstance(plan, str) or plan.target is None:
            return None
        self._tell_plan(plan, last.attempt)
        return plan

    def plan_first(
        self, findings: Sequence[Finding], chosen: Judged | None, number: int
    ) -> Plan | None:
        """Return how the user's own start begins with what the findings ask for changed.

        ``chosen`` is the checkpoint it begins from, None for a training that begins anew. None is
        returned where nothing can be changed: then it is started as told.
        """
        asking = [found for found in findings if "resume" in found.remedy]
        if self._planner is None or not asking:
            return None
        plan = self._planner.plan(
            asking,
            faulty=(),
            starts=[] if chosen is None else [chosen],
            failures={},
            before=None,
            number=number,
            begun=chosen is not None,
        )
        changes = plan and (plan.precision or plan.compute or plan.settings or plan.target)
        if plan is None or not changes:
            return None
        if plan.target is None and not self._past.on_disk():  # nothing is in the way where it goes
            plan = replace(plan, output=None, copy=None)
        self._tell_plan(plan, number)
        return plan

    def plan_before_start(self, chosen: Judged) -> Plan | str:
        """Return how to begin when the checkpoint the trainer would load is not usable."""
        if self._planner is None:
            return "no recipe knows this trainer, so it cannot be told to begin elsewhere"
        known = [judged for judged in self._past.beside(chosen.path) if _before(judged, chosen)]
        last = self._journal.last_attempt(self._run_id)
        plan = self._planner.plan(
            self.acting(chosen.findings),
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

    def _starts(self, attempt: Attempt, findings: Sequence[Finding]) -> list[Judged]:
        """Return where the training may go on: none that leaves it nothing to train.

        After its last step a resume from a checkpoint with the same finding would change nothing.
        """
        starts = self._past.lineage(attempt)
        action = self._journal.action(self._run_id, "repair", str(attempt.attempt))
        is_over = attempt.exit_code == 0 or (action is not None and action.detail.get("is_over"))
        if not is_over:
            return starts
        rules = {found.rule for found in findings}
        return [one for one in starts if rules.isdisjoint(found.rule for found in one.findings)]

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
