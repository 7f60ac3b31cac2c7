"""What must hold of the journal: it keeps what it was told, beside neighbours and after damage."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.daemon.journal import Journal, Judged
from sentinel.errors import StateError
from sentinel.verdict import Finding

IDENTITY = (("adapter_model.safetensors", 1, 2, 300, 4),)

FINDING = Finding(
    rule="dead-lora-up",
    severity="critical",
    message="2 of 2 matrices are still exactly 0",
    parts=("weights", "optimizer"),
    tensors=("a.lora_B.weight", "b.lora_B.weight"),
    tensor_count=2,
    remedy=MappingProxyType({"resume": {"precision": "fp32"}}),
)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "state" / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def run_id(journal, tmp_path):
    return journal.bind_run((tmp_path / "out",))


def judged(run_id: str, number: int = 1, **given) -> Judged:
    facts = {
        "checkpoint_id": f"id-{run_id[:8]}-{number}",
        "run_id": run_id,
        "attempt": 1,
        "seq": number,
        "parent": None,
        "path": Path(f"/out/checkpoint-{number}"),
        "step": number,
        "updates_done": number,
        "level": "healthy",
        "target": True,
        "findings": (),
        "settings": {},
    }
    return Judged(**(facts | given))


def identity(number: int):
    return (("adapter_model.safetensors", 1, number, 300, 4),)


# -- runs --------------------------------------------------------------------------------------


def test_a_directory_keeps_its_run(journal, tmp_path):
    """The run of a directory is the same after a restart, and another directory has another."""
    first = journal.bind_run((tmp_path / "a",))
    again = Journal(tmp_path / "state" / "journal.sqlite")

    assert again.bind_run((tmp_path / "a",)) == first
    assert again.bind_run((tmp_path / "b",)) != first
    again.close()


def test_a_run_moves_to_a_new_directory(journal, tmp_path):
    """Given with the old directory the new one joins its run, and from then on stands for it."""
    first = journal.bind_run((tmp_path / "old",))

    assert journal.bind_run((tmp_path / "old", tmp_path / "new")) == first
    assert journal.bind_run((tmp_path / "new",)) == first
    assert journal.runs() == {first: (tmp_path / "old", tmp_path / "new")}


def test_two_runs_are_never_merged(journal, tmp_path):
    """Directories of two runs are refused in one sentence, and nothing is bound."""
    journal.bind_run((tmp_path / "a",))
    journal.bind_run((tmp_path / "b",))
    before = journal.runs()

    with pytest.raises(StateError, match="belong to different runs"):
        journal.bind_run((tmp_path / "a", tmp_path / "c", tmp_path / "b"))

    assert journal.runs() == before


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need a right on Windows")
def test_a_link_is_no_other_run(journal, tmp_path):
    """A directory has one run, whether it is called by its name, a link or a detour."""
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    run_id = journal.bind_run((tmp_path / "out",))

    assert journal.bind_run((tmp_path / "link",)) == run_id
    assert journal.bind_run((tmp_path / "x" / ".." / "out",)) == run_id


@pytest.mark.skipif(os.name != "posix", reason="Windows names are text")
def test_names_that_are_no_text(journal, run_id):
    """A directory or checkpoint whose name is no UTF-8 is kept and found like any other."""
    strange = Path(os.fsdecode(b"/out/caf\xe9"))
    other = journal.bind_run((strange,))
    moved = Path(os.fsdecode(b"/aside/caf\xe9"))
    journal.record(judged(run_id, path=strange), IDENTITY)
    journal.quarantined(judged(run_id).checkpoint_id, moved)

    assert journal.bind_run((strange,)) == other
    assert journal.runs()[other] == (strange,)
    (found,) = journal.judged(run_id)
    assert (found.path, found.quarantined_to) == (strange, moved)


# -- attempts ----------------------------------------------------------------------------------


def test_an_attempt_from_plan_to_end(journal, run_id):
    """Planned, started and ended are each written down, with command, plan and process."""
    planned = journal.plan_attempt(run_id, parent="p", command=("a", "b"), plan={"target": "p"})
    journal.attempt_started(planned, pid=7, pid_started=1.25)
    started = journal.last_attempt(run_id)
    journal.attempt_ended(planned, exit_code=3, outcome="faulty")
    ended = journal.last_attempt(run_id)

    assert (planned.attempt, planned.state) == (1, "planned")
    assert started == replace(planned, state="started", pid=7, pid_started=1.25)
    assert ended == replace(started, state="ended", exit_code=3, outcome="faulty")
    assert journal.attempts(run_id) == (ended,)


def test_a_planned_attempt_is_planned_once(journal, run_id):
    """Planning again after a kill gives the attempt that was planned and not started."""
    first = journal.plan_attempt(run_id, parent=None, command=("a",), plan=None)
    again = journal.plan_attempt(run_id, parent="other", command=("b",), plan=None)

    assert again == first
    assert len(journal.attempts(run_id)) == 1


def test_attempts_count_up(journal, run_id):
    """Each start is the next attempt, whoever made it."""
    first = journal.plan_attempt(run_id, parent=None, command=("a",), plan=None)
    journal.attempt_started(first, pid=1, pid_started=1.0)
    second = journal.open_attempt(run_id, parent="p")
    third = journal.open_attempt(run_id, parent=None)

    assert [a.attempt for a in journal.attempts(run_id)] == [1, 2, 3]
    assert (second.parent, third.parent) == ("p", None)


# -- judged checkpoints ------------------------------------------------------------------------


def test_findings_survive(journal, run_id):
    """A finding comes back equal to what the rule found, remedy and tuples included."""
    told = judged(run_id, findings=(FINDING,), level="faulty", target=False, loss=2.5)
    journal.record(told, IDENTITY)

    (found,) = journal.judged(run_id)
    assert found == told
    assert isinstance(found.findings[0].tensors, tuple)


@settings(max_examples=30, deadline=None)
@given(
    text=st.text(),
    step=st.none() | st.integers(0, 2**62),
    numbers=st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    ),
)
def test_anything_survives(tmp_path_factory, text, step, numbers):
    """Whatever a checkpoint's files hold, what was recorded is what is read."""
    journal = Journal(tmp_path_factory.mktemp("state") / "journal.sqlite")
    run_id = journal.bind_run((Path("/out"),))
    found = replace(FINDING, message=text, tensors=(text,), remedy=numbers)
    told = judged(run_id, step=step, findings=(found,), settings=numbers)
    journal.record(told, IDENTITY)

    assert journal.judged(run_id) == (told,)
    journal.close()


def test_judged_once(journal, run_id, tmp_path):
    """The same files are known again in their own run only, and a changed file is another."""
    journal.record(judged(run_id), IDENTITY)
    other = journal.bind_run((tmp_path / "other",))

    assert journal.is_judged(run_id, IDENTITY)
    assert not journal.is_judged(other, IDENTITY)
    assert not journal.is_judged(run_id, (("adapter_model.safetensors", 1, 2, 300, 5),))


def test_recorded_twice_is_recorded_once(journal, run_id):
    """A repeat after a kill replaces its own row and takes no other number."""
    journal.record(judged(run_id), IDENTITY)
    journal.record(judged(run_id), IDENTITY)

    assert len(journal.judged(run_id)) == 1
    assert journal.next_seq(run_id) == 2


def test_what_an_attempt_holds(journal, run_id):
    """Attempts are read apart: their checkpoints, the newest of them, the highest step."""
    for number, (attempt, step) in enumerate([(1, 10), (1, 20), (2, 10), (1, None)], start=1):
        journal.record(judged(run_id, number, attempt=attempt, step=step), identity(number))

    assert [j.seq for j in journal.judged(run_id)] == [1, 2, 3, 4]
    assert [j.seq for j in journal.judged(run_id, 1)] == [1, 2, 4]
    assert [j.seq for j in journal.newest(run_id, 1, limit=2)] == [4, 2]
    assert journal.highest_step(run_id, 1) == (20, {Path("/out/checkpoint-2")})
    assert journal.highest_step(run_id, 3) == (None, frozenset())
    assert journal.checkpoint(judged(run_id, 3).checkpoint_id).attempt == 2
    assert journal.checkpoint("unknown") is None


def test_the_loss_before_an_attempt(journal, run_id):
    """The last known loss of earlier attempts, never that of the attempt itself."""
    for number, loss in enumerate([2.0, None, 1.0], start=1):
        attempt = 2 if loss == 1.0 else 1
        journal.record(judged(run_id, number, attempt=attempt, loss=loss), identity(number))

    assert journal.loss_before(run_id, 2) == 2.0
    assert journal.loss_before(run_id, 1) is None


# -- actions -----------------------------------------------------------------------------------


def test_actions_are_intended_once(journal, run_id):
    """An action that was begun keeps its first detail, and one that is done stays done."""
    first = journal.intend(run_id, "quarantine", "c1", {"to": "x"})
    again = journal.intend(run_id, "quarantine", "c1", {"to": "y"})
    journal.done(first, {"moved": True})
    after = journal.intend(run_id, "quarantine", "c1", {"to": "z"})

    assert again == first
    assert (after.state, after.detail) == ("done", {"to": "x", "moved": True})


def test_open_actions_in_order(journal, run_id, tmp_path):
    """What is half done is listed oldest first, by run and kind."""
    other = journal.bind_run((tmp_path / "other",))
    for owner, kind, key in [
        (run_id, "quarantine", "b"),
        (run_id, "quarantine", "a"),
        (run_id, "repair", "1"),
        (other, "quarantine", "c"),
    ]:
        journal.intend(owner, kind, key, {})
    journal.done(journal.action(run_id, "quarantine", "b"))

    assert [action.key for action in journal.open_actions(run_id, "quarantine")] == ["a"]
    assert journal.action(run_id, "quarantine", "nothing") is None


# -- files that are not well -------------------------------------------------------------------


def test_a_newer_journal_is_refused_untouched(tmp_path):
    """A journal of a later sentinel is neither read nor changed."""
    path = tmp_path / "journal.sqlite"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.execute("CREATE TABLE run (other TEXT)")
    database.close()
    before = path.read_bytes()

    with pytest.raises(StateError, match=r"newer sentinel \(version 99, known 1\)"):
        Journal(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all, but long enough\n" * 99, b"x" * 4096])
def test_a_broken_file_is_one_sentence(tmp_path, content):
    """What is no SQLite is a StateError that says what to do, and the file stays as it is."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)

    with pytest.raises(StateError, match="move it away"):
        Journal(path)

    assert path.read_bytes() == content


def test_a_damaged_page_is_one_sentence(tmp_path):
    """Damage that is met only later is a StateError as well."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    run_id = journal.bind_run((Path("/out"),))
    for number in range(1, 200):
        journal.record(judged(run_id, number, findings=(FINDING,)), identity(number))
    journal.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))

    with pytest.raises(StateError, match=r"journal\.sqlite"):  # noqa: PT012 - either may meet it
        journal = Journal(path)
        journal.judged(run_id)


def test_a_place_that_cannot_be_written(tmp_path):
    """A file where the state directory should be is a StateError."""
    (tmp_path / "state").write_text("a file")

    with pytest.raises(StateError, match="cannot be used"):
        Journal(tmp_path / "state" / "journal.sqlite")


@pytest.mark.skipif(os.name != "posix", reason="POSIX limits")
def test_a_full_disk_is_one_sentence_and_passes(tmp_path):
    """A write that the disk refuses is a StateError; nothing is half written, and it goes on."""
    resource = pytest.importorskip("resource")
    journal = Journal(tmp_path / "journal.sqlite")
    run_id = journal.bind_run((Path("/out"),))
    big = judged(run_id, findings=(replace(FINDING, message="x" * 3_000_000),))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(StateError, match="cannot be used"):
            journal.record(big, IDENTITY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert journal.judged(run_id) == ()
    journal.record(big, IDENTITY)
    assert len(journal.judged(run_id)) == 1
    journal.close()


# -- neighbours --------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from sentinel.daemon.journal import Journal, Judged

path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
journal = Journal(path)
shared = journal.bind_run((Path("/shared"),))
mine = journal.bind_run((Path("/" + name),))
for number in range(1, count + 1):
    journal.record(
        Judged(
            checkpoint_id=f"{name}-{number}", run_id=mine, attempt=1, seq=journal.next_seq(mine),
            parent=None, path=Path(f"/{name}/{number}"), step=number, updates_done=None,
            level="healthy", target=True, findings=(), settings={},
        ),
        ((name, 1, number, 1, 1),),
    )
    journal.intend(shared, "quarantine", f"{name}-{number}", {"by": name})
print(shared, mine)
"""


def test_two_writers_lose_nothing(tmp_path):
    """Two processes that open a journal and write at the same time: all of both is there."""
    path, count = tmp_path / "state" / "journal.sqlite", 60
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.communicate(timeout=60)[0].split() for writer in writers]

    assert [writer.returncode for writer in writers] == [0, 0]
    assert said[0][0] == said[1][0]
    journal = Journal(path)
    for _shared, mine in said:
        assert [j.seq for j in journal.judged(mine)] == list(range(1, count + 1))
    assert len(journal.open_actions(said[0][0], "quarantine")) == 2 * count
    journal.close()
