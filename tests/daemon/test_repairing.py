"""What must hold of repairs where no process is needed: what is moved, and whence it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel.daemon.candidates import identity_or_own
from sentinel.daemon.journal import Journal, Judged
from sentinel.daemon.past import Past
from sentinel.daemon.pinned import Pinned
from sentinel.daemon.planning import Planner
from sentinel.daemon.quarantining import Quarantiner
from sentinel.daemon.repairing import Repairer, acting
from sentinel.daemon.telling import Teller
from sentinel.formats.opening import open_checkpoint
from sentinel.health.log import HealthLog
from sentinel.repairs.asking import Asked
from sentinel.repairs.pin_copy import Source, files_of, take
from sentinel.repairs.pins import PinStore
from sentinel.repairs.recipes import Recipe
from sentinel.verdict import Finding

NAN = Finding(rule="nan-values", severity="critical", message="2 of 4 tensors hold NaN")


class Repairs:
    """One run's repairer, and checkpoints that are recorded as judged."""

    def __init__(
        self, place: Path, saves, *, roots: tuple[str, ...] = ("out",), resume=None
    ) -> None:
        self.place, self.saves = place, saves
        self.journal = Journal(place / "state" / "journal.sqlite")
        self.run_id = self.journal.bind_run((place / "out",))
        self.told: list[str] = []
        log = HealthLog(place / "health")
        teller = Teller(
            log, self.run_id, lambda event: self.told.append(event.message), on_note=print
        )
        self.pins = PinStore(place / "pins")
        self.quarantiner = Quarantiner(
            run_id=self.run_id,
            roots=[place / root for root in roots],
            journal=self.journal,
            teller=teller,
            shared=(resume or {}).get("shared", ""),
        )
        self.repairer = Repairer(
            run_id=self.run_id,
            journal=self.journal,
            teller=teller,
            planner=Planner(
                Recipe.model_validate(
                    {"id": "toy", "title": "Toy", "resume": resume or {"keep": {}}}
                ),
                roots=tuple(place / root for root in roots),
                asked=Asked(begins="latest"),
            ),
            act_on=frozenset(),
            max_attempts=4,
            pinned=Pinned(self.pins, teller),
        )
        self.past = Past(self.journal, self.run_id)

    def attempt(self, parent: Judged | None = None, *, plan=None):
        given = None if parent is None else parent.checkpoint_id
        attempt = self.journal.plan_attempt(self.run_id, parent=given, command=("toy",), plan=plan)
        self.journal.attempt_started(attempt, pid=1, pid_started=1.0)
        return attempt

    def judged(
        self, attempt: int, step: int, *, faulty: bool = False, under: str = "out"
    ) -> Judged:
        path = self.place / under / f"checkpoint-{step}"
        if not path.exists():
            self.saves.folder(path, step)
        seq = self.journal.next_seq(self.run_id)
        judged = Judged(
            checkpoint_id=f"{attempt:04}-{seq:04}",
            run_id=self.run_id,
            attempt=attempt,
            seq=seq,
            parent=None,
            path=path,
            step=step,
            updates_done=step,
            level="faulty" if faulty else "healthy",
            target=not faulty,
            findings=(NAN,) if faulty else (),
            settings={},
        )
        self.journal.record(judged, identity_or_own(path, open_checkpoint(path).members))
        return judged

    def pin(self, judged: Judged) -> Path:
        """Pin a checkpoint as the daemon does."""
        source = Source.of(
            open_checkpoint(judged.path),
            run_id=self.run_id,
            attempt=judged.attempt,
            checkpoint_id=judged.checkpoint_id,
            seq=judged.seq,
        )
        return take(self.pins, source, files_of(source), stopped=lambda: False).path

    def replace(self, path: Path) -> None:
        """Let another checkpoint be written under the same name."""
        path.rename(self.place / f"old-{path.name}")
        self.saves.folder(path, 1)

    def steps(self, attempt) -> list[tuple[int, int | None]]:
        return [(judged.attempt, judged.step) for judged in self.past.lineage(attempt)]


@pytest.fixture
def repairs(tmp_path, saves):
    made = []

    def make(**how) -> Repairs:
        made.append(Repairs(tmp_path, saves, **how))
        return made[-1]

    yield make
    for one in made:
        one.journal.close()


# -- lineage --------------------------------------------------------------------------------------


def test_lineage_goes_through_parents(repairs):
    """An attempt goes back to what came up to its parent, and to nothing that came after that."""
    one = repairs()
    one.attempt()
    ten, _twenty = one.judged(1, 10), one.judged(1, 20)
    one.attempt(ten)
    thirty = one.judged(2, 30)
    third = one.attempt(thirty)
    one.judged(3, 40)

    assert one.steps(third) == [(1, 10), (2, 30), (3, 40)]


def test_lineage_from_the_start(repairs):
    """An attempt that began at step 0 has no forebears."""
    one = repairs()
    one.attempt()
    one.judged(1, 10)
    second = one.attempt()
    one.judged(2, 20)

    assert one.steps(second) == [(2, 20)]


def test_lineage_from_before_the_first_start(repairs):
    """What lay there before sentinel came is attempt 0, and may be a parent."""
    one = repairs()
    ten, _ = one.judged(0, 10), one.judged(0, 20)
    first = one.attempt(ten)

    assert one.steps(first) == [(0, 10)]


def test_only_what_still_lies_there(repairs):
    """Rotated away, quarantined or written over: not to be begun from."""
    one = repairs()
    first = one.attempt()
    gone, moved, replaced, _kept = (one.judged(1, step) for step in (10, 20, 30, 40))
    gone.path.rename(one.place / "gone")
    one.journal.quarantined(moved.checkpoint_id, moved.path.rename(one.place / "quarantine"))
    one.replace(replaced.path)
    newer = one.judged(2, 30)

    assert one.steps(first) == [(1, 40)]
    assert [j.checkpoint_id for j in one.past.on_disk() if j.step == 30] == [newer.checkpoint_id]


# -- quarantine -----------------------------------------------------------------------------------


def test_the_faulty_one_is_moved_once(repairs):
    """Out of the directory, beside it; told, written down, and not done twice."""
    one = repairs()
    attempt = one.attempt()
    faulty = one.judged(1, 10, faulty=True)
    for _ in range(2):
        one.quarantiner.move_away(attempt, [faulty])

    place = one.place / ".sentinel-quarantine" / faulty.checkpoint_id / "checkpoint-10"
    assert place.is_dir()
    assert not faulty.path.exists()
    assert one.journal.checkpoint(faulty.checkpoint_id).quarantined_to == place
    assert len(one.told) == 1


def shared(repairs) -> Repairs:
    """A run of a trainer that keeps one optimizer state beside its saves, the newest one's."""
    one = repairs(resume={"into": "new", "drop": {}, "shared": "optimizer.pt"})
    (one.place / "out").mkdir()
    (one.place / "out" / "optimizer.pt").write_bytes(b"moments")
    return one


def test_a_shared_state_goes_with_the_newest_save(repairs):
    """ai-toolkit would load the faulty save's moments with the good one that is left."""
    one = shared(repairs)
    attempt = one.attempt()
    one.judged(1, 10)
    faulty = one.judged(1, 20, faulty=True)
    for _ in range(2):
        one.quarantiner.move_away(attempt, [faulty])

    moved = one.place / ".sentinel-quarantine" / f"{faulty.checkpoint_id}-optimizer.pt"
    assert (moved / "optimizer.pt").read_bytes() == b"moments"
    assert json.loads((moved / "receipt.json").read_text())["rules"] == ["nan-values"]
    assert not (one.place / "out" / "optimizer.pt").exists()
    assert one.journal.checkpoint(faulty.checkpoint_id).quarantined_to.name == "checkpoint-20"
    assert len(one.told) == 2


def test_a_shared_state_stays_with_a_newer_save(repairs):
    """It belongs to what was saved last, whatever came before."""
    one = shared(repairs)
    attempt = one.attempt()
    faulty = one.judged(1, 10, faulty=True)
    one.judged(1, 20)
    one.quarantiner.move_away(attempt, [faulty])

    assert (one.place / "out" / "optimizer.pt").exists()


def test_a_shared_state_written_anew_is_not_moved(repairs, monkeypatch):
    """Begun before a kill, and meanwhile the trainer ran without sentinel: said, and left alone."""
    one = shared(repairs)
    attempt = one.attempt()
    faulty = one.judged(1, 20, faulty=True)
    with monkeypatch.context() as patched:
        patched.setattr("sentinel.daemon.quarantining.Quarantiner._carry_out", lambda *_: None)
        one.quarantiner.move_away(attempt, [faulty])
    (one.place / "out" / "optimizer.pt").write_bytes(b"other moments")
    one.quarantiner.finish()

    assert (one.place / "out" / "optimizer.pt").read_bytes() == b"other moments"
    assert not faulty.path.exists()
    assert any("is not the one that was judged faulty" in message for message in one.told)


def test_never_below_a_directory_of_the_trainers(repairs):
    """Of nested directories the outermost counts: beside the inner one a trainer still looks."""
    one = repairs(roots=("out/lora", "out"))
    attempt = one.attempt()
    faulty = one.judged(1, 10, faulty=True, under="out/lora")
    one.quarantiner.move_away(attempt, [faulty])

    assert (one.place / ".sentinel-quarantine" / faulty.checkpoint_id).is_dir()
    assert not (one.place / "out" / ".sentinel-quarantine").exists()


def test_another_checkpoint_under_the_name_is_not_moved(repairs):
    """Begun before a kill, and meanwhile a trainer wrote there again: said, and left alone."""
    one = repairs()
    attempt = one.attempt()
    faulty = one.judged(1, 10, faulty=True)
    one.replace(faulty.path)
    one.quarantiner.move_away(attempt, [faulty])

    assert faulty.path.is_dir()
    assert "is not the one that was judged faulty" in one.told[0]
    assert one.journal.open_actions(one.run_id, "quarantine") == ()


# -- plans ----------------------------------------------------------------------------------------


def test_no_restart_into_the_fault(repairs):
    """Nothing good to name, and the trainer would take the faulty one by itself: given up."""
    one = repairs()
    attempt = one.attempt()
    faulty = one.judged(1, 10, faulty=True)
    (one.place / ".sentinel-quarantine").write_text("a file in the way")
    one.quarantiner.move_away(attempt, [faulty])

    plan = one.repairer.plan(attempt, [faulty])

    assert isinstance(plan, str)
    assert "would begin from" in plan
    assert faulty.path.is_dir()


PLAN = {
    "rules": ("nan-values",),
    "target": None,
    "target_path": None,
    "target_step": 0,
    "precision": "fp32",
    "optimizer": "drop",
    "reason": "because",
    "steps_lost": 10,
}


def test_a_lost_attempt_goes_on_in_the_repaired_precision(repairs):
    """Cut off after a good checkpoint: from there, with its optimizer state."""
    one = repairs()
    one.attempt()
    lost = one.attempt(one.judged(1, 10), plan=PLAN)
    twenty = one.judged(2, 20)

    plan = one.repairer.continue_plan(lost)

    assert (plan.target, plan.precision, plan.optimizer) == (twenty.checkpoint_id, "fp32", "keep")


def test_a_lost_attempt_without_a_checkpoint_begins_once_more(repairs):
    """Cut off before its first checkpoint: as planned, the old optimizer state left out."""
    one = repairs()
    one.attempt()
    ten = one.judged(1, 10)
    lost = one.attempt(ten, plan=PLAN)

    plan = one.repairer.continue_plan(lost)
    assert (plan.target, plan.precision, plan.optimizer) == (ten.checkpoint_id, "fp32", "drop")

    ten.path.rename(one.place / "gone")
    plan = one.repairer.continue_plan(lost)
    assert (plan.target, plan.precision, plan.target_step) == (None, "fp32", 0)
    assert one.repairer.continue_plan(one.journal.attempts(one.run_id)[0]) is None


# -- what is acted on -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "safety", "named", "acts"),
    [
        ("critical", "certain", False, True),
        ("critical", "likely", False, False),
        ("critical", "likely", True, True),
        ("warning", "likely", False, False),
        ("warning", "likely", True, True),
        ("warning", "certain", False, False),
        ("info", "likely", True, False),
    ],
)
def test_what_sentinel_acts_on(repairs, severity, safety, named, acts):
    """By itself on what is certain and critical; on a doubt where the user's policy names it."""
    one = repairs()
    one.attempt()
    found = Finding("a-rule", severity, "text", safety=safety)
    judged = replace(one.judged(1, 10), findings=(found,))

    assert acting(judged.findings, frozenset({"a-rule"} if named else ())) == (
        (found,) if acts else ()
    )


def test_the_loss_to_compare_with_is_one_that_was_real(repairs):
    """The newest of a checkpoint that is not faulty; a loss of exactly 0 hides a NaN."""
    one = repairs()
    one.attempt()
    losses = [(10, 2.5, False), (20, 2.25, False), (30, 9.0, True), (40, 0.0, True)]
    for step, loss, faulty in losses:
        found = replace(one.judged(1, step, faulty=faulty), loss=loss)
        one.journal.record(found, ((str(step), 1, 1),))

    assert one.journal.loss_before(one.run_id, 2) == 2.25


def test_failures_in_a_row_begin_anew_after_progress(repairs):
    """An attempt that wrote something to resume from was no failure in a row with those before."""
    made = repairs()
    counted = []
    for number, steps in enumerate(((), (), (10,), ()), 1):
        attempt = made.attempt(plan={"rules": ["nan-values"]} if number > 1 else None)
        for step in steps:
            made.judged(attempt.attempt, step)
        made.judged(attempt.attempt, 90 + number, faulty=True)
        counted.append(made.repairer.failures(attempt))

    assert counted == [1, 2, 1, 2]


# -- pins -----------------------------------------------------------------------------------------


def _rotated(one: Repairs, *steps: int) -> tuple[list[Judged], list[Path]]:
    """Checkpoints that were judged, pinned, and rotated away by the trainer."""
    judged = [one.judged(1, step) for step in steps]
    pins = [one.pin(good) for good in judged]
    for good in judged:
        good.path.rename(one.place / f"rotated-{good.step}")
    return judged, pins


def test_the_plan_begins_from_the_pin_of_what_was_rotated_away(repairs):
    """The pin's path is the target's, and the reason says so."""
    one = repairs()
    attempt = one.attempt()
    (_, twenty), (_, pin) = _rotated(one, 10, 20)
    faulty = one.judged(1, 30, faulty=True)

    plan = one.repairer.plan(attempt, [faulty])

    assert (plan.target, plan.target_path) == (twenty.checkpoint_id, str(pin))
    assert "resume from step 20" in plan.reason
    assert "from its pin, since the original is gone" in plan.reason


def test_what_still_lies_there_is_begun_from_itself(repairs):
    """A pin is only for what is gone."""
    one = repairs()
    attempt = one.attempt()
    ten = one.judged(1, 10)
    one.pin(ten)

    plan = one.repairer.plan(attempt, [one.judged(1, 20, faulty=True)])

    assert plan.target_path == str(ten.path)
    assert "pin" not in plan.reason


def test_a_name_that_was_written_again_does_not_hide_the_pin(repairs):
    """The trainer wrote another checkpoint under the target's name: the pin is still the target."""
    one = repairs()
    attempt = one.attempt()
    (ten,), (pin,) = _rotated(one, 10)
    one.saves.folder(ten.path, 10, nan=True)
    again = one.judged(1, 10, faulty=True)

    plan = one.repairer.plan(attempt, [again])

    assert (plan.target, plan.target_path) == (ten.checkpoint_id, str(pin))


def test_a_damaged_pin_is_said_and_the_one_before_taken(repairs):
    """Its digests are compared before anything begins from it."""
    one = repairs()
    attempt = one.attempt()
    (ten, _), (_, pin) = _rotated(one, 10, 20)
    weights = pin / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    plan = one.repairer.plan(attempt, [one.judged(1, 30, faulty=True)])

    assert plan.target == ten.checkpoint_id
    assert any("is not what was pinned" in told for told in one.told)


def test_a_start_from_a_faulty_choice_begins_from_a_pin(repairs):
    """The user names a faulty checkpoint and everything before it was rotated away."""
    one = repairs()
    one.attempt()
    (ten,), (pin,) = _rotated(one, 10)
    chosen = one.judged(1, 20, faulty=True)

    plan = one.repairer.plan_before_start(chosen)

    assert (plan.target, plan.target_path) == (ten.checkpoint_id, str(pin))


def test_a_lost_attempt_goes_on_from_a_pin(repairs):
    """Cut off, and what it had written is gone: from its pin, in the repaired precision."""
    one = repairs()
    lost = one.attempt(plan=PLAN)
    (ten,), (pin,) = _rotated(one, 10)

    plan = one.repairer.continue_plan(lost)

    assert (plan.target, plan.target_path, plan.precision) == (ten.checkpoint_id, str(pin), "fp32")
    assert "from its pin" in plan.reason


def test_a_faulty_checkpoint_that_was_brought_back_counts_as_faulty(repairs):
    """The user moved it back out of the quarantine: a start from it is still one from a fault."""
    one = repairs()
    attempt = one.attempt()
    faulty = one.judged(1, 10, faulty=True)
    one.quarantiner.move_away(attempt, [faulty])
    assert one.past.on_disk() == []
    one.journal.checkpoint(faulty.checkpoint_id).quarantined_to.rename(faulty.path)

    assert [judged.checkpoint_id for judged in one.past.on_disk()] == [faulty.checkpoint_id]
