"""What must hold of the quarantine: one rename, beside the root, never over anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from sentinel.errors import RepairError
from sentinel.repairs.quarantine import (
    DIRECTORY,
    RECEIPT,
    bring_back,
    move,
    quarantine_place,
    receipt_at,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    place = tmp_path / "out" / "checkpoint-10"
    place.mkdir(parents=True)
    (place / "adapter_model.safetensors").write_bytes(b"weights")
    return place


def test_it_lies_beside_the_root_and_says_how_to_undo(checkpoint: Path, tmp_path: Path):
    """The trainer lists `out`, so nothing of ours may lie below it."""
    planned = quarantine_place(checkpoint, tmp_path / "out", "abc")

    move(planned, {"reason": "NaN"})

    assert not checkpoint.exists()
    assert (planned.place / "adapter_model.safetensors").read_bytes() == b"weights"
    assert not planned.place.is_relative_to(tmp_path / "out")
    receipt = json.loads((planned.place.parent / RECEIPT).read_text(encoding="utf-8"))
    assert receipt["from"] == str(checkpoint)
    assert receipt["reason"] == "NaN"
    assert receipt["to"] == str(planned.place)
    assert datetime.fromisoformat(receipt["quarantined_at"]).tzinfo is not None


def test_doing_it_again_is_harmless(checkpoint: Path, tmp_path: Path):
    """After a kill the same move is made again: it finds it done."""
    planned = quarantine_place(checkpoint, tmp_path / "out", "abc")
    move(planned, {})

    move(planned, {})

    assert (planned.place / "adapter_model.safetensors").exists()


def test_a_kill_between_receipt_and_rename_is_mended(checkpoint: Path, tmp_path: Path):
    """With the receipt written and the rename not done, the next move does the rename."""
    planned = quarantine_place(checkpoint, tmp_path / "out", "abc")
    planned.place.parent.mkdir(parents=True)
    (planned.place.parent / RECEIPT).write_text("{}", encoding="utf-8")

    move(planned, {})

    assert planned.place.exists()


def test_a_taken_place_is_refused(checkpoint: Path, tmp_path: Path):
    """Nothing is ever overwritten, not even in the quarantine."""
    planned = quarantine_place(checkpoint, tmp_path / "out", "abc")
    planned.place.mkdir(parents=True)

    with pytest.raises(RepairError, match="already taken"):
        move(planned, {})

    assert checkpoint.exists()


def test_a_checkpoint_that_is_gone_is_said(tmp_path: Path):
    """A trainer that rotated the checkpoint away leaves nothing to move."""
    planned = quarantine_place(tmp_path / "out" / "checkpoint-1", tmp_path / "out", "abc")

    with pytest.raises(RepairError, match="no longer there"):
        move(planned, {})


@pytest.mark.skipif(os.name != "posix", reason="the way back is written for a shell")
def test_the_way_back_is_a_command_that_works(checkpoint: Path, tmp_path: Path):
    """What the receipt says brings the checkpoint back, whatever its name, and overwrites none."""
    odd = checkpoint.with_name("checkpoint-20 'new'")
    checkpoint.rename(odd)
    planned = quarantine_place(odd, tmp_path / "out", "abc")
    move(planned, {})
    receipt = json.loads((planned.place.parent / RECEIPT).read_text(encoding="utf-8"))

    subprocess.run(receipt["undo"], shell=True, check=True)

    assert (odd / "adapter_model.safetensors").read_bytes() == b"weights"
    assert not planned.place.exists()


def test_undo_brings_a_checkpoint_back(checkpoint: Path, tmp_path: Path):
    """By its receipt or its directory: the same bytes in the old place, no trace left."""
    for given in (RECEIPT, "."):
        planned = quarantine_place(checkpoint, tmp_path / "out", "abc")
        move(planned, {})
        receipt = receipt_at(planned.place.parent / given)

        told = bring_back(receipt, dry_run=True)
        assert told.source == checkpoint
        assert not checkpoint.exists()
        bring_back(receipt)

        assert (checkpoint / "adapter_model.safetensors").read_bytes() == b"weights"
        assert not (tmp_path / DIRECTORY).exists()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("taken", "something else lies there by now"),
        ("directory gone", "its directory is gone"),
        ("moved on", "is not in its quarantine"),
        ("receipt torn", "cannot be read"),
    ],
)
def test_undo_writes_over_nothing(checkpoint: Path, tmp_path: Path, what: str, said: str):
    """Where it cannot be brought back, nothing is moved and one sentence says why."""
    planned = quarantine_place(checkpoint, tmp_path / "out", "abc")
    move(planned, {})
    receipt = planned.place.parent / RECEIPT
    if what == "taken":
        checkpoint.mkdir()
    elif what == "directory gone":
        checkpoint.parent.rmdir()
    elif what == "moved on":
        planned.place.rename(tmp_path / "elsewhere")
    else:
        receipt.write_bytes(receipt.read_bytes()[:20])

    with pytest.raises(RepairError, match=said):
        bring_back(receipt)

    assert receipt.exists()
    assert what == "moved on" or planned.place.exists()


def test_a_receipt_elsewhere_is_none_of_a_quarantine(tmp_path: Path):
    """A `receipt.json` of somebody else is not taken for one of ours."""
    (tmp_path / RECEIPT).write_text("{}", encoding="utf-8")

    assert receipt_at(tmp_path / RECEIPT) is None
    assert receipt_at(tmp_path / "nowhere") is None


def test_a_root_that_is_a_link_is_followed(checkpoint: Path, tmp_path: Path):
    """The directory is on the disk it points at, and so is the quarantine beside it."""
    link = tmp_path / "home" / "out"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "out")

    planned = quarantine_place(link / checkpoint.name, link, "abc")
    move(planned, {})

    assert planned.place.is_relative_to(tmp_path / DIRECTORY)
    assert not checkpoint.exists()


def test_another_device_is_refused(tmp_path: Path):
    """A copy is no rename, and a copy of what lies on another disk may take for ever."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        checkpoint = Path(elsewhere) / "checkpoint-10"
        checkpoint.mkdir()
        planned = quarantine_place(checkpoint, tmp_path / "out", "abc")

        with pytest.raises(RepairError, match="is on another device; move it away by hand"):
            move(planned, {})

        assert checkpoint.is_dir()
    assert not (tmp_path / DIRECTORY).exists()


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that any user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


AS_NOBODY = """
import os, sys
import tempfile  # sentinel imports it late, and nobody may not read every Python
from pathlib import Path
from sentinel.errors import RepairError
from sentinel.repairs.quarantine import (
    DIRECTORY,
    RECEIPT,
    bring_back,
    move,
    quarantine_place,
    receipt_at,
)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
out = Path(sys.argv[1])
try:
    move(quarantine_place(out / "checkpoint-10", out, "abc"), {})
except RepairError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's here")
@pytest.mark.parametrize("closed", ["beside", "out"])
def test_without_permission_nothing_is_moved_and_no_receipt_left(open_place: Path, closed: str):
    """Neither beside the trainer's directory nor in it may be written: said, and left alone."""
    out = open_place / "run" / "out"
    (out / "checkpoint-10").mkdir(parents=True)
    modes = {"beside": 0o777, "out": 0o777} | {closed: 0o555}
    out.chmod(modes["out"])
    out.parent.chmod(modes["beside"])
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(out)], capture_output=True, text=True, check=True
        )
    finally:
        out.parent.chmod(0o755)

    assert "move it away by hand" in done.stdout
    assert (out / "checkpoint-10").is_dir()
    assert not (out.parent / DIRECTORY).exists()
