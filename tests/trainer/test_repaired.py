"""The bundled trainer resumes from copies that `sentinel repair` makes of its checkpoints."""

from __future__ import annotations

import json

import pytest

from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.files.copy import prepare_copy

pytestmark = pytest.mark.trainer


@pytest.mark.parametrize("optimizer", ["keep", "cast", "drop"])
def test_a_resume_from_a_copy_goes_on_in_its_precision(
    finished, train, tmp_path, *, losses, capsys, optimizer
):
    """The manifest names the new sizes and precision, which the resume inherits."""
    receipt = prepare_copy(
        open_checkpoint(finished / "checkpoint-2"),
        tmp_path / "copy" / "checkpoint-2",
        cast="bf16",
        optimizer=optimizer,
        allow_loss=True,
    )
    copy = receipt.plan.target
    opened = open_checkpoint(copy)
    assert (opened.layout, opened.faults, opened.complete) == ("sentinel-train", (), True)
    assert opened.settings["precision.adapter"] == "bf16"
    manifest = json.loads((copy / "sentinel_manifest.json").read_text())
    sizes = {name: entry["size_bytes"] for name, entry in manifest["files"].items()}
    listed = {path.name for path in copy.iterdir()} - {
        "sentinel_manifest.json",
        "sentinel-repair.json",
    }
    assert sizes == {name: (copy / name).stat().st_size for name in listed}

    capsys.readouterr()
    # Neither the recipe nor an option names a precision: it is the checkpoint's own.
    assert train(tmp_path / "on", "--resume", copy) == 0

    told = capsys.readouterr().out
    assert ("optimizer state: dropped" in told) == (optimizer == "drop")
    assert list(losses(tmp_path / "on")) == [3, 4, 5, 6]
    last = open_checkpoint(tmp_path / "on" / "checkpoint-6")
    assert {tensor.dtype for tensor in last.tensors} == {"BF16"}
