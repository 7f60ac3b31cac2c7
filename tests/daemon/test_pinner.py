"""What must hold of what is pinned: the newest good ones of a line, within what was allowed."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest

from sentinel.daemon import pinning as pinning_module
from sentinel.daemon.journal import Journal, Judged
from sentinel.daemon.pin_offers import PinOffers, worth_pinning
from sentinel.daemon.pinning import Pinner, PinSettings
from sentinel.daemon.telling import Teller
from sentinel.formats.opening import open_checkpoint
from sentinel.health.log import HealthLog
from sentinel.health.reading import read_run
from sentinel.repairs.pin_copy import Source
from sentinel.repairs.pins import PinStore, check
from sentinel.verdict import Finding

EVERYTHING = 10**12


class Pins:
    """One run's pinner, and what it told."""

    def __init__(self, place: Path, saves) -> None:
        self.place, self.saves = place, saves
        self.journal = Journal(place / "state" / "journal.sqlite")
        self.run_id = self.journal.bind_run((place / "out",))
        self.store = PinStore(place / "state" / "pins")
        self.notes: list[str] = []
        self.heard: list[object] = []
        self.pinner: Pinner | None = None

    def open(self, *, budget_bytes: int = EVERYTHING, count: int = 2) -> Pinner:
        log = HealthLog(self.place / "health")
        teller = Teller(log, self.run_id, self.heard.append, on_note=self.notes.append)
        self.pinner = Pinner(
            self.store,
            PinSettings(budget_bytes, count),
            teller_of=lambda _: teller,
            on_note=self.notes.append,
        )
        return self.pinner

    def offer(self, step: int, *, attempt: int = 1, reach=None, wait: bool = True) -> Source:
        path = self.place / "out" / f"checkpoint-{step}"
        if not path.exists():
            self.saves.folder(path, step)
        source = Source.of(
            open_checkpoint(path),
            run_id=self.run_id,
            attempt=attempt,
            checkpoint_id=f"{attempt:04}-{step:04}",
            seq=attempt * 1000 + step,
        )
        self.pinner.offer(source, reach=reach or {attempt: math.inf})
        if wait:
            self.pinner.finish()
        return source

    def steps(self) -> list[int]:
        return [pin.manifest.step for pin in self.store.pins(self.run_id)]

    def told(self) -> list[str]:
        """The events in the log."""
        return [event.message for event in read_run(self.place / "health", self.run_id).events]

    @property
    def one_bytes(self) -> int:
        """How much one pin takes."""
        return self.store.pins()[0].size_bytes


@pytest.fixture
def pins(tmp_path, saves):
    one = Pins(tmp_path, saves)
    yield one
    if one.pinner is not None:
        one.pinner.close()
    one.journal.close()


def test_the_newest_are_kept(pins):
    """Two of five; each is whole, and each was told."""
    pins.open()
    for step in (10, 20, 30, 40, 50):
        pins.offer(step)

    assert pins.steps() == [40, 50]
    for pin in pins.store.pins():
        check(pin)
    assert len([told for told in pins.told() if told.startswith("pinned ")]) == 5
    assert pins.heard == []
    assert pins.notes == []


def test_the_older_goes_only_when_the_newer_is_whole(pins):
    """A newer one that cannot be pinned leaves the older one where it is."""
    pins.open(count=1)
    pins.offer(10)
    source = pins.offer(20, wait=False)
    source.path.rename(source.path.with_name("gone"))
    pins.pinner.finish()
    held = pins.steps()

    pins.offer(30)

    assert held in ([10], [20])  # whichever was quicker, the move or the copy
    assert pins.steps() == [30]


def test_a_pin_of_another_line_goes_first(pins):
    """After a resume from step 10 the pin of step 20 is no ancestor, newer though it is."""
    pins.open()
    pins.offer(10)
    pins.offer(20)
    pins.offer(30, attempt=2, reach={1: 1010, 2: math.inf})

    assert pins.steps() == [10, 30]


def test_what_one_save_wrote_counts_as_one(pins):
    """sd-scripts writes a file and a directory of state for each step: of one step, both."""
    pins.open()
    for step in (10, 20, 30):
        pins.offer(step)
        file = pins.saves.file(pins.place / "out" / f"cat-step{step:08}.safetensors", step)
        source = Source.of(
            open_checkpoint(file),
            run_id=pins.run_id,
            attempt=1,
            checkpoint_id=f"0002-{step:04}",
            seq=1001 + step,
        )
        pins.pinner.offer(source, reach={1: math.inf})
        pins.pinner.finish()

    assert pins.steps() == [20, 20, 30, 30]


def test_over_budget_is_said_once(pins):
    """Not a single one fits: one sentence with the numbers and the way out, and no pin."""
    pins.open(budget_bytes=100)
    for step in (10, 20, 30):
        pins.offer(step)

    assert pins.steps() == []
    (note,) = pins.notes
    assert "the budget for pins is 100 B" in note
    assert "pin_budget" in note


def test_a_tight_budget_keeps_the_newest_and_no_more(pins):
    """Room for two and one being made: the older goes early, one whole pin is there always."""
    pins.open()
    pins.offer(10)
    size = pins.one_bytes
    pins.pinner.close()
    pins.open(budget_bytes=int(2.5 * size))
    for step in (20, 30, 40):
        pins.offer(step)
        assert step in pins.steps()

    assert pins.steps() == [30, 40]
    assert pins.notes == []


def test_the_budget_counts_the_pins_of_all_runs(pins, tmp_path):
    """Of another run nothing is dropped to make room; it is said how much is taken."""
    pins.open()
    pins.offer(10)
    size = pins.one_bytes
    pins.pinner.close()
    pins.run_id = pins.journal.bind_run((tmp_path / "elsewhere",))
    pins.open(budget_bytes=int(1.5 * size))
    pins.offer(20)

    assert [pin.manifest.step for pin in pins.store.pins()] == [10]
    (note,) = pins.notes
    assert "of it taken" in note


def test_no_room_on_the_disk_is_said(pins, monkeypatch):
    """On the trainer's own disk room for its next saves must be left."""
    monkeypatch.setattr(pinning_module, "SAVES_LEFT", 10**12)
    pins.open()
    pins.offer(10)

    assert pins.steps() == []
    (note,) = pins.notes
    assert "must keep room for more" in note


def test_closing_gives_up_at_once(pins):
    """What waits is not begun, and nothing is left of what was under way."""
    pins.open()
    for step in (10, 20, 30):
        pins.offer(step, wait=False)
    pins.pinner.close()

    assert "pinning" not in {thread.name for thread in threading.enumerate()}
    for pin in pins.store.pins():
        check(pin)
    assert not list(pins.store.root.glob("*/.*"))


def test_a_run_that_is_known_already_gets_its_pin(pins):
    """Killed before the pin was whole: the next start sweeps the rest and pins the newest."""
    pins.open()
    offers = PinOffers(pins.pinner, pins.store, pins.journal)
    for step in (10, 20):
        _record(pins, step)
    left = pins.store.root / pins.run_id / ".half.partial" / "checkpoint-20"
    left.mkdir(parents=True)

    offers.begin(pins.run_id)
    offers.finish()

    assert pins.steps() == [20]
    assert not left.exists()


@pytest.mark.parametrize(("code", "kept"), [(0, []), (1, [10]), (None, [10])])
def test_only_a_good_end_drops_the_pins(pins, code, kept):
    """A trainer that ended by itself with code 0 on a good checkpoint needs no pin any more."""
    pins.open()
    offers = PinOffers(pins.pinner, pins.store, pins.journal)
    attempt = pins.journal.plan_attempt(pins.run_id, parent=None, command=("toy",), plan=None)
    _record(pins, 10)
    pins.offer(10)
    pins.journal.attempt_ended(attempt, exit_code=code, outcome="ended")

    offers.end(pins.run_id)

    assert pins.steps() == kept


def test_only_what_a_resume_would_choose_is_worth_it():
    """Faulty, or finite with signs of divergence: the plan passes it by, and so does the pin."""
    grown = Finding(
        rule="norm-explosion", severity="warning", message="", remedy={"resume": {"from": "x"}}
    )
    disk = Finding(rule="disk-nearly-full", severity="warning", message="", scope="run")

    assert worth_pinning(_judged())
    assert worth_pinning(_judged(findings=(disk,)))
    assert not worth_pinning(_judged(findings=(grown,)))
    assert not worth_pinning(_judged(target=False))


def _judged(*, target: bool = True, findings: tuple[Finding, ...] = (), **how) -> Judged:
    given = {
        "checkpoint_id": "0001-0010",
        "run_id": "",
        "attempt": 1,
        "seq": 1,
        "parent": None,
        "path": Path("x"),
        "step": 10,
        "updates_done": 10,
        "level": "healthy",
        "settings": {},
    }
    return Judged(**(given | how), target=target, findings=findings)


def _record(pins: Pins, step: int) -> None:
    """Write down that a checkpoint was judged good."""
    path = pins.saves.folder(pins.place / "out" / f"checkpoint-{step}", step)
    source = Source.of(
        open_checkpoint(path), run_id=pins.run_id, attempt=1, checkpoint_id="x", seq=step
    )
    judged = _judged(
        checkpoint_id=f"0001-{step:04}", run_id=pins.run_id, path=path, step=step, seq=step
    )
    pins.journal.record(judged, source.lies)
