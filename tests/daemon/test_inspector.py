"""What must hold of judging, where a real process would be too slow: a clock that is set by hand.

Files, journal, health log and rules are the real ones; only time is not.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.daemon.arrivals import Arrived
from sentinel.daemon.inspector import Inspector
from sentinel.daemon.journal import Journal
from sentinel.daemon.runs import WatchedRuns
from sentinel.daemon.settle import Settling
from sentinel.engines.isolated import IsolatedWorker
from sentinel.health.log import HealthLog, staging_writer
from sentinel.health.reading import read_run
from sentinel.rules.load import load_rules

SETTLE_S, TORN_AFTER_S, HOLD_S = 2.0, 15.0, 30.0
EVERYTHING = Arrived(dirty=frozenset(), closed=frozenset(), rescan=True)


def _near(directory: Path) -> Arrived:
    return Arrived(dirty=frozenset({directory}), closed=frozenset(), rescan=False)


class Here:
    """A reader in the same process."""

    def call(self, fn, path):
        return fn(path)


class Desk:
    """An inspector over one directory, and what came of it."""

    def __init__(self, place: Path, rules, reader=None, writer=None) -> None:
        self.out = place / "out"
        self.out.mkdir(exist_ok=True)
        self.reader = reader or Here()
        self.now_s = 1000.0
        self.notes: list[str] = []
        self.outcomes = []
        self.journal = Journal(place / "state" / "journal.sqlite")
        self.log = HealthLog(place / "health", writer=writer)
        runs = WatchedRuns(self.journal, is_guarded=lambda _run: False, on_note=self.notes.append)
        self.inspector = Inspector(
            journal=self.journal,
            log=self.log,
            rules=rules,
            runs=runs,
            settling=Settling(
                settle_s=SETTLE_S, torn_after_s=TORN_AFTER_S, clock=lambda: self.now_s
            ),
            reader=self,
            on_note=self.notes.append,
            hold_s=HOLD_S,
            clock=lambda: self.now_s,
        )

    def call(self, fn, path):
        return self.reader.call(fn, path)

    def rescan(self) -> None:
        self.inspector.arrived(EVERYTHING, [self.out])

    def work(self):
        """One pass; what was judged in it."""
        judged = [outcome.judged for outcome in self.inspector.work()]
        self.outcomes += judged
        return [(j.step, j.level) for j in judged]

    def settle(self):
        """Work and let time pass until nothing waits; all that was judged."""
        judged = []
        for _ in range(1000):
            judged += self.work()
            wait_s = self.inspector.next_look_s()
            if wait_s is None:
                return judged
            self.now_s += wait_s
        return pytest.fail(f"{self.inspector.pending} still wait: {self.notes}")

    def look(self):
        """Look at everything until nothing waits."""
        self.rescan()
        return self.settle()

    def rules_of(self, step: int) -> set[str]:
        return {
            finding.rule
            for judged in self.outcomes
            for finding in judged.findings
            if judged.step == step
        }

    def close(self) -> None:
        self.journal.close()


@pytest.fixture(scope="module")
def rules():
    return load_rules()


@pytest.fixture
def desk(tmp_path, rules):
    """Makes desks over the same directory, journal and log: a new one is a restarted daemon."""
    made = []

    def make(asked=rules, **how) -> Desk:
        made.append(Desk(tmp_path, asked, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


# -- what is none by now ----------------------------------------------------------------------


def test_a_prepared_output_directory_is_no_torn_adapter(desk, saves):
    """Axolotl writes the adapter's description first and the model's next, before any step.

    Seen in between it looks like an adapter without weights; then it is none, and no verdict of
    `unreadable` may come of it, nor may anything wait for one.
    """
    one = desk()
    (one.out / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    one.rescan()
    assert one.work() == []
    (one.out / "config.json").write_text('{"model_type": "llama"}')

    assert one.settle() == []
    assert (one.inspector.pending, one.inspector.unjudged) == (0, 0)
    saves.folder(one.out / "checkpoint-10", 10)
    assert [step for step, _ in one.look()] == [10]


# -- readers that die --------------------------------------------------------------------------


class Killed:
    """A reader whose process is killed, for real, as often as told."""

    def __init__(self, worker: IsolatedWorker, times: int, name: str = "") -> None:
        self.worker, self.left, self.name = worker, times, name

    def call(self, fn, path):
        if self.left and self.name in path.name:
            self.left -= 1
            self.worker.call(signal.raise_signal, signal.SIGTERM)
        return fn(path)


@pytest.fixture(scope="module")
def worker():
    with IsolatedWorker() as worker:
        yield worker


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_three_deaths_are_unreadable(desk, saves, worker):
    """A file whose reading kills the worker three times is unreadable, and the next is judged."""
    one = desk(reader=Killed(worker, 99, "checkpoint-10"))
    saves.folder(one.out / "checkpoint-10", 10)
    saves.folder(one.out / "checkpoint-20", 20)

    assert one.look() == [(10, "unreadable"), (20, "healthy")]
    assert 99 - one.reader.left == 3
    assert "was killed by SIGTERM" in one.outcomes[0].findings[0].message


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_two_deaths_are_forgiven(desk, saves, worker):
    """A worker that dies twice and then answers has the last word."""
    one = desk(reader=Killed(worker, 2))
    saves.file(one.out / "cat-step00000010.safetensors", 10)

    assert one.look() == [(10, "healthy")]


# -- files that change while they are read -----------------------------------------------------


class Meanwhile:
    """A reader in the middle of whose first reading something is done to the file."""

    def __init__(self, act) -> None:
        self.act, self.readings = act, 0

    def call(self, fn, path):
        self.readings += 1

        def tick(_size_bytes):
            if self.act is not None:
                act, self.act = self.act, None
                act(path)

        return partial(fn, tick=tick)(path)


def test_truncated_while_it_is_read(desk, saves):
    """What shrinks under the reader is settled again, and called torn when it stays so."""
    one = desk(reader=Meanwhile(lambda path: os.truncate(path, path.stat().st_size - 9)))
    saves.file(one.out / "cat-step00000010.safetensors", 10)
    began_s = one.now_s

    assert one.look() == [(10, "unreadable")]
    assert one.now_s - began_s >= SETTLE_S + TORN_AFTER_S
    assert one.rules_of(10) >= {"truncated-file"}


def test_rewritten_while_it_is_read(desk, saves):
    """The numbers of two versions are nobody's: the verdict is that of what lies there after."""
    reader = Meanwhile(lambda path: saves.file(path, 10, nan=True))
    one = desk(reader=reader)
    saves.file(one.out / "cat-step00000010.safetensors", 10)

    assert one.look() == [(10, "faulty")]
    assert reader.readings == 2


def test_what_comes_while_it_is_read_is_waited_for(desk, saves):
    """A file that is written beside the weights meanwhile belongs to what is judged."""
    reader = Meanwhile(lambda path: (path / "adapter_config.json").write_text("{", "utf-8"))
    one = desk(reader=reader)
    saves.folder(one.out / "checkpoint-10", 10)

    assert [step for step, _ in one.look()] == [10]
    assert reader.readings == 2


def test_gone_while_it_is_read(desk, saves):
    """A checkpoint that is rotated away in the middle gets no verdict and no complaint."""
    one = desk(reader=Meanwhile(lambda path: path.unlink()))
    saves.file(one.out / "cat-step00000010.safetensors", 10)

    assert one.look() == []
    assert (one.notes, one.inspector.unjudged) == ([], 0)


# -- zeros are seen twice ----------------------------------------------------------------------


def test_preallocated_zeros_are_no_dead_adapter(desk, saves):
    """A file laid out in full length with zeros and filled later is never called dead."""
    one = desk()
    path = one.out / "cat-step00000010.safetensors"
    content = saves.single(10)
    header = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[:header] + bytes(len(content) - header))
    one.rescan()
    one.work()
    one.now_s += SETTLE_S

    assert one.work() == []  # settled, read once, and all zero
    path.write_bytes(content)
    assert one.settle() == [(10, "healthy")]


def test_zeros_that_stay_are_dead(desk, saves):
    """Read twice with the same result, zeros are what they are."""
    one = desk(reader=Meanwhile(None))
    saves.file(one.out / "cat-step00000010.safetensors", 10, zero=True)

    assert one.look() == [(10, "faulty")]
    assert one.rules_of(10) == {"dead-lora-up"}
    assert one.reader.readings == 2


def test_zeros_under_a_mark_are_believed(desk, saves):
    """With the layout's completion mark nobody is still writing: one reading is enough."""
    one = desk(reader=Meanwhile(None))
    saves.folder(one.out / "checkpoint-10", 10, zero=True)
    one.rescan()

    assert one.work() == [(10, "faulty")]
    assert one.reader.readings == 1


# -- one checkpoint is no other's affair -------------------------------------------------------


class Buggy:
    """A reader with a bug that one file brings out."""

    def call(self, fn, path):
        if path.name == "checkpoint-20":
            raise ZeroDivisionError("by one file")
        return fn(path)


def test_a_bug_stops_nobody_else(desk, saves):
    """An unexpected exception costs one checkpoint its verdict; it is said once, never healthy."""
    one = desk(reader=Buggy())
    for step in (10, 20, 30):
        saves.folder(one.out / f"checkpoint-{step}", step)

    assert one.look() == [(10, "healthy"), (30, "healthy")]
    assert one.look() == []
    assert one.inspector.unjudged == 1
    (note,) = one.notes
    assert "checkpoint-20" in note
    assert "ZeroDivisionError" in note


def test_what_was_given_up_comes_back(desk, saves):
    """The next look at everything tries again, and then it counts as judged."""
    one = desk(reader=Buggy())
    saves.folder(one.out / "checkpoint-20", 20)
    assert one.look() == []
    one.reader = Here()

    assert one.look() == [(20, "healthy")]
    assert one.inspector.unjudged == 0


def test_empty_directories_are_told_apart(desk):
    """Checkpoints without a single file are not taken for each other."""
    one = desk()
    for step in (10, 20):
        (one.out / f"checkpoint-{step}").mkdir()

    assert one.look() == [(10, "unreadable"), (20, "unreadable")]
    assert one.look() == []


# -- order -------------------------------------------------------------------------------------


def test_the_order_of_steps(desk, saves):
    """However they come, each run is judged by its steps."""
    one = desk()
    for step in (9, 100, 20, 3):
        saves.folder(one.out / f"checkpoint-{step}", step)

    assert [step for step, _ in one.look()] == [3, 9, 20, 100]
    assert {judged.attempt for judged in one.outcomes} == {1}


def test_a_torn_step_keeps_its_place(desk, saves):
    """A later step waits for the verdict of an earlier one, another run does not."""
    one = desk()
    (one.out / "cat-step00000010.safetensors").write_bytes(saves.single(10)[:-9])
    saves.file(one.out / "cat-step00000020.safetensors", 20)
    saves.folder(one.out / "other" / "checkpoint-7", 7)
    one.rescan()

    assert one.work() == [(7, "healthy")]
    assert one.settle() == [(10, "unreadable"), (20, "healthy")]
    assert {judged.attempt for judged in one.outcomes} == {1}


def test_nobody_waits_for_ever(desk, saves):
    """A file that never rests holds the others back for a while only."""
    one = desk()
    restless = one.out / "cat-step00000010.safetensors"
    saves.file(one.out / "cat-step00000020.safetensors", 20)
    judged, began_s = [], one.now_s
    while not judged and one.now_s < began_s + 10 * HOLD_S:
        restless.write_bytes(saves.single(10)[: int(one.now_s - began_s) - 100])
        one.rescan()
        judged = one.work()
        one.now_s += 1.0

    assert judged == [(20, "healthy")]
    assert HOLD_S <= one.now_s - began_s <= HOLD_S + 5


def test_many_settle_together(desk, saves):
    """Files without a mark settle side by side: many of them take no longer than one."""
    one = desk()
    for step in range(1, 21):
        saves.file(one.out / f"cat-step{step:08}.safetensors", step)
    began_s = one.now_s

    assert [step for step, _ in one.look()] == list(range(1, 21))
    assert one.now_s - began_s <= SETTLE_S + 0.1


# -- history -----------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
def test_history_survives_a_restart(desk, saves, restarted):
    """What came before in the lineage is looked back at, also by a daemon that just started."""
    one = desk()
    saves.folder(one.out / "checkpoint-10", 10)
    one.look()
    one = desk() if restarted else one
    saves.folder(one.out / "checkpoint-30", 30, like=10)

    assert one.look() == [(30, "faulty")]
    assert "unchanged-checkpoint" in one.rules_of(30)


def test_a_restarted_daemon_knows_what_held_and_what_came_before(desk, saves, rules):
    """Rules with `for` and tables of the past go on over restarts, out of the health log."""
    any_rule = next(rule for rule in rules if rule.id == "unknown-layout")
    good = "verdict IS NOT NULL AND weights_usable"
    asked = [
        replace(
            any_rule,
            id=name,
            table=None,
            query=query,
            where="true",
            when=when,
            facts={},
            message="{hits}",
            consecutive=in_a_row,
        )
        for name, query, when, in_a_row in (
            ("held", "SELECT 1 AS one", "true", 3),
            ("back", "SELECT * FROM past_tensors", "back = 2", 1),
            ("said", f"SELECT count(*) AS n FROM past_checkpoint WHERE {good}", "n = 2", 1),
        )
    ]
    for step in (10, 20, 30):
        one = desk(asked=asked)
        saves.folder(one.out / f"checkpoint-{step}", step)
        one.look()

    assert one.rules_of(30) == {"held", "back", "said"}


def test_history_that_is_gone(desk, saves):
    """When the checkpoint before was rotated away, the one before that is looked at."""
    one = desk()
    for step in (10, 20):
        saves.folder(one.out / f"checkpoint-{step}", step)
    one.look()
    (one.out / "checkpoint-20").rename(one.out.parent / "rotated")
    one = desk()
    saves.folder(one.out / "checkpoint-30", 30, like=10)
    one.look()

    assert "unchanged-checkpoint" in one.rules_of(30)


def test_history_that_is_another_by_now(desk, saves):
    """Other bytes under an old name are no history: they have no verdict themselves."""
    one = desk()
    path = saves.folder(one.out / "checkpoint-10", 10)
    one.look()
    restarted = desk()
    saves.folder(restarted.out / "checkpoint-30", 30, like=10)
    path.rename(one.out.parent / "old")
    saves.file(path / "adapter_model.safetensors", 10, like=10)

    restarted.inspector.arrived(_near(one.out / "checkpoint-30"), [one.out])
    assert restarted.settle() == [(30, "healthy")]


def test_a_new_attempt_has_no_history(desk, saves):
    """After a restart of the trainer the old attempt is not looked back at."""
    one = desk()
    old = [saves.folder(one.out / f"checkpoint-{step}", step) for step in (10, 20)]
    one.look()
    for path in old:
        path.rename(one.out.parent / path.name)
    saves.folder(one.out / "checkpoint-15", 15, like=10)
    one.look()

    assert [(j.attempt, j.step) for j in one.outcomes] == [(1, 10), (1, 20), (2, 15)]
    assert one.rules_of(15) == set()


def test_adapters_side_by_side(desk, saves):
    """Two runs in one directory never stand in each other's history."""
    one = desk()
    for name in ("cat", "dog"):
        saves.file(one.out / f"{name}-step00000010.safetensors", 10, like=1)
    one.look()
    saves.file(one.out / "dog-step00000020.safetensors", 20, like=5)

    assert one.look() == [(20, "healthy")]


# -- the log and the journal -------------------------------------------------------------------


class Full:
    """A disk that is full until it is not."""

    def __init__(self, root: Path) -> None:
        self.full, self.writer = True, staging_writer(root)

    @contextmanager
    def __call__(self, path):
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self.writer(path) as file:
            yield file


def test_a_full_disk_is_waited_out(desk, saves, tmp_path):
    """Said once, asked again more and more seldom, and nothing is lost when there is room."""
    disk = Full(tmp_path / "health")
    one = desk(writer=disk)
    for step in (10, 20):
        saves.folder(one.out / f"checkpoint-{step}", step)
    one.rescan()
    for _ in range(10):
        assert one.work() == []
        one.now_s += one.inspector.next_look_s()
    (note,) = one.notes
    assert note.startswith("health log")
    assert "No space left" in note
    assert "No space left" in str(one.inspector.refusal)
    assert one.now_s > 1000 + 60
    disk.full = False

    assert one.settle() == [(10, "healthy"), (20, "healthy")]
    assert one.inspector.refusal is None
    assert len(read_run(tmp_path / "health", one.outcomes[0].run_id).checkpoints) == 2


def test_judged_again_after_a_kill_before_the_journal(desk, saves, tmp_path):
    """In the log but not in the journal: judged again, under the same name, in one row."""
    one = desk()
    saves.folder(one.out / "checkpoint-10", 10)
    record, one.journal.record = one.journal.record, _killed
    one.rescan()
    with pytest.raises(KeyboardInterrupt):
        one.work()
    one.journal.record = record
    one = desk()

    assert one.look() == [(10, "healthy")]
    assert len(read_run(tmp_path / "health", one.outcomes[0].run_id).checkpoints) == 1


def _killed(*_args):
    raise KeyboardInterrupt


# -- the base under the adapters ---------------------------------------------------------------


class Noting(Here):
    """A reader that notes what it reads."""

    def __init__(self) -> None:
        self.read = []

    def call(self, fn, path):
        self.read.append(path.name)
        return fn(path)


def _on_a_base(desk, saves, steps):
    """Checkpoints on a base so small that any change explodes."""
    base = desk.out.parent / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    save_file({"a.weight": np.full((16, 16), 1e-9, np.float32)}, base / "model.safetensors")
    described = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": str(base)}
    for step in steps:
        path = saves.folder(desk.out / f"checkpoint-{step}", step)
        (path / "adapter_config.json").write_text(json.dumps(described))


def test_the_size_of_the_base_is_read_once(desk, saves):
    """It is the yardstick of every checkpoint, and comes through the reader like the others."""
    reader = Noting()
    one = desk(reader=reader)
    _on_a_base(one, saves, (10, 20))

    one.look()

    assert [one.rules_of(step) & {"norm-explosion"} for step in (10, 20)] == [
        {"norm-explosion"}
    ] * 2
    explosions = [
        finding.message
        for judged in one.outcomes
        for finding in judged.findings
        if finding.rule == "norm-explosion"
    ]
    assert all("times the base weight" in message for message in explosions)
    assert reader.read.count("model.safetensors") == 1


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_base_that_kills_the_reader_is_left_alone(desk, saves, worker):
    """The checkpoints get their verdicts without it, and it is tried once."""
    one = desk(reader=Killed(worker, 99, "model.safetensors"))
    _on_a_base(one, saves, (10, 20))

    assert one.look() == [(10, "healthy"), (20, "healthy")]
    assert 99 - one.reader.left == 1


# -- many --------------------------------------------------------------------------------------

_opened: list[str] = []
_listening: list[bool] = []


def _note_open(event, arguments):
    if _listening and event == "open":
        _opened.append(str(arguments[0]))


def test_what_is_judged_is_not_opened_again(desk, saves):
    """A look at judged checkpoints opens none of their files, also in a daemon just started."""
    one = desk()
    for step in range(1, 13):
        saves.folder(one.out / f"checkpoint-{step}", step)
    assert len(one.look()) == 12
    sys.addaudithook(_note_open)
    for known in (one, desk()):
        _opened.clear()
        _listening.append(True)
        assert known.look() == []
        if known is one:
            known.inspector.arrived(_near(one.out), [one.out])
        _listening.clear()
        assert known.inspector.pending == 0
        assert [path for path in _opened if "checkpoint-" in path] == []
