"""What must hold of a pin: whole or not there, its own bytes, and the source only read."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from sentinel.errors import RepairError
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs import pin_copy
from sentinel.repairs.pin_copy import (
    Source,
    SourceChangedError,
    files_of,
    take,
)
from sentinel.repairs.pins import MANIFEST, AbandonedError, PinStore, check, digest_of

RUN = str(uuid.UUID(int=7))
STEPS = 40
"""More than the steps of the pinning below; a number beyond the last one never kills."""

KILLED = Path(__file__).parent / "programs" / "killed_pinning.py"


def source_at(path: Path, *, checkpoint_id: str = "abc", seq: int = 1) -> Source:
    """A checkpoint as it lies now, as if it were judged just now."""
    return Source.of(
        open_checkpoint(path), run_id=RUN, attempt=1, checkpoint_id=checkpoint_id, seq=seq
    )


@pytest.fixture
def store(tmp_path: Path) -> PinStore:
    return PinStore(tmp_path / "state" / "pins")


@pytest.fixture
def checkpoint(tmp_path: Path, saves) -> Path:
    """A directory with more in it than its layout names."""
    path = saves.folder(tmp_path / "out" / "checkpoint-30", 30)
    (path / "tokenizer.model").write_bytes(os.urandom(10_000))
    (path / ".guard").write_text("complete\n")
    (path / "global_step30").mkdir()
    (path / "global_step30" / "shard.pt").write_bytes(b"shard")
    return path


def never() -> bool:
    return False


def pinned(store: PinStore, source: Source):
    return take(store, source, files_of(source), stopped=never)


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a path with its content."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def lying(path: Path) -> list[tuple[int, ...]]:
    """How a path and all below it lie, ctime and link counts included."""
    status = [one.lstat() for one in (path, *sorted(path.rglob("*")))]
    return [(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_nlink) for s in status]


def test_a_directory_is_pinned_with_all_that_lies_in_it(store, checkpoint):
    """A resume also reads what no layout names: every file, hidden and nested ones too."""
    pin = pinned(store, source_at(checkpoint))

    assert tree(pin.path) == tree(checkpoint)
    assert pin.path == store.place(RUN, "abc") / "checkpoint-30"
    assert open_checkpoint(pin.path).faults == ()
    check(pin)
    assert store.pins() == store.pins(RUN) == [pin]
    assert pin.manifest.source == str(checkpoint)
    assert pin.manifest.step == 30


def test_nothing_of_the_source_changes(store, checkpoint):
    """No file, time, or link count below the trainer's directory: a hard link would show."""
    before = lying(checkpoint.parent)

    pinned(store, source_at(checkpoint))

    assert lying(checkpoint.parent) == before


def test_a_single_file_is_pinned_under_its_name(store, tmp_path, saves):
    """sd-scripts and ai-toolkit write one file a checkpoint: that file, and no neighbour."""
    path = saves.file(tmp_path / "out" / "cat-step00000030.safetensors", 30)
    saves.file(tmp_path / "out" / "cat-step00000040.safetensors", 40)

    pin = pinned(store, source_at(path))

    assert pin.path.read_bytes() == path.read_bytes()
    assert sorted(tree(pin.place)) == ["cat-step00000030.safetensors", MANIFEST]


def test_an_output_directory_is_no_checkpoint_to_copy_whole(store, tmp_path, saves):
    """The last save lies in the output directory itself: its members, not the steps below it."""
    path = saves.folder(tmp_path / "out", 40)
    saves.folder(path / "checkpoint-30", 30)
    (path / "training.log").write_text("still growing")

    pin = pinned(store, source_at(path))

    assert sorted(tree(pin.path)) == sorted(
        set(tree(path))
        & {"adapter_model.safetensors", "adapter_config.json", "sentinel_manifest.json"}
    )


def test_what_is_deleted_while_it_is_copied_is_still_pinned_whole(store, checkpoint):
    """Rotation may come at any moment after the files were opened."""
    source = source_at(checkpoint)
    content = tree(checkpoint)

    def rotated() -> bool:
        for file in sorted(checkpoint.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        return False

    pin = take(store, source, files_of(source), stopped=rotated)

    assert tree(pin.path) == content
    check(pin)


@pytest.mark.parametrize("written", ["adapter_model.safetensors", "tokenizer.model"])
def test_what_is_written_while_it_is_copied_is_not_pinned(store, checkpoint, written):
    """A trainer that writes there again: no pin, and nothing left of the attempt."""
    source = source_at(checkpoint)

    def rewritten() -> bool:
        (checkpoint / written).write_bytes(b"something else")
        return False

    with pytest.raises(SourceChangedError, match=r"meanwhile|written again"):
        take(store, source, files_of(source), stopped=rewritten)

    assert tree(store.root) == {}
    assert store.pins() == []


def test_what_is_not_as_it_was_judged_is_not_pinned(checkpoint, saves):
    """Another checkpoint under the name, or none at all."""
    source = source_at(checkpoint)
    checkpoint.rename(checkpoint.with_name("away"))
    with pytest.raises(SourceChangedError, match="is gone"):
        files_of(source)

    saves.folder(checkpoint, 31)
    with pytest.raises(SourceChangedError, match="not as it was judged"):
        files_of(source)


def test_a_copy_that_is_given_up_leaves_nothing(store, checkpoint):
    """Sentinel is asked to end: within one block it does, without a trace."""
    source = source_at(checkpoint)
    with pytest.raises(AbandonedError):
        take(store, source, files_of(source), stopped=lambda: True)

    assert tree(store.root) == {}


def test_a_full_disk_leaves_nothing(store, checkpoint, monkeypatch):
    """The system refuses a block: the error is the system's own, and no part of a pin stays."""
    source = source_at(checkpoint)

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pin_copy, "_reflinked", full)
    with pytest.raises(OSError, match="No space"):
        pinned(store, source)

    assert tree(store.root) == {}


def test_pinning_again_is_harmless(store, checkpoint):
    """A pin that is there stays as it is, also when its source is gone by now."""
    source = source_at(checkpoint)
    files = files_of(source)
    first = take(store, source, files, stopped=never)
    checkpoint.rename(checkpoint.with_name("away"))

    assert take(store, source, files, stopped=never) == first


@pytest.mark.parametrize("change", ["flipped", "longer", "gone"])
def test_a_pin_that_is_not_as_pinned_is_refused(store, checkpoint, change):
    """One bit, one byte more, or a file less: it is said, and which file it is."""
    pin = pinned(store, source_at(checkpoint))
    file = pin.path / "tokenizer.model"
    content = file.read_bytes()
    file.unlink()
    if change == "flipped":
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif change == "longer":
        file.write_bytes(content + b"x")

    with pytest.raises(RepairError, match=r"tokenizer\.model"):
        check(pin)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"schema_version": 99}',
        b"[1, 2, 3]",
    ],
)
def test_a_manifest_that_cannot_be_believed_is_no_pin(store, checkpoint, manifest):
    """Not listed, not used, and replaced by the next pinning."""
    source = source_at(checkpoint)
    pin = pinned(store, source)
    (pin.place / MANIFEST).write_bytes(manifest)

    assert store.pins() == []
    assert store.find(RUN, "abc") is None
    assert pinned(store, source).path.is_dir()
    assert len(store.pins()) == 1


def test_a_manifest_does_not_lead_outside(store, checkpoint):
    """A file of a pin that lies elsewhere is none: what is checked and begun from stays inside."""
    pin = pinned(store, source_at(checkpoint))
    manifest = pin.place / MANIFEST
    manifest.write_text(manifest.read_text().replace("checkpoint-30/tokenizer.model", "../../x"))

    assert store.pins() == []


def test_dropping_removes_the_pin_and_an_empty_run(store, checkpoint):
    """The last pin of a run takes the run's directory with it; the other runs' stay."""
    pin = pinned(store, source_at(checkpoint))
    other = pinned(store, source_at(checkpoint, checkpoint_id="def", seq=2))
    store.drop(pin)
    assert store.pins() == [other]

    store.drop(other)
    store.drop(other)
    assert list(store.root.iterdir()) == []


def test_the_digest_is_of_the_bytes(tmp_path):
    """More than one block, and none at all; the values are xxhash's own."""
    xxhash = pytest.importorskip("xxhash")
    for content in (b"", b"x", os.urandom((4 << 20) + 1)):
        (tmp_path / "file").write_bytes(content)
        assert digest_of(tmp_path / "file") == (
            len(content),
            xxhash.xxh3_128_hexdigest(content),
        )


def test_a_reflink_where_the_file_system_has_one(store, checkpoint):
    """The same bytes by sharing them; the source may be written without the pin changing."""
    pin = pinned(store, source_at(checkpoint))
    if pin.manifest.how != "reflink":
        pytest.skip("this file system has no reflinks")
    content = tree(pin.path)
    (checkpoint / "tokenizer.model").write_bytes(b"x")

    assert tree(pin.path) == content


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=[] if n % 6 == 0 else [pytest.mark.slow]) for n in range(1, STEPS + 1)],
)
def test_killed_at_any_step_there_is_no_half_pin(store, checkpoint, number):
    """`kill -9` at the n-th thing done to the disk: a whole pin under its name, or none; the
    next start sweeps what is left and pins it."""
    done = subprocess.run(
        [sys.executable, str(KILLED), str(number), str(checkpoint), str(store.root), RUN],
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        pytest.skip(f"pinning takes fewer than {number} steps")
    assert done.returncode == -signal.SIGKILL, done.stderr
    for pin in store.pins():
        check(pin)
        assert tree(pin.path) == tree(checkpoint)

    store.sweep(RUN)
    pin = pinned(store, source_at(checkpoint))

    check(pin)
    assert [path.name for path in store.root.glob("*/*")] == ["abc"]
