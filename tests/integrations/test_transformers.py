"""Transformers' own Trainer with the callback in it."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from integrations.training import EVERY, STEPS, trainer  # noqa: E402
from sentinel.config import Config  # noqa: E402
from sentinel.daemon.guarding import guarding_directory, is_guarded  # noqa: E402
from sentinel.daemon.journal import Journal  # noqa: E402
from sentinel.daemon.places import places_of  # noqa: E402
from sentinel.daemon.process_tree import MARK  # noqa: E402
from sentinel.errors import ConfigError  # noqa: E402
from sentinel.health.query import fetch, read  # noqa: E402
from sentinel.integrations.transformers import SentinelCallback, TrainingStopped  # noqa: E402

ALL = {f"checkpoint-{step}" for step in range(EVERY, STEPS + 1, EVERY)}


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.name == "sentinel"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No `sentinel.yaml` and no sentinel around the tests."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv(MARK, raising=False)


def test_a_training_that_goes_wrong_by_itself_is_stopped_at_once(tmp_path, caplog):
    """The first checkpoint with NaN ends the script with code 76, and nothing more is saved."""
    out = tmp_path / "out"
    callback = SentinelCallback()
    training = trainer(out, dtype="float16", callbacks=[callback])

    with pytest.raises(TrainingStopped) as stopped:
        training.train()

    assert (stopped.value.code, callback.exit_code) == (76, 76)
    assert isinstance(stopped.value, SystemExit)
    assert training.state.global_step == EVERY
    assert {path.name for path in out.iterdir()} == {"checkpoint-2"}
    assert "nan-values" in {one.rule for one in callback.judgement.verdict.findings}
    assert [one.levelno for one in caplog.records if one.name == "sentinel"] == [
        logging.WARNING,
        logging.ERROR,
    ]


def test_a_healthy_training_does_not_notice(tmp_path, caplog):
    """Every file of a twin without the callback is there, with the same bytes and values."""
    with_it, without = tmp_path / "with", tmp_path / "without"
    callback = SentinelCallback()

    watched = trainer(with_it, dtype="float32", callbacks=[callback])
    watched.train()
    twin = trainer(without, dtype="float32", callbacks=[])
    twin.train()

    assert (callback.exit_code, callback.judgement.verdict.level) == (0, "healthy")
    assert {path.name for path in with_it.iterdir()} == ALL
    assert files(with_it) == files(without)
    for name in files(without):
        ours, theirs = with_it / name, without / name
        if name.endswith((".safetensors", "rng_state.pth", "optimizer.pt", "scheduler.pt")):
            assert ours.read_bytes() == theirs.read_bytes(), name
    losses = [
        [entry.get("loss") for entry in one.state.log_history if "loss" in entry]
        for one in (watched, twin)
    ]
    assert losses[0] == losses[1]
    assert warnings(caplog) == []


def test_report_only_tells(tmp_path, caplog):
    """The training goes to its end, and the script may ask how it ended."""
    callback = SentinelCallback(policy="report")
    training = trainer(tmp_path / "out", dtype="float16", callbacks=[callback])

    training.train()

    assert training.state.global_step == STEPS
    assert callback.exit_code == 70
    assert sum("is faulty" in one for one in warnings(caplog)) == 1  # the same again is no news


def test_a_script_may_end_in_its_own_way(tmp_path):
    """With on_stop "return" `train` returns, and the code is there to be used."""
    callback = SentinelCallback(on_stop="return")
    training = trainer(tmp_path / "out", dtype="float16", callbacks=[callback])

    training.train()

    assert training.state.global_step == EVERY
    assert callback.exit_code == 76


def test_likely_rules_act_where_the_user_says_so(tmp_path, history_rule):
    """What came before is known from the second save on, and `act_on` stops by it."""
    callback = SentinelCallback(rules=history_rule, act_on="history-known", on_stop="return")
    training = trainer(tmp_path / "out", dtype="float32", callbacks=[callback])

    training.train()

    assert training.state.global_step == 2 * EVERY
    assert callback.judgement.verdict.reason == "step 4 comes after step 2"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_resumed_training_knows_what_it_began_from(tmp_path, history_rule, recorded):
    """The history of the first save is the checkpoint that was resumed, with a log or without."""
    out, state = tmp_path / "out", {"state": tmp_path / "state"} if recorded else {}
    first = SentinelCallback(**state)
    trainer(out, dtype="float32", callbacks=[first], max_steps=2).train()
    callback = SentinelCallback(rules=[history_rule], policy="report", **state)
    seen: list[str | None] = []

    class Reasons(transformers.TrainerCallback):
        def on_save(self, *_args, **_named):
            seen.append(callback.judgement.verdict.reason)

    again = trainer(out, dtype="float32", callbacks=[callback, Reasons()])
    again.train(resume_from_checkpoint=str(out / "checkpoint-2"))

    assert seen == ["step 4 comes after step 2", "step 6 comes after step 4"]
    if recorded:
        (run_id,) = runs_of(tmp_path / "state")
        attempts = Journal(tmp_path / "state" / "journal.sqlite").attempts(run_id)
        assert [one.attempt for one in attempts] == [1, 2]
        assert attempts[1].parent is not None


def runs_of(state: Path) -> dict[str, tuple[Path, ...]]:
    journal = Journal(state / "journal.sqlite")
    try:
        return journal.runs()
    finally:
        journal.close()


def test_the_verdicts_are_in_the_health_log_of_the_run(tmp_path):
    """One attempt, its verdict, its end; nobody else could have the run meanwhile."""
    state, out = tmp_path / "state", tmp_path / "out"
    held: list[bool] = []

    class Asking(transformers.TrainerCallback):
        def on_save(self, *_args, **_named):
            (run_id,) = runs_of(state)
            held.append(is_guarded(state, run_id))

    callbacks = [SentinelCallback(state=state, on_stop="return"), Asking()]
    trainer(out, dtype="float16", callbacks=callbacks).train()

    ((run_id, roots),) = runs_of(state).items()
    assert roots == (out.resolve(),)
    assert held == [True]
    assert not is_guarded(state, run_id)
    log = places_of(Config(state=state)).log
    sql = "SELECT attempt, step, verdict FROM checkpoints"
    rows = read(log, lambda connection: fetch(connection, sql)).to_pylist()
    assert rows == [{"attempt": 1, "step": 2, "verdict": "faulty"}]
    sql = "SELECT kind, message FROM events WHERE kind <> 'finding' ORDER BY \"at\""
    rows = read(log, lambda connection: fetch(connection, sql)).to_pylist()
    assert [row["kind"] for row in rows] == ["attempt", "action", "outcome"]
    assert "nan-values" in rows[1]["message"]


def test_a_run_that_is_guarded_already_is_left_alone(tmp_path, caplog):
    """Of two sentinels one acts: the callback says so and lets the other judge."""
    state, out = tmp_path / "state", tmp_path / "out"
    callback = SentinelCallback(state=state)

    with guarding_directory(state, out):
        trainer(out, dtype="float16", callbacks=[callback]).train()

    assert callback.judgement is None
    assert [one for one in warnings(caplog) if "already guarded by another sentinel" in one]


def test_a_training_that_was_broken_off_does_not_guard_its_run_for_ever(tmp_path):
    """Tried again in the same notebook with a new callback, it is judged."""

    class Breaking(transformers.TrainerCallback):
        def on_save(self, *_args, **_named):
            raise InterruptedError

    state, out = tmp_path / "state", tmp_path / "out"
    first, second = SentinelCallback(state=state), SentinelCallback(state=state)
    with pytest.raises(InterruptedError):
        trainer(out, dtype="float32", callbacks=[first, Breaking()]).train()

    trainer(out, dtype="float32", callbacks=[second]).train()

    (run_id,) = runs_of(state)
    assert first.judgement.checkpoint.step == EVERY
    assert second.judgement.checkpoint.step == STEPS
    journal = Journal(state / "journal.sqlite")
    assert [one.attempt for one in journal.judged(run_id)] == [1, 2, 2, 2]
    journal.close()


def test_under_sentinel_run_the_callback_stands_aside(tmp_path, monkeypatch):
    """`sentinel run` judges, stops and resumes; a stop of ours would look like a bad end."""
    monkeypatch.setenv(MARK, "a run/1")
    callback = SentinelCallback()

    trainer(tmp_path / "out", dtype="float16", callbacks=[callback]).train()

    assert callback.judgement is None


def test_what_goes_wrong_in_the_callback_is_said_once(tmp_path, caplog):
    """A checkpoint that is gone before it can be read harms nothing."""

    class Removing(transformers.TrainerCallback):
        def on_save(self, args, state, _control, **_named):
            shutil.rmtree(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    out = tmp_path / "out"
    callbacks = [Removing(), SentinelCallback()]
    training = trainer(out, dtype="float32", callbacks=callbacks, save_steps=3)
    training.train()

    assert training.state.global_step == STEPS
    assert sum("does not exist" in one for one in warnings(caplog)) == 2  # one a checkpoint


@pytest.mark.parametrize("below", [False, True])
def test_without_a_place_for_its_log_it_judges_all_the_same(tmp_path, caplog, below):
    """A state that cannot be used, or lies in the trainer's directory, is said; NaN still stops."""
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "file").touch()
    state = out / "state" if below else tmp_path / "file" / "state"
    callback = SentinelCallback(state=state, on_stop="return")

    trainer(out, dtype="float16", callbacks=[callback]).train()

    assert callback.exit_code == 76
    assert {path.name for path in out.iterdir()} == {"checkpoint-2"}
    assert sum("the training goes on" in one for one in warnings(caplog)) == 1


def test_the_settings_file_counts(tmp_path):
    """`sentinel.yaml` in the working directory holds here as on the command line."""
    Path("sentinel.yaml").write_text("policy: report\nrules: {off: [nan-values]}\n")
    callback = SentinelCallback()

    trainer(tmp_path / "out", dtype="float16", callbacks=[callback], max_steps=2).train()

    assert "nan-values" not in {one.rule for one in callback.judgement.verdict.findings}
    assert callback.judgement.verdict.level == "faulty"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "halt"}, "policy 'halt': is not known; it is 'stop' or 'report'"),
        ({"on_stop": "raise"}, "on_stop 'raise': is not known; it is 'exit' or 'return'"),
        ({"act_on": ["nan-value"]}, "did you mean 'nan-values'"),
        ({"base": "nowhere"}, "nowhere"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_a_wrong_call_is_an_error_before_the_training(options, words):
    """Only before step 1 may anything of ours be raised."""
    with pytest.raises(ConfigError, match=words):
        SentinelCallback(**options)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux shows what is open")
def test_nothing_is_left_open(tmp_path):
    """After a training no lock, journal or file of ours is held by the process."""
    state = tmp_path / "state"

    trainer(tmp_path / "out", dtype="float32", callbacks=[SentinelCallback(state=state)]).train()

    held = [os.path.realpath(open_file) for open_file in Path("/proc/self/fd").iterdir()]
    assert [path for path in held if path.startswith(str(state))] == []
