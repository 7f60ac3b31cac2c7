"""What a scan or a watch does for one checkpoint does not grow with how many lie beside it.

Nothing is timed: the interpreter itself tells (PEP 578) which directories were listed and which
files were opened and which calls were made, and it and Arrow tell how many bytes they hold.
"""

from __future__ import annotations

import json
import os
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

import sentinel
from saves import Saves
from sentinel.daemon.arrivals import Arrived
from sentinel.daemon.candidates import Candidates, lying
from sentinel.formats.logs.places import event_files_in
from sentinel.reports.entries import entry_of
from sentinel.rules.load import load_rules
from sentinel.scanning import judged

RULES = load_rules()[:1]

MOST_BYTES_EACH = 4_000
"""What is left of each checkpoint of a scan: 2,300 of its entry; a judgement whole takes 5,600,
and as much again of Arrow's."""

_heard: list[Counter[tuple[str, str]]] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _heard and event in {"os.scandir", "os.listdir", "open"}:
        _heard[-1][event.removeprefix("os."), str(arguments[0])] += 1


sys.addaudithook(_hear)


@contextmanager
def heard() -> Iterator[Counter[tuple[str, str]]]:
    """Count what is listed and opened in the block, by what and where."""
    _heard.append(Counter())
    try:
        yield _heard[-1]
    finally:
        _heard.pop()


def kohya(run: Path, step: int) -> None:
    """A file of sd-scripts' beside the others."""
    Saves.file(run / f"cat-step{step:08}.safetensors", step)


def adapter(path: Path) -> None:
    """A directory of PEFT's."""
    path.mkdir()
    tensors = {
        f"base_model.model.q_proj.lora_{end}.weight": np.full(shape, 0.5, "f4")
        for end, shape in (("A", (2, 6)), ("B", (4, 2)))
    }
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')


def peft(run: Path, step: int) -> None:
    """A directory of PEFT's beside the others."""
    adapter(run / f"step-{step}")


def trainer(run: Path, step: int) -> None:
    """A `checkpoint-N` of Transformers' Trainer."""
    path = run / f"checkpoint-{step}"
    adapter(path)
    state = {"global_step": step, "log_history": [{"step": step, "loss": 1.0}]}
    (path / "trainer_state.json").write_text(json.dumps(state))


def bundled(run: Path, step: int) -> None:
    """A directory of the bundled trainer's."""
    Saves.folder(run / f"checkpoint-{step}", step)


def filled(run: Path, write: Callable[[Path, int], None], count: int) -> Path:
    """A run's directory that nothing was written into for a while."""
    run.mkdir()
    for step in range(1, count + 1):
        write(run, step)
    os.utime(run, (1_700_000_000, 1_700_000_000))
    return run


@pytest.mark.parametrize("write", [kohya, peft, trainer, bundled])
def test_how_often_a_run_is_listed_does_not_grow_with_its_checkpoints(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    """The directory of a run is not listed once for each checkpoint in it."""
    listed = []
    for count in (2, 12):
        run = filled(tmp_path / f"run{count}", write, count)
        with heard() as events:
            judged = sentinel.scan(run, rules=RULES, settle_s=0)
        assert len(judged) == count
        listed.append(events["scandir", str(run)] + events["listdir", str(run)])
    few, many = listed
    # Names are forgotten every ten seconds, which may fall into the second scan.
    assert 1 <= many <= few + 1


def calls_of(fn: Callable[[], object]) -> int:
    """How often a function and what it calls enter and leave one, of Python's or of C's."""
    count = 0

    def count_one(_frame: FrameType, _event: str, _of: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(count_one)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return count


def test_judging_one_takes_as_many_calls_however_many_came_before(tmp_path: Path) -> None:
    """With all rules, and more checkpoints than those that rules look back at."""
    runs = [filled(tmp_path / f"run{count}", kohya, count) for count in (17, 25, 33)]
    sentinel.scan(runs[0], settle_s=0)  # imports, and what is read and compiled once
    first, second, third = (
        calls_of(partial(sentinel.scan, run, settle_s=0, jobs=1)) for run in runs
    )
    # What a library does once in a while falls here or there.
    assert third - second < 1.02 * (second - first)


def most_held(run: Path) -> tuple[int, int]:
    """The bytes of Python's that are left of a scan, and the most of Arrow's while it went on."""
    arrow, most_arrow, entries = pa.total_allocated_bytes(), 0, []
    tracemalloc.start()
    try:
        for one in judged(run, rules=RULES, settle_s=0, jobs=2):
            entries.append(entry_of(one))
            most_arrow = max(most_arrow, pa.total_allocated_bytes() - arrow)
        return tracemalloc.get_traced_memory()[0], most_arrow
    finally:
        tracemalloc.stop()


def test_what_a_scan_holds_of_a_checkpoint_is_what_its_report_tells(tmp_path: Path) -> None:
    """What was read of it is let go when those after it no longer look back at it."""
    few, many = (filled(tmp_path / f"run{count}", kohya, count) for count in (64, 128))
    most_held(few)  # imports, and tables that are made once
    (traced, arrow), (more_traced, more_arrow) = (most_held(run) for run in (few, many))
    assert more_arrow < 1.1 * arrow
    assert (more_traced - traced) / 64 < MOST_BYTES_EACH


def test_a_checkpoint_that_is_deleted_before_its_turn_is_told(tmp_path: Path) -> None:
    """As a trainer's rotation does it, while many others are judged: no reason to end the scan."""
    run = filled(tmp_path / "run", kohya, 80)
    rules = [rule for rule in load_rules() if rule.id == "missing-shard"]
    judgements = judged(run, rules=rules, settle_s=0)
    first = next(judgements)
    (run / "cat-step00000080.safetensors").unlink()
    levels = [first.verdict.level, *(one.verdict.level for one in judgements)]
    assert levels == ["healthy"] * 79 + ["unreadable"]


def test_an_event_beside_judged_files_opens_none_of_them(tmp_path: Path) -> None:
    """A new file is the only one that is opened, however many with a verdict lie beside it."""
    candidates = Candidates(on_note=pytest.fail)
    run = filled(tmp_path / "run", kohya, 8)
    everything = Arrived(frozenset(), frozenset(), rescan=True)
    for found in candidates.found(everything, [run]):
        candidates.judged(found, lying(found))
    kohya(run, 9)
    with heard() as events:
        (new,) = candidates.found(Arrived(frozenset({run}), frozenset(), rescan=False), [run])
    assert new.step == 9
    opened = {where for what, where in events if what == "open" and where.startswith(str(run))}
    assert opened == {str(new.path)}
    # One that was written anew is looked at again.
    Saves.file(run / "cat-step00000003.safetensors", 3, like=4)
    again = candidates.found(Arrived(frozenset({run}), frozenset(), rescan=False), [run])
    assert {one.step for one in again} == {3, 9}


@pytest.mark.parametrize("name", ["model", "cat"])
def test_a_set_is_looked_at_again_when_its_late_shard_comes(tmp_path: Path, name: str) -> None:
    """The first shard lies as it did when it was judged alone; the set does not."""
    candidates = Candidates(on_note=pytest.fail)
    first, second = (tmp_path / f"{name}-{n:05}-of-00002.safetensors" for n in (1, 2))
    save_file({"model.layers.0.weight": np.ones((2, 4), "f4")}, first)
    (torn,) = candidates.found(Arrived(frozenset(), frozenset(), rescan=True), [tmp_path])
    candidates.judged(torn, lying(torn))
    hint = Arrived(frozenset({tmp_path}), frozenset(), rescan=False)
    assert candidates.found(hint, [tmp_path]) == []
    save_file({"model.layers.1.weight": np.ones((2, 4), "f4")}, second)
    (whole,) = candidates.found(hint, [tmp_path])
    assert whole.path == first
    assert len(lying(whole)) == 2


def test_a_save_is_looked_at_again_when_its_embeddings_come(tmp_path: Path) -> None:
    """OneTrainer writes them beside the weights, into a directory of the save's name."""
    candidates = Candidates(on_note=pytest.fail)
    path = tmp_path / "cat.safetensors"
    save_file({"lora_unet_a.lora_up.weight": np.ones((2, 4), "f4")}, path, {"ot_branch": "master"})
    (alone,) = candidates.found(Arrived(frozenset(), frozenset(), rescan=True), [tmp_path])
    candidates.judged(alone, lying(alone))
    hint = Arrived(frozenset({tmp_path}), frozenset(), rescan=False)
    assert candidates.found(hint, [tmp_path]) == []
    beside = tmp_path / "cat.safetensors_embeddings"
    beside.mkdir()
    save_file({"emb": np.ones((2, 4), "f4")}, beside / "a.safetensors")
    (again,) = (one for one in candidates.found(hint, [tmp_path]) if one.path == path)
    assert len(lying(again)) == 2


def test_a_log_that_appears_is_seen_at_once(tmp_path: Path) -> None:
    """The names of a directory's event files are remembered only while it does not change."""
    first, second = (tmp_path / f"events.out.tfevents.17000000{n}0.host.1.0" for n in (1, 2))
    first.touch()
    os.utime(tmp_path, (1_700_000_000, 1_700_000_000))
    assert event_files_in(tmp_path, 2e9) == (first,)
    with heard() as events:
        assert event_files_in(tmp_path, 2e9) == (first,)
    assert events["scandir", str(tmp_path)] <= 1
    second.touch()
    assert event_files_in(tmp_path, 2e9) == (first, second)
    # A time that was set back is not enough: the system's own goes on.
    second.unlink()
    os.utime(tmp_path, (1_700_000_000, 1_700_000_000))
    assert event_files_in(tmp_path, 2e9) == (first,)
