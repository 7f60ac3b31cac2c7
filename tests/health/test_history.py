from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sentinel.health.history import lineage, run_history


def made(name: str, attempt: int, step: int | None, seq: int, parent: str | None = None) -> dict:
    return {
        "checkpoint_id": name,
        "attempt": attempt,
        "step": step,
        "seq": seq,
        "parent": parent,
    }


def names(rows: list[dict], **asked: object) -> list[str]:
    return [rows[number]["checkpoint_id"] for number in lineage(rows, **asked)]


RUN = [
    made("a100", 1, 100, 1),
    made("a200", 1, 200, 2),
    made("a300", 1, 300, 3),
    made("a400", 1, 400, 4),
    made("b400", 2, 400, 5, "a300"),
    made("b500", 2, 500, 6, "a300"),
    made("c500", 3, 500, 7, "b400"),
]


def test_history_goes_back_through_the_parents():
    """After a rollback to 300, the first try's step 400 is not the history of the second's."""
    assert names(RUN, attempt=2) == ["a100", "a200", "a300", "b400", "b500"]
    assert names(RUN, attempt=3) == ["a100", "a200", "a300", "b400", "c500"]
    assert names(RUN, attempt=2, before=(500, 6)) == ["a100", "a200", "a300", "b400"]


def test_an_attempt_without_checkpoints_begins_at_its_parent():
    """The parent that the caller knows stands in for the rows that are not there yet."""
    assert names(RUN, attempt=4, parent="b500") == ["a100", "a200", "a300", "b400", "b500"]
    assert names(RUN, attempt=4) == []
    assert names(RUN, attempt=4, parent="gone") == []


def test_a_restart_with_unknown_parent_has_no_history():
    """A restart that sentinel did not make begins anew."""
    rows = [made("a100", 1, 100, 1), made("b050", 2, 50, 2)]

    assert names(rows, attempt=2, before=(50, 2)) == []


def test_a_chain_of_parents_reads_the_same():
    """Rows may name the checkpoint right before them as their parent too."""
    rows = [made("a1", 1, 1, 1), made("a2", 1, 2, 2, "a1"), made("b3", 2, 3, 3, "a1")]
    rows.append(made("b4", 2, 4, 4, "b3"))

    assert names(rows, attempt=2, parent="b4") == ["a1", "b3", "b4"]


def test_unknown_steps_stand_in_the_order_seen():
    """Without steps, seq alone tells what came before."""
    rows = [made("x", 1, None, 2), made("y", 1, None, 1)]

    assert names(rows, attempt=1, before=(-1, 2)) == ["y"]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(0, 11)), max_size=12),
    st.randoms(),
)
def test_lineage_ends_and_does_not_depend_on_the_order_of_rows(shape, random):
    """Whatever parents the rows claim, also circles, it ends, names no row twice, and shuffled
    rows give the same line.
    """
    rows = [
        made(str(number), attempt, step, number, str(parent))
        for number, (attempt, step, parent) in enumerate(shape)
    ]
    expected = names(rows, attempt=1)
    random.shuffle(rows)

    assert names(rows, attempt=1) == expected
    assert len(expected) == len(set(expected))


def test_history_brings_the_tensors_of_the_checkpoint_before(story, tmp_path):
    """The second try's step 40 is compared with step 20, not with the faulty step 40."""
    story.write_story(tmp_path)

    history = run_history(tmp_path, story.RUN, attempt=2, before=(40, 41))

    assert history.checkpoints["step"].to_pylist() == [20]
    norms = dict(
        zip(*(history.tensors[name].to_pylist() for name in ("tensor", "l2")), strict=True)
    )
    assert norms == {story.UP: 20.5, story.DOWN: 1.5}


def test_a_checkpoint_without_tensors_is_stepped_over(story, tmp_path):
    """An unreadable checkpoint is in the line, the tensors come from the one before it."""
    log = story.write_story(tmp_path)
    log.append(story.row(50, attempt=2, seq=50, verdict="unreadable"), None)

    history = run_history(tmp_path, story.RUN, attempt=2)

    assert history.checkpoints["step"].to_pylist() == [20, 40, 50]
    assert set(history.tensors["l2"].to_pylist()) == {41.5, 1.5}


def test_a_run_nobody_knows_has_no_history(story, tmp_path):
    """Empty tables with all columns, also from a log that does not exist."""
    history = run_history(tmp_path, story.RUN, attempt=1)

    assert (history.checkpoints.num_rows, history.tensors.num_rows) == (0, 0)
    assert {"step", "parent"} <= set(history.checkpoints.column_names)
    assert list(itertools.islice(tmp_path.iterdir(), 1)) == []
