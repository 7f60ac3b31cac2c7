"""What stands in the files of `deploy/` is what sentinel takes and does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deploy.commands import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    MANIFESTS,
    PAGE,
    ROOT,
    UNITS,
    compose,
    deployed,
    jobs,
    settings,
)
from sentinel.cli.main import cli
from sentinel.config import Config
from sentinel.daemon.supervise import ENDED_FAULTY, GAVE_UP, STOPPED_BY_POLICY
from sentinel.errors import SentinelError

FINAL = [SentinelError.exit_code, ENDED_FAULTY, GAVE_UP, STOPPED_BY_POLICY]
"""Exit codes that a restart does not change."""

COMMANDS = deployed()


def parsed(words: list[str]) -> click.Context:
    """What the real command line makes of the words; nothing is run."""
    top = click.Context(cli, info_name="sentinel")
    name, command, rest = cli.resolve_command(top, words[1:])
    assert command is not None
    return command.make_context(name, rest, parent=top)


@pytest.mark.parametrize("where", COMMANDS)
def test_sentinel_takes_every_command(where, tmp_path, monkeypatch):
    """Commands and options are those of the real command line; so is the trainer behind `--`."""
    words = COMMANDS[where]
    program = Path(words[0]).name
    if program == "sentinel":
        context = parsed(words)
        words = list(context.params.get("words", ()))
        program = words[0] if words else ""
    if program == "sentinel-train":
        monkeypatch.chdir(tmp_path)
        Path("recipe.yaml").write_text(
            "output_dir: out\nbase: {model: llama}\nadapter: {rank: 4, alpha: 8}\n"
            "data: {files: [a.txt], block_size: 8}\ntraining: {steps: 2, learning_rate: 1e-4}\n"
        )
        Path("a.txt").write_text("a text to learn from\n")
        done = subprocess.run(
            [sys.executable, "-m", "trainer.main", *words[1:], "--print-plan"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "output_dir: " in done.stdout


def test_every_kind_of_deployment_is_looked_at():
    """Each directory of `deploy/` has a command that is tested, or a test of its own."""
    own = {"grafana", "prometheus"}  # test_prometheus.py
    with_commands = {path.name for path in DEPLOY.iterdir()} - own
    assert with_commands == {"docker", "kubernetes", "slurm", "systemd"}
    assert {where.split(":")[0].split("/")[0] for where in COMMANDS} == {
        "systemd", "sidecar.yaml", "job.yaml", "compose.yaml", "Dockerfile", "train.sbatch",
        "deploy.md",
    }  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(DEPLOY)))
def test_systemd_restarts_what_a_restart_can_help(unit):
    """The codes that mean an end are no reason to begin again, and a stop waits for the trainer."""
    known = settings(unit)
    runs = " run " in known["ExecStart"]

    final = FINAL if runs else FINAL[:1]  # `watch` has none of its own but for a wrong call
    assert known["RestartPreventExitStatus"].split() == [str(code) for code in final]
    assert known["Restart"] == "on-failure"
    if runs:
        assert known["KillMode"] == "mixed"
        assert int(known["TimeoutStopSec"]) > Config().grace_s


def test_kubernetes_restarts_what_a_restart_can_help():
    """The Job fails at once by the same codes; a drained node does not count."""
    (job,) = jobs(DEPLOY / "kubernetes" / "job.yaml")
    failing, ignored = job["spec"]["podFailurePolicy"]["rules"]

    assert failing["action"] == "FailJob"
    assert failing["onExitCodes"]["values"] == FINAL
    assert ignored["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    pod = job["spec"]["template"]["spec"]
    assert failing["onExitCodes"]["containerName"] in {one["name"] for one in pod["containers"]}
    assert pod["terminationGracePeriodSeconds"] > Config().grace_s


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_every_mount_has_its_volume(manifest):
    """A pod mounts only what it declares, and claims only what `claim.yaml` makes."""
    claim = (DEPLOY / "kubernetes" / "claim.yaml").read_text(encoding="utf-8")
    for job in jobs(manifest):
        pod = job["spec"]["template"]["spec"]
        volumes = {one["name"]: one for one in pod["volumes"]}
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert {one["name"] for one in container["volumeMounts"]} <= volumes.keys()
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert f"name: {volume['persistentVolumeClaim']['claimName']}\n" in claim


def test_sentinel_beside_a_trainer_only_reads():
    """In compose and in the sidecar the checkpoints are mounted read-only."""
    mounted = compose()["services"]["sentinel"]["volumes"]
    assert "checkpoints:/checkpoints:ro" in mounted
    (job,) = jobs(DEPLOY / "kubernetes" / "sidecar.yaml")
    (sidecar,) = job["spec"]["template"]["spec"]["initContainers"]
    by_name = {one["name"]: one for one in sidecar["volumeMounts"]}
    assert by_name["checkpoints"]["readOnly"] is True
    assert sidecar["restartPolicy"] == "Always"


def test_the_image_is_built_from_what_is_there():
    """What is copied exists and is let through; the targets of compose are stages."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    allowed = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()

    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in allowed
    stages = set(re.findall(r"^FROM .* AS (\w+)$", text, re.MULTILINE))
    for service in compose()["services"].values():
        assert service["build"]["target"] in stages
        assert ROOT / service["build"]["dockerfile"] == DOCKERFILE


def test_the_page_names_every_file():
    """Whatever lies in `deploy/` is described."""
    page = PAGE.read_text(encoding="utf-8")

    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".dockerignore":
            assert path.relative_to(ROOT).as_posix() in page, path
    assert COMPOSE.exists()
