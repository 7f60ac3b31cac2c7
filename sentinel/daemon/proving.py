"""Saying whether a repair helped: early, and once more at the attempt's end."""

from __future__ import annotations

from sentinel.daemon.journal import Attempt, Journal
from sentinel.daemon.telling import Teller
from sentinel.daemon.verifying import Proof, verify
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import Effect, Recipe


class Prover:
    """The proofs of one run's repairs, each told when it is known and when it changes."""

    def __init__(
        self, *, run_id: str, journal: Journal, teller: Teller, recipe: Recipe | None
    ) -> None:
        self._run_id = run_id
        self._journal = journal
        self._teller = teller
        self._effect = recipe.effect if recipe else Effect()
        self._proved: dict[int, Proof] = {}

    def prove(self, attempt: Attempt, *, ended: bool) -> None:
        """Say whether the repair that began this attempt helped, as far as it is known.

        What is said early and what is said at the end is one event, so the log keeps the last
        word.
        """
        if attempt.plan is None or (not ended and attempt.attempt in self._proved):
            return
        proof = verify(
            Plan.from_detail(attempt.plan),
            self._journal.judged(self._run_id, attempt.attempt),
            effect=self._effect,
            loss_before=self._journal.loss_before(self._run_id, attempt.attempt),
            ended=ended,
        )
        if proof is None or proof == self._proved.get(attempt.attempt):
            return
        self._proved[attempt.attempt] = proof
        self._teller.tell(
            "outcome",
            f"repair {proof.result}: {proof.message}",
            attempt=attempt.attempt,
            about=("proof",),
            detail={
                "result": proof.result,
                "loss_before": proof.loss_before,
                "loss_after": proof.loss_after,
            },
        )
