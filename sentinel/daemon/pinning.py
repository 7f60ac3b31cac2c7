"""Keeping the newest good checkpoints of each run pinned, beside the judging and never in its way.

One thread copies, at the lowest priority; the disk's scheduler goes by it as well
(https://man7.org/linux/man-pages/man2/ioprio_set.2.html). Of a run only the newest checkpoint
of each layout waits. What is pinned is told by the store itself, so a kill at any instant loses
one copy at most.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from sentinel.checkpoint import path_text
from sentinel.daemon.telling import Teller
from sentinel.errors import SentinelError
from sentinel.repairs.pin_copy import (
    Name,
    Source,
    SourceChangedError,
    files_of,
    take,
)
from sentinel.repairs.pins import AbandonedError, Pin, PinStore
from sentinel.sizes import size_words

NICE = 19

SAVES_LEFT = 2
"""On the trainer's own disk a pin must leave room for so many more checkpoints of its size."""


@dataclass(frozen=True, slots=True)
class PinSettings:
    """How much may be pinned: ``count`` checkpoints a run, ``budget_bytes`` in the whole store."""

    budget_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class _Wish:
    source: Source
    reach: Mapping[int, float]


class Pinner:
    """The thread that pins; `offer` and `close` belong to the thread that judges.

    ``teller_of`` gives the one who writes a run's events, ``on_note`` hears, once a run, why
    nothing can be pinned.
    """

    def __init__(
        self,
        store: PinStore,
        settings: PinSettings,
        *,
        teller_of: Callable[[str], Teller],
        on_note: Callable[[str], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._teller_of = teller_of
        self._on_note = on_note
        self._noted: set[tuple[str, str]] = set()
        self._wishes: dict[tuple[str, str], _Wish] = {}
        self._busy = False
        self._change = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pinning", daemon=True)
        self._thread.start()

    def offer(self, source: Source, *, reach: Mapping[int, float]) -> None:
        """Ask for a checkpoint to be pinned, in place of its like that still waits.

        ``reach`` says, as `Past.reach` does, what its line is: pins of another are the first to
        go.
        """
        with self._change:
            self._wishes[source.run_id, source.layout] = _Wish(source, reach)
            self._change.notify_all()

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait until nothing is left to be pinned."""
        with self._change:
            self._change.wait_for(lambda: not self._wishes and not self._busy, timeout_s)

    def close(self) -> None:
        """Give up what is under way, within one block, and end."""
        self._stopped.set()
        with self._change:
            self._wishes.clear()
            self._change.notify_all()
        self._thread.join()

    def _work(self) -> None:
        _give_way()
        while (wish := self._next()) is not None:
            try:
                self._pin(wish)
            except AbandonedError:
                pass
            except SourceChangedError as error:
                self._tell(wish.source, f"not pinned: {error}")
            except (SentinelError, OSError) as error:
                why = (error.strerror if isinstance(error, OSError) else None) or str(error)
                self._refuse(wish.source, f"cannot be pinned ({why})")
            except Exception as error:  # noqa: BLE001 - a pin must not end the daemon
                bug = f"a bug in sentinel ({type(error).__name__}: {error})"
                self._refuse(wish.source, f"cannot be pinned: {bug}")
            with self._change:
                self._busy = False
                self._change.notify_all()

    def _next(self) -> _Wish | None:
        with self._change:
            self._change.wait_for(lambda: self._wishes or self._stopped.is_set())
            if self._stopped.is_set():
                return None
            self._busy = True
            return self._wishes.pop(next(iter(self._wishes)))

    def _pin(self, wish: _Wish) -> None:
        source = wish.source
        if self._store.find(source.run_id, source.checkpoint_id) is not None:
            return
        files = files_of(source)
        refusal = self._refusal(wish, files)
        if refusal is not None:
            self._refuse(source, refusal)
            return
        pin = take(self._store, source, files, stopped=self._stopped.is_set)
        for old in _surplus(self._store.pins(source.run_id), wish.reach, self._settings.count):
            self._store.drop(old)
        how = "sharing its blocks" if pin.manifest.how == "reflink" else "as a copy"
        size = size_words(pin.size_bytes)
        self._tell(source, f"pinned '{source.path.name}' ({size}, {how})", pin=pin)

    def _refusal(self, wish: _Wish, files: dict[str, Name]) -> str | None:
        """Make room within the budget, all but the newest pin; say why there is none."""
        source, budget = wish.source, self._settings.budget_bytes
        size_bytes = sum(size for _, _, size, _ in files.values())
        spare = _surplus(self._store.pins(source.run_id), wish.reach, 1)
        while self._taken() + size_bytes > budget and spare:
            self._store.drop(spare.pop(0))
        taken = self._taken()
        if taken + size_bytes > budget:
            have = f", {size_words(taken)} of it taken" if taken else ""
            return (
                f"is not pinned: it takes {size_words(size_bytes)}, and the budget for pins is"
                f" {size_words(budget)}{have}; raise 'pin_budget' or see `sentinel pins`"
            )
        self._store.root.mkdir(parents=True, exist_ok=True)
        beside = self._store.root.stat().st_dev == source.root.stat().st_dev
        free, left = shutil.disk_usage(self._store.root).free, SAVES_LEFT if beside else 1
        if free < (1 + left) * size_bytes:
            return (
                f"is not pinned: it takes {size_words(size_bytes)}, and {size_words(free)} are"
                f" free in '{path_text(self._store.root)}', which must keep room for more; make"
                " room or give another 'pin_dir'"
            )
        return None

    def _taken(self) -> int:
        return sum(pin.size_bytes for pin in self._store.pins())

    def _refuse(self, source: Source, why: str) -> None:
        kind = why.partition(":")[0]
        if (source.run_id, kind) in self._noted:
            return
        self._noted.add((source.run_id, kind))
        message = f"'{path_text(source.path)}' {why}"
        self._on_note(message)
        self._tell(source, message)

    def _tell(self, source: Source, message: str, *, pin: Pin | None = None) -> None:
        detail = {} if pin is None else {"pin": str(pin.path), "size_bytes": pin.size_bytes}
        self._teller_of(source.run_id).tell(
            "action",
            message,
            attempt=source.attempt,
            about=("pin", source.checkpoint_id),
            checkpoint_id=source.checkpoint_id,
            detail=detail,
            aloud=False,
        )


def _surplus(pins: list[Pin], reach: Mapping[int, float], count: int) -> list[Pin]:
    """Return the pins of all but ``count`` saves, in the order in which they may go.

    Those of other lines first. A save may be several checkpoints: sd-scripts writes a file and a
    directory of state for one step.
    """
    ordered = sorted(pins, key=lambda pin: _in_line(pin, reach))
    saves = list(dict.fromkeys(_save_of(pin) for pin in reversed(ordered)))
    return [pin for pin in ordered if _save_of(pin) not in saves[:count]]


def _save_of(pin: Pin) -> tuple[int, int | str]:
    step = pin.manifest.step
    return (pin.manifest.attempt, pin.manifest.checkpoint_id if step is None else step)


def _in_line(pin: Pin, reach: Mapping[int, float]) -> bool:
    return pin.manifest.seq <= reach.get(pin.manifest.attempt, -1)


def _give_way() -> None:
    """Let this thread alone run at the lowest priority: Linux has one for each thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
