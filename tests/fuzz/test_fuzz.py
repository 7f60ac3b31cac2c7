"""The program that fuzzes runs, and finds what is there to be found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris")

PROGRAM = Path(__file__).parent / "fuzz.py"

BROKEN = """
import runpy, sys
import targets
honest = targets.TARGETS["zip"].read

def careless(path):
    if path.read_bytes()[:2] != b"PK":
        raise IndexError
    return honest(path)

targets.TARGETS["zip"] = targets.Target(targets.archives, targets.as_file("x.zip"), careless)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*command: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_target_is_fuzzed_for_so_many_runs(tmp_path: Path) -> None:
    done = run(str(PROGRAM), "zip", "--runs", "300", where=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_another_exception_is_a_finding_and_its_bytes_are_kept(tmp_path: Path) -> None:
    """A careless reader, put in the place of a real one, is found out."""
    program = tmp_path / "broken.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r})\n" + BROKEN)
    done = run(str(program), str(PROGRAM), "zip", "--runs", "3000", where=tmp_path)
    assert done.returncode != 0
    assert "IndexError" in done.stderr + done.stdout
    assert list(tmp_path.glob("crash-*"))
