"""Lightning's own Trainer with the callback in it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")
pytest.importorskip("peft")

from integrations.lightning_training import fitted, saving  # noqa: E402
from sentinel.daemon.journal import Journal  # noqa: E402
from sentinel.integrations.lightning import SentinelCallback, TrainingStopped  # noqa: E402


@pytest.mark.parametrize("options", [{}, {"save_last": True}, {"save_weights_only": True}])
def test_a_training_that_goes_wrong_by_itself_is_stopped(tmp_path, options):
    """The save of step 2 is seen when the next batch begins, and the fit ends after it."""
    out, state = tmp_path / "out", tmp_path / "state"
    callback = SentinelCallback(state=state)

    with pytest.raises(TrainingStopped) as stopped:
        fitted("float16", [callback, saving(out, **options)])

    assert (stopped.value.code, callback.exit_code) == (76, 76)
    assert {path.name for path in out.iterdir()} <= {"step=2.ckpt", "last.ckpt"}
    assert "nan-values" in {one.rule for one in callback.judgement.verdict.findings}
    journal = Journal(state / "journal.sqlite")
    (run_id,) = journal.runs()
    assert [(one.step, one.level) for one in journal.judged(run_id)] == [(2, "faulty")]
    journal.close()


def test_a_healthy_training_does_not_notice(tmp_path):
    """The weights are the same bit for bit, and each save was judged, the last one too."""
    state = tmp_path / "state"
    callback = SentinelCallback(state=state)

    fitted("float32", [saving(tmp_path / "with", save_last=True), callback])
    fitted("float32", [saving(tmp_path / "without", save_last=True)])

    assert callback.exit_code == 0
    names = {path.name for path in (tmp_path / "without").iterdir()}
    assert {path.name for path in (tmp_path / "with").iterdir()} == names
    for name in names:
        ours, theirs = (
            torch.load(tmp_path / one / name, weights_only=False)["state_dict"]
            for one in ("with", "without")
        )
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    journal = Journal(state / "journal.sqlite")
    (run_id,) = journal.runs()
    judged = [(one.step, one.level, one.path.name) for one in journal.judged(run_id)]
    assert judged == [(step, "healthy", f"step={step}.ckpt") for step in (2, 4, 6)]
    journal.close()


def test_saves_under_one_name_are_each_judged(tmp_path):
    """`last.ckpt` alone, written again and again, is a checkpoint each time."""
    state = tmp_path / "state"
    saves = saving(tmp_path / "out", save_top_k=0, save_last=True, filename=None)

    fitted("float32", [saves, SentinelCallback(state=state)])

    journal = Journal(state / "journal.sqlite")
    steps = [one.step for run_id in journal.runs() for one in journal.judged(run_id)]
    assert steps == [2, 4, 6]
    journal.close()


def test_a_resumed_training_knows_what_it_began_from(tmp_path, history_rule):
    """The first save of the second fit has the checkpoint it was resumed from as its history."""
    out = tmp_path / "out"
    fitted("float32", [saving(out)], steps=2)
    callback = SentinelCallback(rules=[history_rule], act_on=["history-known"], on_stop="return")

    fitted("float32", [saving(out), callback], ckpt_path=out / "step=2.ckpt")

    assert callback.exit_code == 76
    assert callback.judgement.verdict.reason == "step 4 comes after step 2"
