"""A training loop of one's own, with the guard's check after each save."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")
pytest.importorskip("peft")

from corpus.models import tokens, trainable  # noqa: E402
from integrations.training import adapted  # noqa: E402
from sentinel.daemon.journal import Journal  # noqa: E402
from sentinel.integrations.accelerate import TrainingStopped, guard  # noqa: E402


def loop(out: Path, dtype: str, check, *, steps: int = 4, first: int = 1) -> int:
    """Train and save each step as Accelerate does; return the last step that was made."""
    accelerator = accelerate.Accelerator(cpu=True)
    model = adapted(dtype)
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-3, foreach=False)
    model, optimizer = accelerator.prepare(model, optimizer)
    for step in range(first, first + steps):
        loss = model(**tokens()).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        path = out / f"checkpoint-{step}"
        accelerator.save_state(str(path))
        if check is not None and check(path):
            return step
    return step


def test_a_loop_that_goes_wrong_ends_the_script(tmp_path):
    """The check after the first save with NaN raises what ends Python with code 76."""
    out, state = tmp_path / "out", tmp_path / "state"

    with pytest.raises(TrainingStopped) as stopped, guard(state=state) as check:
        loop(out, "float16", check)

    assert stopped.value.code == 76
    assert [path.name for path in out.iterdir()] == ["checkpoint-1"]
    journal = Journal(state / "journal.sqlite")
    ((run_id, roots),) = journal.runs().items()
    assert roots == (out.resolve(),)
    assert [one.outcome for one in journal.attempts(run_id)] == ["faulty"]
    journal.close()


def test_a_loop_may_stop_by_itself(tmp_path):
    """With on_stop "return" the check only says so, and the code is there to be used."""
    with guard(on_stop="return") as check:
        last = loop(tmp_path / "out", "float16", check)

    assert (last, check.exit_code) == (1, 76)


def test_a_healthy_loop_does_not_notice(tmp_path):
    """What is saved is the same with the check and without."""
    with guard() as check:
        loop(tmp_path / "with", "float32", check)
    loop(tmp_path / "without", "float32", None)

    assert (check.exit_code, check.judgement.verdict.level) == (0, "healthy")
    saved = sorted((tmp_path / "with").rglob("*"))
    twins = sorted((tmp_path / "without").rglob("*"))
    assert [path.name for path in saved] == [path.name for path in twins]
    for ours, theirs in zip(saved, twins, strict=True):
        if ours.suffix == ".safetensors":
            assert ours.read_bytes() == theirs.read_bytes()


def test_what_the_loop_goes_on_from_is_its_history(tmp_path, history_rule):
    """A rule about the checkpoint before is answered at the first save of a resumed loop."""
    out = tmp_path / "out"
    loop(out, "float32", None, steps=1)

    with guard(
        resumed_from=out / "checkpoint-1", rules=[history_rule], act_on=["history-known"],
        on_stop="return",
    ) as check:  # fmt: skip
        last = loop(out, "float32", check, first=2)

    assert (last, check.exit_code) == (2, 76)
    assert check.judgement.verdict.reason == "step 2 comes after step 1"
