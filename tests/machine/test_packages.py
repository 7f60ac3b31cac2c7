"""Installed versions: those the metadata names, of this interpreter and of another."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from sentinel.errors import ConfigError
from sentinel.machine.limits import disk_at, watch_limits
from sentinel.machine.packages import (
    LIBRARIES,
    interpreter_of,
    python_here,
    versions_here,
    versions_of,
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An environment with one library that was never installed and cannot be imported."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False)
    python = root / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    described = Path(where) / "peft-0.11.1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.11.1\n")
    package = Path(where) / "peft"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    return python


def test_this_interpreter_is_asked_of_its_metadata():
    """What is installed here has its version, and nothing is imported for it."""
    found = versions_here()

    assert set(found) <= set(LIBRARIES)
    assert "numpy" in found
    assert versions_here(["no-such-library"]) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="an environment's interpreter lies elsewhere")
def test_another_environment_is_asked_by_its_own_interpreter(environment):
    """Its libraries are told, not ours, and none is imported."""
    version, found = versions_of(environment)

    assert version == python_here()
    assert found == {"peft": "0.11.1"}


@pytest.mark.skipif(sys.platform == "win32", reason="an environment's interpreter lies elsewhere")
def test_files_beside_the_user_hide_nothing(environment, tmp_path, monkeypatch):
    """A `json.py` where sentinel is called is not the one that answers."""
    (tmp_path / "json.py").write_text("raise SystemExit('hidden')")
    monkeypatch.chdir(tmp_path)

    assert versions_of(environment)[1] == {"peft": "0.11.1"}


@pytest.mark.parametrize("content", [None, "#!/bin/sh\necho nonsense\n", "#!/bin/sh\nexit 3\n"])
def test_what_is_no_interpreter_is_told(tmp_path, content):
    """One sentence, with what to give instead."""
    path = tmp_path / "python"
    if content is not None:
        path.write_text(content)
        path.chmod(0o755)
    with pytest.raises(ConfigError, match="did not tell what is installed for it"):
        versions_of(path)


def test_room_is_that_of_the_file_system(tmp_path):
    """Also for a place that does not exist yet."""
    disk = disk_at(tmp_path / "not" / "yet")

    assert disk is not None
    assert disk.path == tmp_path
    assert 0 <= disk.free_bytes <= disk.total_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_limits_of_watches_are_the_kernels():
    """Both limits are there on Linux."""
    limits = watch_limits()

    assert limits.watches
    assert limits.instances


@pytest.mark.skipif(os.name != "posix", reason="a script's first line names its interpreter")
def test_the_interpreter_of_a_command(tmp_path, monkeypatch):
    """The command itself, or what a script's first line names; none for what is no Python."""
    here = Path(sys.executable)
    monkeypatch.setenv("PATH", str(here.parent), prepend=os.pathsep)
    scripts = {
        "direct": f"#!{here}\n",
        "by_env": f"#!/usr/bin/env {here.name}\n",
        "shell": "#!/bin/sh\n",
        "nothing": "echo",
        "torn": "#!",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    assert interpreter_of([str(here), "train.py"], tmp_path) == here
    assert interpreter_of(["./direct", "train"], tmp_path) == here
    assert interpreter_of(["./by_env"], tmp_path) == here
    for words in (["./shell"], ["./nothing"], ["./torn"], ["bash", "x.sh"], ["no-such"], []):
        assert interpreter_of(words, tmp_path) is None
