"""ai-toolkit: its saves, laid out from the facts, are read as they were meant.

The facts come from whole jobs of its own trainer (`probes/ai_toolkit.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from expecting import filled, pairs_hold, tensors_hold
from laying import facts_of, lay

from sentinel.formats.opening import discover, open_checkpoint

FACTS = facts_of("ai_toolkit")
RUNS = FACTS["runs"]
SAVES = [
    (run, file)
    for run, what in RUNS.items()
    for file in what["files"]
    if file.endswith(".safetensors")
]
PRECISIONS = {"bf16": "bf16", "fp32": "fp32"}


def laid(run: str, root: Path) -> dict[str, Any]:
    """Lay a job's files out, the configuration first, as it was written first."""
    files = {k: v for k, v in RUNS[run]["files"].items() if not k.endswith(".pt")}
    lay(files, root, filled)
    os.utime(root / "cat/config.yaml", (1, 1))
    return files


@pytest.mark.parametrize(("run", "file"), SAVES)
def test_a_save(tmp_path: Path, run: str, file: str) -> None:
    """Its tensors, their roles and zero sides, ranks and scales; step, epoch and trainer.

    Without alphas the scale is one, whatever alpha the configuration asked for.
    """
    facts = laid(run, tmp_path)[file]

    found = open_checkpoint(tmp_path / file)

    assert (found.layout, found.trainer, found.faults) == ("ai-toolkit", "ai-toolkit", ())
    assert [member.path for member in found.members] == [Path(file).name]
    tensors_hold(
        found, facts["tensors"], None if RUNS[run]["began_at"] else RUNS[run]["zero_at_start"]
    )
    if "fullrank" not in run:
        pairs_hold(found, facts["tensors"])
    last = RUNS[run]["process"]["train"]["steps"]
    _, _, step = Path(file).stem.rpartition("_")
    assert found.step == (int(step) if step.isdigit() else last)
    assert found.epoch == 0.0


@pytest.mark.parametrize("run", RUNS)
def test_settings_come_from_the_jobs_configuration(tmp_path: Path, run: str) -> None:
    process = RUNS[run]["process"]
    laid(run, tmp_path)

    settings = open_checkpoint(tmp_path / "cat/cat.safetensors").settings

    expected = {
        "precision.adapter": "fp32",
        "adapter.method": process["network"]["type"].lower(),
        "base.path": "base",
        "base.quantization": "none",
        "optimizer.name": process["train"].get("optimizer"),
        "optimizer.learning_rate": process["train"]["lr"],
        "optimizer.weight_decay": process["train"].get("optimizer_params", {}).get("weight_decay"),
        "training.max_steps": process["train"]["steps"],
        "training.save_steps": 2,
        "precision.output": PRECISIONS.get(process["save"].get("dtype", "")),
    }
    assert {key: settings.get(key) for key in expected} == expected
    assert settings["versions.ai_toolkit"].count(".") == 2


def test_a_configuration_written_later_says_nothing(tmp_path: Path) -> None:
    """It was that of a later start: what this save was trained with is not known."""
    laid("flux", tmp_path)
    os.utime(tmp_path / "cat/config.yaml", (2**32, 2**32))

    found = open_checkpoint(tmp_path / "cat/cat.safetensors")

    assert "optimizer.name" not in found.settings
    assert found.updates_done is None


def test_updates_are_counted_where_the_schedule_is_known(tmp_path: Path) -> None:
    laid("flux", tmp_path)

    assert open_checkpoint(tmp_path / "cat/cat_000000008.safetensors").updates_done == 8


def test_the_shared_optimizer_is_no_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    lay(RUNS["flux"]["files"], tmp_path)

    found = list(discover(tmp_path))

    assert [(one.path.name, one.step) for one in found] == [
        ("cat_000000006.safetensors", 6),
        ("cat_000000008.safetensors", 8),
        ("cat.safetensors", 9),
    ]


def test_whole_norms_are_part_of_the_adapter(tmp_path: Path) -> None:
    laid("flux all layers", tmp_path)

    found = open_checkpoint(tmp_path / "cat/cat.safetensors")

    norms = [one for one in found.tensors if ".norm_q." in one.name]
    assert {(one.role, one.family, one.zero_at_init) for one in norms} == {
        ("adapter", "full", True)
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 2]\nb: *a\n",
        "- 1\n",
        "a: [\n",
        "\x00",
        "a: " + "[" * 5000,
        "config: {name: cat, process: 7}",
        "config: {name: cat, process: [{train: 7, model: [], network: {type: 9}}]}",
        "config: {name: cat, process: [{train: {lr: .nan, optimizer_params: [1]}}]}",
        "x: " + "9" * 10_000,
    ],
)
def test_no_configuration_raises(tmp_path: Path, text: str) -> None:
    laid("flux", tmp_path)
    (tmp_path / "cat/config.yaml").write_text(text, encoding="utf-8")
    os.utime(tmp_path / "cat/config.yaml", (1, 1))

    found = open_checkpoint(tmp_path / "cat/cat.safetensors")

    assert found.step == 9
    assert "optimizer.name" not in found.settings
