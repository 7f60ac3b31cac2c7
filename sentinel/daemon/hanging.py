"""Saying that a training hangs, under `sentinel run` and beside one."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sentinel.checkpoint import path_text
from sentinel.daemon.journal import Attempt, Judged
from sentinel.daemon.progress import Progress
from sentinel.daemon.recording import Outcome
from sentinel.daemon.telling import Teller
from sentinel.daemon.written import written_s

HANG = "hang"
"""What stands in a plan in the place of a rule: the reason for a restart without a finding."""

_MINUTE_S = 60.0
_RECENT_S = 600.0


class Hanging:
    """Whether the attempts of a supervised run hang; with no ``progress`` none ever does.

    ``then`` says what is done about it, None where that is nothing.
    """

    def __init__(self, progress: Progress | None, teller: Teller, *, then: str | None) -> None:
        self._progress = progress
        self._teller = teller
        self._then = then
        self._times = 0

    def begin(self) -> None:
        """Count from here on: an attempt is tended."""
        self._times = 0
        if self._progress is not None:
            self._progress.moved()

    def came(self, checkpoint: Path) -> None:
        """Note a checkpoint that has its verdict."""
        if self._progress is not None:
            self._progress.moved()
            self._progress.beside(checkpoint)

    def asks_to_act(self, attempt: Attempt, *, is_saving: bool) -> bool:
        """Say it once when an attempt hangs, and tell whether something is to be done.

        ``is_saving`` says that a checkpoint is there that is not whole yet.
        """
        if self._progress is None:
            return False
        if is_saving:
            self._progress.moved()
        still_s = self._progress.look()
        if still_s is None:
            return False
        self._times += 1
        end = self._then or "only said: see 'hang' in sentinel.yaml"
        self._teller.tell(
            "outcome",
            f"the trainer hangs: {_nothing(still_s)}; {end}",
            attempt=attempt.attempt,
            about=(HANG, self._times),
            detail={"still_s": still_s},
        )
        return self._then is not None


class WatchedHanging:
    """The runs of a watch that were seen to save and then fell silent, each said once."""

    def __init__(
        self,
        after_s: float,
        teller_of: Callable[[str], Teller],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after_s = after_s
        self._teller_of = teller_of
        self._clock = clock
        self._runs: dict[str, tuple[Progress, Judged]] = {}

    def heard(self, listener: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """Return a listener that is told and then counts a run's silence from here on."""

        def tell(outcome: Outcome) -> None:
            listener(outcome)
            self._came(outcome.judged)

        return tell

    def next_look_s(self) -> float | None:
        """Return in how many seconds the logs are looked at again, None when no run is known."""
        return min((progress.pace_s for progress, _ in self._runs.values()), default=None)

    def work(self) -> None:
        """Say which runs have fallen silent."""
        for run_id, (progress, newest) in self._runs.items():
            still_s = progress.look()
            if still_s is None:
                continue
            where = path_text(newest.path.parent)
            self._teller_of(run_id).tell(
                "outcome",
                f"the training in '{where}' hangs or has ended: {_nothing(still_s)}",
                attempt=newest.attempt,
                about=(HANG, newest.checkpoint_id),
                checkpoint_id=newest.checkpoint_id,
                detail={"still_s": still_s},
            )

    def finish(self) -> None:
        """Wait for nothing."""

    def _came(self, judged: Judged) -> None:
        at_s = written_s(judged.path)
        if at_s is None or time.time() - at_s > max(self._after_s, _RECENT_S):
            return  # judged late: it does not show that a training goes on
        progress, _ = self._runs.get(judged.run_id) or (
            Progress(self._after_s, (judged.path.parent,), clock=self._clock),
            judged,
        )
        progress.moved()
        progress.beside(judged.path)
        self._runs[judged.run_id] = (progress, judged)


def outputs_of(output: Path | None) -> Sequence[Path | int]:
    """Return where the output of a supervised trainer can be seen to grow.

    That is the file it is led to, or sentinel's own standard output where it is a file and no
    other stream of sentinel's goes there.
    """
    if output is not None:
        return (output,)
    with suppress(OSError):
        out, err = os.fstat(1), os.fstat(2)
        if stat.S_ISREG(out.st_mode) and not os.path.samestat(out, err):
            return (1,)
    return ()


def _nothing(still_s: float) -> str:
    if still_s < 2 * _MINUTE_S:
        return f"no checkpoint and no line in a log for {still_s:.0f} s"
    return f"no checkpoint and no line in a log for {still_s / _MINUTE_S:.0f} min"
