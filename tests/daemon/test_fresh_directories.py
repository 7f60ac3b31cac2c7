"""What must hold where a repair goes on in a fresh directory: with real processes and readers."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")

PROGRAMS = Path(__file__).parent / "programs"
CONFIG = {
    "__version": 11,
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_15",
    "workspace_dir": "ws",
    "continue_last_backup": False,
    "train_dtype": "FLOAT_16",
    "lora_weight_dtype": "FLOAT_16",
    "learning_rate": 1.0,
    "learning_rate_scheduler": "CONSTANT",
    "learning_rate_warmup_steps": 0,
    "gradient_accumulation_steps": 1,
    "batch_size": 1,
    "optimizer": {"optimizer": "PRODIGY", "d0": 1e-6},
    "stand_in": {"steps": 40, "pace_s": 0.05, "fault": "zero", "fault_from": 0},
}


class Workspace:
    """A OneTrainer workspace below a bench, its configuration, and what came of a run."""

    def __init__(self, bench, **changes) -> None:
        self.bench = bench
        self.config = bench.place / "train.json"
        self.text = json.dumps(CONFIG | changes, indent=4)
        self.config.write_text(self.text, encoding="utf-8")

    def run(self, *options: str, kill_at: int = 0, when: str = "after"):
        program = str(PROGRAMS / "onetrainer_stand_in.py")
        trainer = [sys.executable, program, "--config-path", "train.json"]
        state = str(self.bench.state)
        arguments = ("run", "--state", state, "--config", "sentinel.yaml", *options, "--", *trainer)
        (self.bench.place / "sentinel.yaml").write_text("backoff_s: 0.05\ngrace_s: 1.0\n")
        return self.bench.run(*arguments, kill_at=kill_at, when=when)

    def backups(self, workspace: str) -> list[str]:
        place = self.bench.place / workspace / "backup"
        return [path.name.rsplit("-", 3)[1] for path in sorted(place.glob("*-backup-*"))]

    def events(self, kind: str):
        return [event for event in self.bench.log().events if event.kind == kind]


def test_a_dead_adapter_begins_anew_in_a_workspace_of_its_own(bench):
    """OneTrainer's FLOAT_16: nothing to save, so a fresh workspace in FLOAT_32, and it holds."""
    workspace = Workspace(bench)

    ran = workspace.run()

    assert ran.code == 0, ran.err
    assert workspace.backups("ws-resumed/2") == ["10", "20", "30", "40"]
    rows = [row for row in bench.log().checkpoints if row.attempt == 2]
    assert {row.verdict for row in rows} == {"healthy"}
    assert {row.settings["precision.adapter"] for row in rows} == {"fp32"}
    assert workspace.config.read_text() == workspace.text
    (plan,) = workspace.events("plan")
    assert plan.detail["target"] is None
    assert "restart from step 0" in plan.message
    told = (event.detail for event in workspace.events("outcome"))
    proofs = [detail["result"] for detail in told if "result" in detail]
    assert proofs == ["fixed"]
    # The difference to the user's configuration stands in the log and on the terminal.
    (changed,) = [event for event in workspace.events("action") if event.detail.get("diff")]
    for line in ('-    "lora_weight_dtype": "FLOAT_16"', '+    "lora_weight_dtype": "FLOAT_32"'):
        assert line in changed.detail["diff"]
        assert line in ran.err
    (copy,) = bench.state.glob("starts/*/2/train.json")
    assert json.loads(copy.read_text())["lora_weight_dtype"] == "FLOAT_32"


def test_a_resume_begins_from_a_copy_without_the_optimizer_state(bench):
    """NaN from step 30 on: the fresh workspace holds backup 20 without optimizer.pt, no other."""
    stand_in = CONFIG["stand_in"] | {"fault": "nan", "fault_from": 30, "steps": 60}
    workspace = Workspace(bench, stand_in=stand_in)

    ran = workspace.run()

    assert ran.code == 0, ran.err
    assert workspace.backups("ws") == ["10", "20"]
    assert workspace.backups("ws-resumed/2") == ["20", "30", "40", "50", "60"]
    copy = next((bench.place / "ws-resumed" / "2" / "backup").glob("*-backup-20-*"))
    original = next((bench.place / "ws" / "backup").glob("*-backup-20-*"))
    assert not (copy / "optimizer" / "optimizer.pt").exists()
    assert (original / "optimizer" / "optimizer.pt").exists()
    rows = bench.log().checkpoints
    good = next(row for row in rows if row.attempt == 1 and row.step == 20)
    second = [row for row in rows if row.attempt == 2]
    assert [row.step for row in second] == [30, 40, 50, 60]  # the copy is no checkpoint of its own
    assert second[0].parent == good.checkpoint_id
    # Each is compared with the one before it, so that only the first was in another precision.
    changed = [event for event in bench.log().events if event.rule == "precision-changed"]
    assert [event.checkpoint_id for event in changed] == [second[0].checkpoint_id]


def test_settings_that_a_finding_asks_for_take_effect(bench, tmp_path):
    """A rule asks for a lower rate and another argument: the next backups have both."""
    rule = tmp_path / "rate-too-high.yaml"
    rule.write_text(RULE, encoding="utf-8")
    stand_in = CONFIG["stand_in"] | {"fault": "none", "fault_from": 1000, "linger_at_rate": 1.0}
    optimizer = {"optimizer": "ADAMW"}  # Prodigy's rate is not to be lowered
    changes = {"lora_weight_dtype": "FLOAT_32", "optimizer": optimizer}
    workspace = Workspace(bench, **changes, stand_in=stand_in)

    ran = workspace.run("--rules", str(rule))

    assert ran.code == 0, ran.err
    rows = [row for row in bench.log().checkpoints if row.attempt == 2]
    assert {row.settings["optimizer.learning_rate"] for row in rows} == {0.5}
    assert {row.settings["optimizer.args.d_coef"] for row in rows} == {0.25}
    assert [row.step for row in rows] == [20, 30, 40]
    (plan,) = workspace.events("plan")
    assert plan.detail["settings"] == {
        "optimizer.learning_rate": 0.5,
        "optimizer.args.d_coef": 0.25,
    }


def test_a_trainer_in_a_script_is_told_in_a_copy_of_it(bench):
    """`bash train.sh`: the copy's one command is changed, the rest of it runs as before."""
    script = bench.place / "train.sh"
    trainer = shlex.join(bench.trainer("--fault", "zero", "--linger-s", "60"))
    text = f"#!/bin/bash\necho ready > ready.txt\n{trainer} \\\n    --precision fp16 || exit 7\n"
    script.write_text(text, encoding="utf-8")

    ran = bench.run(*bench.arguments(trainer=["bash", "train.sh"]))

    assert ran.code == 0, ran.err
    assert bench.steps() == [10, 20, 30, 40, 50, 60]
    assert script.read_text(encoding="utf-8") == text
    (copy,) = bench.state.glob("starts/*/2/train.sh")
    assert copy.read_text(encoding="utf-8").startswith("#!/bin/bash\necho ready > ready.txt\n")
    rows = [row for row in bench.log().checkpoints if row.attempt == 2]
    assert {row.settings["precision.adapter"] for row in rows} == {"fp32"}


RULE = """\
id: rate-too-high
title: The rate is too high for this test
scope: run
severity: critical
safety: certain
since: 0.1.0
page: {what: The rate is 1., why: A test., fix: Lower it.}
table: checkpoint
where: coalesce(layout, '') <> 'configuration'
when: optimizer_learning_rate > 0.9
message: the rate is too high at step 1; lower it
remedy:
  resume:
    settings:
      optimizer.learning_rate: {times: 0.5}
      optimizer.args.d_coef: 0.25
examples:
  - {name: high, fires: true, tables: {checkpoint: [{optimizer_learning_rate: 1.0}]}}
  - {name: low, fires: false, tables: {checkpoint: [{optimizer_learning_rate: 0.5}]}}
"""


def test_a_start_without_room_for_the_copy_is_said(bench):
    """Where the fresh workspace cannot be made nothing is started, and the error names it."""
    workspace = Workspace(bench)
    (bench.place / "ws-resumed").write_text("a file where a directory is to be")

    ran = workspace.run()

    assert ran.code != 0
    assert "ws-resumed" in ran.err
    assert bench.journal().last_attempt(bench.run_id).outcome == "not started"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 25))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_anywhere_leads_to_the_same_end(bench, number, when):
    """Killed at a write to its journal and started again, it ends healthy at the last step.

    Every fresh workspace is whole; the newest may hold the last backup alone, where the trainer
    came to its end while sentinel was dead.
    """
    stand_in = CONFIG["stand_in"] | {"fault": "nan", "fault_from": 20, "steps": 30, "pace_s": 0.3}
    workspace = Workspace(bench, stand_in=stand_in)

    killed = workspace.run(kill_at=number, when=when)
    ran = workspace.run() if killed.code else killed

    assert ran.code == 0, ran.err
    fresh = {int(path.name): path for path in (bench.place / "ws-resumed").iterdir()}
    assert workspace.backups(f"ws-resumed/{max(fresh)}")[-1] == "30"
    for place in fresh.values():
        for backup in (place / "backup").iterdir():
            assert (backup / "onetrainer_config" / "args.json").exists()
    assert not list(bench.place.rglob(".tmp-*"))
    last = [row for row in bench.log().checkpoints if row.step == 30][-1]
    assert last.verdict == "healthy"
    assert workspace.config.read_text() == workspace.text


@pytest.mark.trainer
def test_a_real_peft_training_is_resumed_in_a_precision_that_works(bench):
    """Transformers and PEFT in fp16: Adam's second moment vanishes by itself, and sentinel acts.

    The command is changed in its precision and its directory only; the copy lacks optimizer.pt and
    scheduler.pt, the resumed steps count on from the target, and nothing trained then is in fp16.
    """
    for library in ("torch", "transformers", "peft"):
        pytest.importorskip(library)
    options = [
        *("--optim", "adamw_torch_fused", "--learning_rate", "2e-3"),
        *("--lr_scheduler_type", "constant", "--max_steps", "40", "--save_steps", "10"),
        *("--logging_steps", "5", "--use_cpu", "true"),
        *("--per_device_train_batch_size", "4", "--report_to", "none", "--disable_tqdm", "true"),
    ]
    trainer = [sys.executable, str(PROGRAMS / "peft_script.py"), *options]
    config = bench.place / "sentinel.yaml"
    config.write_text("act_on: [fp16-adam-about-to-die]\nbackoff_s: 0.05\n", encoding="utf-8")
    given = ("--state", str(bench.state), "--config", str(config))

    ran = bench.run("run", *given, "--", *trainer, "--output_dir", "out", "--dtype", "float16")

    assert ran.code == 0, ran.err
    log = bench.log()
    (plan,) = [event for event in log.events if event.kind == "plan"]
    target = plan.detail["target_step"]
    assert target > 0
    assert (plan.detail["precision"], plan.detail["optimizer"]) == ("fp32", "drop")
    fresh = bench.place / "out-resumed" / "2"
    copy = fresh / f"checkpoint-{target}"
    assert not (copy / "optimizer.pt").exists()
    assert not (copy / "scheduler.pt").exists()
    assert (bench.out / f"checkpoint-{target}" / "optimizer.pt").exists()
    changed = ["--dtype", "float32", "--output_dir", str(fresh), "--resume_from_checkpoint"]
    started = [event.message for event in log.events if event.kind == "attempt"]
    assert started[-1].endswith(shlex.join([*trainer, *changed, str(copy)]))
    rows = [row for row in log.checkpoints if row.attempt == 2]
    assert [row.step for row in rows] == list(range(target + 10, 41, 10))
    assert {row.settings["precision.adapter"] for row in rows} == {"fp32"}
    assert {row.verdict for row in rows} == {"healthy"}
    proofs = [event.detail["result"] for event in log.events if "result" in event.detail]
    assert set(proofs) == {"fixed"}
