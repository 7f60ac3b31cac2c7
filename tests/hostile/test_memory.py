"""Memory follows the length of a file and a block, never what the file claims."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "bounded.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc and rlimits")


def told(*arguments: object) -> dict[str, int]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_few_kilobytes_take_no_more_than_some_megabytes(tmp_path: Path) -> None:
    """Under a limit, what unfolds, is shared or only claimed ends in a fault or a small value."""
    found = told("small", tmp_path)

    assert len(found) > 30
    assert -1 not in found.values()
    harmless = {what for what, faults in found.items() if not faults}
    assert harmless <= {
        f"{kind}: {what}"
        for kind in ("torch", "optimizer")
        for what in (
            "a laugh as a dtype of NumPy",
            "a laugh as a key's argument",
            "one tensor under a thousand names",
            "one long name for a thousand tensors",
            "a thousand times a long text",
            "settings of long texts",
            "a place of 2**32",
        )
    }, harmless


def test_absurd_shapes_are_bounded(tmp_path: Path) -> None:
    """Products are formed in bands, whatever rank, width or kernel a header gives its matrices."""
    assert set(told("absurd", tmp_path).values()) == {0}


def test_a_tensor_is_measured_in_blocks(tmp_path: Path) -> None:
    assert told("large", tmp_path, 2**27)["grown_kb"] < 16_000


@pytest.mark.slow
def test_a_gigabyte_is_measured_in_blocks(tmp_path: Path) -> None:
    assert told("large", tmp_path, 2**30)["grown_kb"] < 16_000


def test_a_header_is_read_without_its_twenty_gigabytes(tmp_path: Path) -> None:
    found = told("large", tmp_path, 20 * 2**30)
    assert found["tensors"] == 1
    assert found["grown_kb"] < 4_000
