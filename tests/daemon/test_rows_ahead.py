"""A checkpoint's tensors that are written while the rules are asked."""

from __future__ import annotations

import errno
import uuid
from contextlib import contextmanager

import pytest

from sentinel.daemon.recording import logged_tensors
from sentinel.daemon.rows_ahead import RowsAhead
from sentinel.flow import inspect
from sentinel.health.log import HealthLog
from sentinel.health.schema import TENSORS

RUN, ONE, OTHER = str(uuid.UUID(int=1)), "1" * 32, "2" * 32


@pytest.fixture
def tensors(saves, tmp_path):
    saves.folder(tmp_path / "checkpoint-10", 10)
    return logged_tensors(inspect(tmp_path / "checkpoint-10", digest=True))


def parts(log: HealthLog) -> list[str]:
    return sorted(part.stem for part in log.partition(TENSORS, RUN).glob("*.parquet"))


def test_what_was_begun_is_there(tmp_path, tensors):
    """Asked for the same rows of the same checkpoint, they lie there as a whole."""
    log = HealthLog(tmp_path / "health")
    ahead = RowsAhead(log)

    ahead.begin(RUN, ONE, tensors)

    assert ahead.are_written(ONE, tensors)
    assert parts(log) == [ONE]
    assert not ahead.are_written(ONE, tensors)  # it is told once


def test_of_another_checkpoint_nothing_is_said(tmp_path, tensors):
    ahead = RowsAhead(HealthLog(tmp_path / "health"))

    ahead.begin(RUN, ONE, tensors)

    assert not ahead.are_written(OTHER, tensors)


def test_other_rows_are_written_anew(tmp_path, tensors):
    """A verdict that changes the rows has them written with it, and the next is not begun."""
    log = HealthLog(tmp_path / "health")
    ahead = RowsAhead(log)

    ahead.begin(RUN, ONE, tensors)
    assert not ahead.are_written(ONE, tensors.slice(1))
    ahead.begin(RUN, OTHER, tensors)

    assert not ahead.are_written(OTHER, tensors)
    assert parts(log) == [ONE]


def test_a_disk_that_refuses_is_told_with_the_verdict(tmp_path, tensors):
    """Nothing is said to be written that is not."""

    @contextmanager
    def full(_part):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    ahead = RowsAhead(HealthLog(tmp_path / "health", writer=full))

    ahead.begin(RUN, ONE, tensors)

    assert not ahead.are_written(ONE, tensors)
