"""A settled checkpoint handed to the process that reads, as it was opened."""

from __future__ import annotations

import os

import pytest

from sentinel.daemon.reading import Reading
from sentinel.engines.isolated import IsolatedWorker
from sentinel.errors import ChangedWhileReadError
from sentinel.flow import inspect
from sentinel.formats.opening import open_checkpoint


@pytest.fixture(scope="module")
def worker():
    with IsolatedWorker(imports=("sentinel.inspecting",)) as worker:
        yield worker


@pytest.mark.parametrize("bytes_per_s", [None, 10**9], ids=["at once", "paced"])
def test_the_same_as_read_here(saves, tmp_path, worker, bytes_per_s):
    """Numbers, faults and every tensor of the header are those of one who opens it himself."""
    saves.folder(tmp_path / "checkpoint-10", 10)
    opened = open_checkpoint(tmp_path / "checkpoint-10")

    assert Reading(worker, bytes_per_s)(opened) == inspect(opened.path, digest=True)
    assert opened.tensors


def test_what_changed_since_it_was_opened_is_refused(saves, tmp_path, worker):
    """A header that may not be the file's any more is not read by."""
    saves.folder(tmp_path / "checkpoint-10", 10)
    opened = open_checkpoint(tmp_path / "checkpoint-10")
    os.utime(tmp_path / "checkpoint-10" / opened.tensors[0].member, (1, 1))

    with pytest.raises(ChangedWhileReadError):
        Reading(worker)(opened)
