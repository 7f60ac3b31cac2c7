"""The batch script, run by bash as Slurm runs it, with the real sentinel in it.

Slurm itself is not here; what the script asks of it is written down by a `scontrol` of ours.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from deploy.commands import SBATCH

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a script for bash")


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """A PATH with this sentinel and a `scontrol` that writes down what it is asked for."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "sentinel": f'exec {sys.executable} -m sentinel "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/asked',
    }.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}


def submitted(environment: dict[str, str], out: Path, *command: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        ["bash", str(SBATCH), str(out), *command],
        env=environment,
        cwd=out.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_the_trainers_own_end_is_the_jobs(environment, tmp_path):
    """A trainer that ends by itself ends the job with its code; nothing is put back."""
    job = submitted(environment, tmp_path / "out", "sh", "-c", "exit 5")

    text, _ = job.communicate(timeout=100)
    assert job.returncode == 5, text
    assert not (tmp_path / "asked").exists()


def test_a_faulty_end_is_final(environment, tmp_path):
    """A checkpoint full of NaN ends the job with a code of sentinel's, and it is not put back."""
    nan = {
        "a.lora_down.weight": np.full((2, 4), np.nan, "f4"),
        "a.lora_up.weight": np.full((4, 2), np.nan, "f4"),
        "a.alpha": np.array(2, "f4"),
    }
    save_file(nan, tmp_path / "nan.safetensors", {"ss_steps": "10"})
    script = f"mkdir -p out && cp {tmp_path}/nan.safetensors out/cat-step00000010.safetensors"

    job = submitted(environment, tmp_path / "out", "sh", "-c", script)

    text, _ = job.communicate(timeout=100)
    assert job.returncode in {70, 75}, text
    assert not (tmp_path / "asked").exists()


def test_at_its_time_limit_the_job_goes_back_into_the_queue(environment, tmp_path):
    """Slurm's warning stops the trainer in order, and then the job is put back."""
    job = submitted(environment, tmp_path / "out", "sh", "-c", "echo training; exec sleep 1000")
    assert job.stdout is not None
    lines = []
    while not any(line.startswith("training") for line in lines):
        assert select.select([job.stdout], [], [], 100)[0]
        lines.append(job.stdout.readline())

    job.send_signal(signal.SIGTERM)

    text, _ = job.communicate(timeout=100)
    assert job.returncode == 128 + signal.SIGTERM, text
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"


def test_a_wrong_call_says_how(environment, tmp_path):
    """Without a command there is nothing to train."""
    job = submitted(environment, tmp_path / "out")

    text, _ = job.communicate(timeout=100)
    assert (job.returncode, text) == (2, "usage: sbatch train.sbatch OUT COMMAND...\n")
