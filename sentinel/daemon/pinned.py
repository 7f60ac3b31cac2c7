"""Beginning from a pin: where the original is gone, and only when the pin is what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sentinel.daemon.records import Judged
from sentinel.daemon.telling import Teller
from sentinel.errors import RepairError
from sentinel.repairs.best_model import lost_best
from sentinel.repairs.pins import PinStore, check
from sentinel.repairs.plan import Plan


class Pinned:
    """The pins of one run as places to begin from."""

    def __init__(self, store: PinStore | None, teller: Teller) -> None:
        self._store = store
        self._teller = teller

    def path(self, judged: Judged) -> Path | None:
        """Return the pin of a checkpoint, None when it has none or its bytes are not as pinned.

        It is read whole, since a damaged one must not be trained on; that one is told.
        """
        pin = None
        if self._store is not None:
            pin = self._store.find(judged.run_id, judged.checkpoint_id)
        if pin is None:
            return None
        try:
            check(pin)
        except RepairError as error:
            self._teller.tell(
                "action",
                str(error),
                attempt=judged.attempt,
                about=("broken pin", judged.checkpoint_id),
                checkpoint_id=judged.checkpoint_id,
            )
            return None
        return pin.path

    def told(self, plan: Plan) -> Plan:
        """Return a plan whose reason says what is special about its target.

        That it is a pin, and that it names a best checkpoint which is not there any more.
        """
        if plan.target_path is None:
            return plan
        target = original = Path(plan.target_path)
        said = []
        pin = None if self._store is None else self._store.at(target)
        if pin is not None:
            original = Path(pin.manifest.source)
            said.append("from its pin, since the original is gone")
        best = lost_best(target, original.parent)
        if best is not None:
            said.append(best.said())
        return replace(plan, reason="; ".join([plan.reason, *said]))
