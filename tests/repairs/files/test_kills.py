"""Killed at any instant, a repair leaves no half-made checkpoint under a real name."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from repairs.files.test_undo import adapter, everything, save
from sentinel.formats.opening import discover, open_checkpoint
from sentinel.repairs.files.copy import prepare_copy
from sentinel.repairs.files.undoing import undo

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks, and kills with SIGKILL")

WATCHED = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "shutil.rmtree"}


def killed_at(number: int, work: Callable[[], object], place: Path) -> bool:
    """Do some work in a process of its own that kills itself before its n-th call to the system
    about a place; returns whether it was killed.
    """
    child = os.fork()
    if not child:
        _work(number, work, str(place))
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _work(number: int, work: Callable[[], object], place: str) -> NoReturn:
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in WATCHED and any(str(one).startswith(place) for one in arguments):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        work()
    except BaseException:  # noqa: BLE001 - a child must not go on as pytest
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_kill_leaves_a_whole_copy_or_none(tmp_path, untouched, kind):
    """At each call: only hidden names beside a whole copy or none, and a second try succeeds."""
    number, outcomes = 0, set()
    is_killed = True
    while is_killed:
        number += 1
        root = tmp_path / str(number)
        make = {"directory": lambda p: adapter(p / "checkpoint-3"), "file": _save}[kind]
        original = make(root / "out")
        target = root / "new" / original.name
        with untouched(root / "out"):
            is_killed = killed_at(number, partial(_repair, original, target), root)
            found = [one.path for one in discover(root) if "out" not in one.path.parts]
            assert found in ([], [target])
            outcomes.add(bool(found))
            if found:
                assert_whole(target, original)
            else:
                prepare_copy(open_checkpoint(original), target, cast="bf16")
                assert_whole(target, original)
    assert number > 15
    assert outcomes == {False, True}


def _repair(original: Path, target: Path) -> None:
    prepare_copy(open_checkpoint(original), target, cast="bf16")


def _save(place: Path) -> Path:
    return save(place / "cat.safetensors")


def assert_whole(copy: Path, original: Path) -> None:
    opened = open_checkpoint(copy)
    assert (opened.faults, opened.complete) == ((), open_checkpoint(original).complete)
    assert {tensor.dtype for tensor in opened.tensors} == {"BF16"}
    named = copy / "sentinel-repair.json"
    receipt = named if copy.is_dir() else copy.parent / f"sentinel-repair-{copy.name}.json"
    assert undo(receipt, dry_run=True).is_clean


def test_an_undo_that_was_killed_goes_on(tmp_path, untouched):
    """At each call: what is left is told by the receipt, and doing it again ends it."""
    number, is_killed = 0, True
    while is_killed:
        number += 1
        root = tmp_path / str(number)
        original = adapter(root / "out" / "checkpoint-3")
        before = everything(root)
        receipt = prepare_copy(open_checkpoint(original), cast="bf16")
        with untouched(root / "out"):
            is_killed = killed_at(number, partial(undo, receipt.path), root)
            if receipt.path.exists():
                assert undo(receipt.path).is_clean
        left = everything(root) - before
        assert left <= {"out-repaired", "out-repaired/checkpoint-3"}
        if not is_killed:
            assert left == set()
    assert number > 5
