"""Each file of `deploy/` by the validator of its kind; one that is not installed is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.commands import COMPOSE, DEPLOY, DOCKERFILE, MANIFESTS, SBATCH, UNITS

EXPOSURE = 15
"""systemd's own measure of what a service may do, from 0 to 100: below 20 it says SAFE."""


def validator(name: str) -> str:
    """Where a validator lies: beside this Python, or on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def said(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def instance(unit: Path, directory: Path) -> Path:
    """The unit as it would be for one directory, with a program that is there."""
    text = unit.read_text(encoding="utf-8")
    for program in ("/usr/local/bin/sentinel", "%h/.local/bin/sentinel"):
        text = text.replace(f"ExecStart={program} ", "ExecStart=/usr/bin/env sentinel ")
    path = directory / unit.name.replace("@", "@srv-training-cat")
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(DEPLOY)))
def test_systemd_takes_the_units(unit, tmp_path):
    """`systemd-analyze verify` has nothing to say: no unknown setting, no missing program."""
    scope = ["--user"] if unit.parent.name == "user" else []
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)

    text = said(
        validator("systemd-analyze"), *scope, "verify", instance(unit, tmp_path),
        XDG_RUNTIME_DIR=str(runtime),
    )  # fmt: skip

    assert text == ""


def test_the_watching_service_can_do_little(tmp_path):
    """systemd itself counts what a service that reads strangers' files may do."""
    analyze = validator("systemd-analyze")
    unit = instance(DEPLOY / "systemd" / "sentinel-watch@.service", tmp_path)

    said(analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", unit)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_the_manifests(manifest):
    """Every field is one of the API's, at the version where sidecars and the policy are stable."""
    text = said(validator("kubernetes-validate"), "--strict", "-k", "1.33", manifest)

    assert "passed" in text


def test_compose_takes_its_file():
    """By the compose specification's own schema, which the validator brings along."""
    schema = ("--builtin-schema", "vendor.compose-spec")

    assert "ok" in said(validator("check-jsonschema"), *schema, COMPOSE)


def test_a_linter_has_nothing_to_say_about_the_dockerfile():
    """hadolint finds no mistake, also in the shell inside."""
    assert said(validator("hadolint"), "--no-color", DOCKERFILE) == ""


def test_a_linter_has_nothing_to_say_about_the_batch_script():
    """shellcheck finds no mistake."""
    assert said(validator("shellcheck"), SBATCH) == ""
