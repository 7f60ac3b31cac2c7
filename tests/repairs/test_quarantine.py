"""What must hold of the quarantine: one rename, beside the root, never over anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.errors import RepairError
from sentinel.repairs.quarantine import RECEIPT, move, quarantine_place


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
