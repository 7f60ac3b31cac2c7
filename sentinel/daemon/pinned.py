"""Beginning from a pin: where the original is gone, and only when the pin is what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sentinel.daemon.records import Judged
from sentinel.daemon.telling import Teller
from sentinel.errors import RepairError
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
        """Return a plan whose reason says that it begins from a pin, if it does."""
        if self._store is None or plan.target_path is None:
            return plan
        if not Path(plan.target_path).is_relative_to(self._store.root):
            return plan
        return replace(plan, reason=f"{plan.reason}; from its pin, since the original is gone")
