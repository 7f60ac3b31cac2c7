"""What must hold before step 1 of a supervised run: what the rules find is said, and acted on
where the policy says so."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")

PROGRAMS = Path(__file__).parent / "programs"
ADAFACTOR = {
    "__version": 11,
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_15",
    "workspace_dir": "ws",
    "continue_last_backup": False,
    "train_dtype": "BFLOAT_16",
    "lora_weight_dtype": "FLOAT_32",
    "learning_rate": 1e-5,
    "learning_rate_scheduler": "ADAFACTOR",
    "learning_rate_warmup_steps": 0,
    "gradient_accumulation_steps": 1,
    "batch_size": 1,
    "optimizer": {"optimizer": "ADAFACTOR", "scale_parameter": True, "relative_step": True},
    "stand_in": {"steps": 20, "pace_s": 0.05, "fault": "none", "fault_from": 1000},
}
RULE = "adafactor-settings"


class OneTrainer:
    """A stand-in for OneTrainer that is told to use Adafactor with scale_parameter (story 5)."""

    def __init__(self, bench) -> None:
        self.bench = bench
        (bench.place / "train.json").write_text(json.dumps(ADAFACTOR))

    def run(self, *options: str, act_on: list[str]):
        (self.bench.place / "sentinel.yaml").write_text(json.dumps({"act_on": act_on}))
        program = str(PROGRAMS / "onetrainer_stand_in.py")
        trainer = [sys.executable, program, "--config-path", "train.json"]
        where = ("--state", str(self.bench.state), "--config", "sentinel.yaml")
        return self.bench.run("run", *where, *options, "--", *trainer)

    def told(self) -> list[str]:
        return [event.rule for event in self.bench.log().events if event.kind == "finding"]

    def ran_with(self, workspace: str) -> dict[str, object]:
        """The configuration that the last backup in a workspace was trained with."""
        backups = sorted((self.bench.place / workspace / "backup").glob("*-backup-*"))
        return json.loads((backups[-1] / "onetrainer_config" / "args.json").read_text())


def test_a_likely_fault_is_said_and_the_command_taken_at_its_word(bench):
    """Nobody named the rule: one line before the start, and the trainer starts as told."""
    trainer = OneTrainer(bench)

    ran = trainer.run(act_on=[])

    assert ran.code == 0, ran.err
    said = [line for line in ran.err.splitlines() if f"{RULE}: before step 1" in line]
    assert len(said) == 1
    assert ran.err.index(said[0]) < ran.err.index("attempt 1 started")
    assert "--dry-run` tells how it would go on" in ran.err  # its last checkpoint is suspect
    assert RULE in trainer.told()
    assert trainer.ran_with("ws")["optimizer"]["scale_parameter"] is True


def test_it_begins_with_the_remedy_where_the_policy_names_the_rule(bench):
    """All that the remedy asks for is changed in a copy, in the user's own workspace."""
    trainer = OneTrainer(bench)

    ran = trainer.run(act_on=[RULE])

    assert ran.code == 0, ran.err
    assert "begin at step 0" in ran.err
    assert "lost" not in ran.err
    config = trainer.ran_with("ws")
    assert config["optimizer"]["scale_parameter"] is False
    assert config["optimizer"]["relative_step"] is False
    assert config["learning_rate"] == pytest.approx(1e-4)
    assert config["learning_rate_scheduler"] == "CONSTANT"
    assert json.loads((bench.place / "train.json").read_text()) == ADAFACTOR
    assert not (bench.place / "ws-resumed").exists()
    (attempt,) = bench.journal().attempts(bench.run_id)
    assert attempt.plan["rules"] == [RULE]


def test_what_is_found_after_the_last_step_begins_anew(bench):
    """All checkpoints show it, and from the last one there is nothing left to train."""
    trainer = OneTrainer(bench)

    ran = trainer.run(act_on=["adafactor-scale-configured"])

    assert ran.code == 0, ran.err
    last = bench.journal().last_attempt(bench.run_id)
    assert (last.attempt, last.plan["target"]) == (2, None)
    assert trainer.ran_with("ws-resumed/2")["optimizer"]["scale_parameter"] is False
    assert "fixed" in {event.detail.get("result") for event in bench.log().events}


@pytest.mark.parametrize(("policy", "code"), [("report", 0), ("stop", 76)])
def test_other_policies(bench, policy, code):
    """Reported: started all the same. Stopped: not started at all."""
    trainer = OneTrainer(bench)

    ran = trainer.run("--policy", policy, act_on=[RULE])

    assert ran.code == code, ran.err
    assert RULE in trainer.told()
    assert (bench.place / "ws").exists() is (policy == "report")


class SimpleTuner:
    """A stand-in for SimpleTuner whose environment holds an old optimum-quanto (story 2)."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.out = bench.place / "output" / "cat"
        (bench.place / "config" / "cat").mkdir(parents=True)
        self.tell({})
        python = self._environment("0.2.4")
        program = bench.place / "bin" / "simpletuner"
        program.parent.mkdir()
        text = (PROGRAMS / "simpletuner_stand_in.py").read_text()
        program.write_text(f"#!{python}\n{text}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.command = [str(program), "train", "--env", "cat"]

    def tell(self, changes: dict[str, object]) -> None:
        config = {
            "--model_type": "lora",
            "--model_family": "flux",
            "--output_dir": "output/cat",
            "--optimizer": "adamw_bf16",
            "--mixed_precision": "bf16",
            "--base_model_precision": "int8-quanto",
            "--learning_rate": 1e-4,
            "--resume_from_checkpoint": "latest",
        }
        file = self.bench.place / "config" / "cat" / "config.json"
        file.write_text(json.dumps(config | changes))

    def _environment(self, version: str) -> Path:
        """An environment of its own, with the metadata of that version, and this one's NumPy."""
        place = self.bench.place / "venv"
        make = [sys.executable, "-m", "venv", "--without-pip", str(place)]
        subprocess.run(make, check=True)
        (packages,) = place.glob("lib/python*/site-packages")
        (packages / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
        known = packages / f"optimum_quanto-{version}.dist-info"
        known.mkdir()
        (known / "METADATA").write_text(f"Name: optimum-quanto\nVersion: {version}\n")
        return place / "bin" / "python"

    def run(self, act_on: list[str]):
        (self.bench.place / "sentinel.yaml").write_text(json.dumps({"act_on": act_on}))
        where = ("--state", str(self.bench.state), "--config", "sentinel.yaml")
        return self.bench.run("run", *where, "--", *self.command)


def test_a_resume_on_a_packed_base_begins_from_the_weights(bench):
    """The resume would end in KeyError; with the rule named it begins by `--init_lora`."""
    trainer = SimpleTuner(bench)
    assert trainer.run(act_on=[]).code == 0  # the first training, from step 0
    failed = trainer.run(act_on=[])
    assert failed.code == 1
    assert "quanto-resume: before step 1: this adapter is on a base packed by" in failed.err
    assert "which is version 0.2.4" in failed.err

    ran = trainer.run(act_on=["quanto-resume"])

    assert ran.code == 0, ran.err
    assert sorted(path.name for path in trainer.out.iterdir()) == ["checkpoint-10", "checkpoint-20"]
    attempt = bench.journal().last_attempt(bench.run_id)
    assert attempt.plan["target_path"] == str(trainer.out / "checkpoint-20")
    fresh = bench.place / "output" / "cat-resumed" / str(attempt.attempt)
    assert sorted(path.name for path in fresh.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-20",
    ]
    assert {row.verdict for row in bench.log().checkpoints} == {"healthy"}


def test_an_adapter_from_elsewhere_that_is_full_of_nan_is_not_trained_on(bench):
    """`--init_lora` of a faulty file: refused before the trainer loads anything."""
    trainer = SimpleTuner(bench)
    bad = bench.place / "mine.safetensors"
    name = "transformer.blocks.0.attn.to_q"
    save_file(
        {
            f"{name}.lora_A.weight": np.ones((4, 16), np.float32),
            f"{name}.lora_B.weight": np.full((16, 4), np.nan, np.float32),
        },
        bad,
    )
    trainer.tell({"--init_lora": str(bad), "--resume_from_checkpoint": None})

    ran = trainer.run(act_on=[])

    assert ran.code == 75, ran.err
    assert f"'{bad}', from which it begins: " in ran.err
    assert f"'{bad}', from which it would begin, is faulty; name another" in ran.err
    assert not trainer.out.exists()
