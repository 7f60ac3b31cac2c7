from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sentinel.health.log import HealthLog
from sentinel.health.reading import read_run

GOLDENS = sorted((Path(__file__).parent / "goldens").iterdir())
"""A log as each released version wrote it: written once by `write_story`, never again."""


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.name)
def test_the_log_of_every_version_stays_readable(story, readers, golden, tmp_path):
    """Old parts are read by us and by others, alone and beside parts of today."""
    root = tmp_path / "log"
    shutil.copytree(golden, root)
    old = read_run(root, story.RUN)
    assert [(row.attempt, row.step, row.verdict) for row in old.checkpoints] == [
        (1, 20, "healthy"),
        (1, 40, "faulty"),
        (2, 40, "healthy"),
    ]
    assert [event.kind for event in old.events] == ["plan", "finding", "finding"]

    HealthLog(root).append(story.row(60, attempt=2), story.tensors(60))

    assert len(read_run(root, story.RUN).checkpoints) == 4
    for read in readers.READERS.values():
        assert len(read(root, "tensors")) == 8
