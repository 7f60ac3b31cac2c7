from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel.storage import atomic_write, atomic_writer

DIE_INSIDE = """
import os, signal, sys
from pathlib import Path
from sentinel.storage import atomic_writer
with atomic_writer(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_whole_file_appears_under_its_name(tmp_path):
    """Missing directories are made, an older file is replaced, nothing else is left."""
    path = tmp_path / "a" / "b" / "file"

    atomic_write(path, b"old")
    atomic_write(path, b"new")

    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


def test_nothing_is_there_before_the_end(tmp_path):
    """Inside the block the name does not exist; what does is hidden from readers."""
    path = tmp_path / "file.parquet"

    with atomic_writer(path) as file:
        file.write(b"x")
        file.flush()
        assert not path.exists()
        assert [name for name in names(tmp_path) if not name.startswith(".")] == []
        assert [Path(name).suffix for name in names(tmp_path)] == [".tmp"]

    assert names(tmp_path) == ["file.parquet"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, error):
    """Also Ctrl-C in the middle: the old content stays, the temporary file goes."""
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def fail_halfway():
        with atomic_writer(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail_halfway()

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_staging_keeps_the_target_directory_clean(tmp_path):
    """The temporary file lies where it was told to, and moves from there."""
    path, staging = tmp_path / "data" / "file", tmp_path / "staging"

    with atomic_writer(path, staging=staging) as file:
        file.write(b"x")
        assert names(path.parent) == []
        assert len(names(staging)) == 1

    assert path.read_bytes() == b"x"
    assert names(staging) == []


@pytest.mark.skipif(os.name == "nt", reason="kills with SIGKILL")
def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    """A process killed while writing leaves what was there, whole."""
    path = tmp_path / "file"
    atomic_write(path, b"old")

    died = subprocess.run([sys.executable, "-c", DIE_INSIDE, str(path)], check=False)

    assert died.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
