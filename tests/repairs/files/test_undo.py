"""A copy can be taken away again: only it, only as it was written, only beside its original."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.errors import RepairError
from sentinel.formats.opening import open_checkpoint
from sentinel.receipt import Receipt
from sentinel.repairs.files.copy import prepare_copy
from sentinel.repairs.files.undoing import undo

KEY = "base_model.model.layers.0.q"


def adapter(path: Path) -> Path:
    """A small PEFT adapter in a directory, and the Trainer's state in a checkpoint-N."""
    path.mkdir(parents=True)
    if path.name.startswith("checkpoint-"):
        (path / "trainer_state.json").write_text('{"global_step": 3, "log_history": []}')
    tensors = {
        f"{KEY}.lora_A.weight": np.ones((2, 6), "f4"),
        f"{KEY}.lora_B.weight": np.full((4, 2), 0.5, "f4"),
    }
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2}')
    return path


def save(path: Path) -> Path:
    """A small file of sd-scripts."""
    path.parent.mkdir(parents=True)
    tensors = {
        "lora_unet_q.lora_down.weight": np.ones((2, 6), "f4"),
        "lora_unet_q.lora_up.weight": np.ones((4, 2), "f4"),
    }
    save_file(tensors, path)
    return path


def everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


@pytest.fixture(params=["directory", "file"])
def original(request, tmp_path) -> Path:
    if request.param == "directory":
        return adapter(tmp_path / "out" / "checkpoint-3")
    return save(tmp_path / "out" / "cat.safetensors")


@pytest.fixture
def receipt(original) -> Receipt:
    return prepare_copy(open_checkpoint(original), cast="bf16")


def test_nothing_is_left(tmp_path, original, untouched):
    """Also the directories that were made for it; the original is as it was."""
    before = everything(tmp_path)
    with untouched(tmp_path / "out"):
        receipt = prepare_copy(open_checkpoint(original), cast="bf16")
        assert everything(tmp_path) > before

        done = undo(receipt.path)

    assert done.is_clean
    assert set(done.removed) == {file.path for file in receipt.plan.files}
    assert everything(tmp_path) == before


def test_by_its_directory(tmp_path):
    """The copy's own path will do."""
    receipt = prepare_copy(open_checkpoint(adapter(tmp_path / "a")), cast="bf16")

    assert undo(receipt.plan.target).is_clean
    assert everything(tmp_path) == {"a", "a/adapter_config.json", "a/adapter_model.safetensors"}


def test_a_dry_run_takes_nothing(tmp_path, receipt):
    """It tells the same."""
    before = everything(tmp_path)

    told = undo(receipt.path, dry_run=True)

    assert everything(tmp_path) == before
    assert told == undo(receipt.path)


def test_what_was_changed_or_added_stays(tmp_path):
    """And so do the receipt and the directory, to be undone later."""
    receipt = prepare_copy(open_checkpoint(adapter(tmp_path / "a")), cast="bf16")
    copy = receipt.plan.target
    (copy / "adapter_config.json").write_text("{}")
    (copy / "notes").mkdir()
    (copy / "notes/mine.txt").write_text("mine")

    done = undo(receipt.path)

    assert (done.removed, done.changed) == (
        ("adapter_model.safetensors",),
        ("adapter_config.json",),
    )
    assert done.added == ("notes/mine.txt",)
    assert not done.is_clean
    left = {"adapter_config.json", "notes", "notes/mine.txt", "sentinel-repair.json"}
    assert everything(copy) == left
    again = undo(receipt.path)
    assert (again.removed, again.gone) == ((), ("adapter_model.safetensors",))
    assert everything(copy) == left


def test_what_its_trainer_wrote_beside_it_stays(tmp_path, original, receipt):
    """Later checkpoints of a training that went on from the copy are none of our business."""
    assert original.exists()
    later = receipt.plan.target.parent / "checkpoint-9"
    adapter(later)

    assert undo(receipt.path).is_clean

    assert everything(tmp_path / "out-repaired") == {
        "checkpoint-9",
        "checkpoint-9/adapter_config.json",
        "checkpoint-9/adapter_model.safetensors",
        "checkpoint-9/trainer_state.json",
    }


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_without_its_original_a_copy_stays(tmp_path, original, receipt, how):
    """It may be all there is."""
    weights = original / "adapter_model.safetensors" if original.is_dir() else original
    if how == "gone":
        shutil.rmtree(tmp_path / "out")
    else:
        raw = bytearray(weights.read_bytes())
        raw[-1] ^= 1
        weights.write_bytes(raw)
    before = everything(tmp_path)

    with pytest.raises(RepairError, match="is not taken away"):
        undo(receipt.path)

    assert everything(tmp_path) == before


def test_a_copy_that_was_moved_is_still_its_own(tmp_path):
    """Only what lies where the receipt does counts, not the place it was written to."""
    receipt = prepare_copy(open_checkpoint(adapter(tmp_path / "a")), cast="bf16")
    moved = receipt.plan.target.rename(tmp_path / "elsewhere")

    assert undo(moved).is_clean
    assert everything(tmp_path) == {"a", "a/adapter_config.json", "a/adapter_model.safetensors"}


@pytest.mark.parametrize(
    "name", ["../a/adapter_config.json", "/etc/hostname", "a/../../x", "", "a//b", "."]
)
def test_a_receipt_never_reaches_out_of_its_place(tmp_path, name):
    """However it names a file, and whatever its digest."""
    receipt = prepare_copy(open_checkpoint(adapter(tmp_path / "a")), cast="bf16")
    content = json.loads(receipt.path.read_text())
    entry = content["files"].pop("adapter_config.json")
    content["files"][name] = entry
    receipt.path.write_text(json.dumps(content))
    before = everything(tmp_path)

    with pytest.raises(RepairError, match="does not stay in its place"):
        undo(receipt.path)

    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": 2, "files": {}}', '{"schema": 1, "files": {"a": {}}}']
)
def test_what_is_no_receipt_is_refused(tmp_path, content):
    """In one sentence."""
    path = tmp_path / "sentinel-repair.json"
    path.write_text(content)

    with pytest.raises(RepairError, match="receipt"):
        undo(path)


def test_a_link_in_place_of_a_file_stays(tmp_path):
    """It was not written by us, even where it leads to the same bytes."""
    receipt = prepare_copy(open_checkpoint(adapter(tmp_path / "a")), cast="bf16")
    config = receipt.plan.target / "adapter_config.json"
    config.unlink()
    config.symlink_to(tmp_path / "a" / "adapter_config.json")

    assert undo(receipt.path).changed == ("adapter_config.json",)
    assert config.is_symlink()
