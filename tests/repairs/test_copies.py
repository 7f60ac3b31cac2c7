"""What must hold of copies: whole or not there, without what is left out, originals untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.errors import RepairError
from sentinel.repairs import copies
from sentinel.repairs.copies import Copy, make_fresh

FILES = {
    "meta.json": b"{}",
    "lora/lora.safetensors": b"weights",
    "optimizer/optimizer.pt": b"state",
    "onetrainer_config/args.json": b"{}",
}


def backup(place: Path) -> Path:
    for name, content in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def files(place: Path) -> dict[str, bytes]:
    found = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in found}


def test_the_copy_is_the_only_checkpoint_and_lacks_what_is_left_out(tmp_path: Path):
    """The fresh workspace holds one backup without its optimizer state, no link among it."""
    source = backup(tmp_path / "ws" / "backup" / "b1")
    place = tmp_path / "ws-resumed" / "2"

    make_fresh(place, Copy(source, "backup/b1", ("optimizer/optimizer.pt",)))

    assert list((place / "backup").iterdir()) == [place / "backup" / "b1"]
    expected = {name: content for name, content in FILES.items() if "optimizer.pt" not in name}
    assert files(place / "backup" / "b1") == expected
    assert files(source) == FILES
    for path in place.rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or path.stat().st_nlink == 1


def test_one_file_is_copied_too(tmp_path: Path):
    """A checkpoint that is a file lies in the fresh directory under its own name."""
    source = tmp_path / "cat_000000500.safetensors"
    source.write_bytes(b"weights")

    make_fresh(tmp_path / "new", Copy(source, "cat/cat_000000500.safetensors"))

    assert files(tmp_path / "new") == {"cat/cat_000000500.safetensors": b"weights"}


def test_links_are_followed_not_copied(tmp_path: Path):
    """What a link leads to is copied: the copy stands on its own."""
    source = backup(tmp_path / "b1")
    (source / "linked.json").symlink_to(source / "meta.json")

    make_fresh(tmp_path / "new", Copy(source, "b1"))

    assert not (tmp_path / "new" / "b1" / "linked.json").is_symlink()
    assert (tmp_path / "new" / "b1" / "linked.json").read_bytes() == b"{}"


def test_without_a_copy_it_is_empty(tmp_path: Path):
    """A restart begins in an empty directory, in which nothing can be picked."""
    make_fresh(tmp_path / "new", None)

    assert list((tmp_path / "new").iterdir()) == []


def test_doing_it_again_changes_nothing(tmp_path: Path):
    """After a kill the same step comes again: what is whole stays, with all that was added."""
    source = backup(tmp_path / "b1")
    make_fresh(tmp_path / "new", Copy(source, "b1"))
    (tmp_path / "new" / "written-by-the-trainer").touch()

    make_fresh(tmp_path / "new", Copy(source, "b1"))

    assert (tmp_path / "new" / "written-by-the-trainer").exists()


def test_what_a_kill_left_half_made_is_made_anew(tmp_path: Path):
    """A directory that was being built when sentinel died is never taken for a whole one."""
    source = backup(tmp_path / "b1")
    half = tmp_path / ".tmp-new"
    (half / "b1").mkdir(parents=True)
    (half / "b1" / "half").touch()

    make_fresh(tmp_path / "new", Copy(source, "b1"))

    assert files(tmp_path / "new" / "b1") == FILES
    assert not half.exists()


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk: one sentence, no half directory, the original as it was."""
    source = backup(tmp_path / "b1")

    def full(_from: Path, _to: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies.shutil, "copy2", full)

    with pytest.raises(RepairError, match=r"No space left on device.*make room"):
        make_fresh(tmp_path / "new", Copy(source, "b1"))

    assert [path.name for path in tmp_path.iterdir()] == ["b1"]
    assert files(source) == FILES


def test_an_original_that_is_gone_is_said(tmp_path: Path):
    """The checkpoint was deleted meanwhile: no empty directory is left for a trainer to take."""
    with pytest.raises(RepairError, match="No such file"):
        make_fresh(tmp_path / "new", Copy(tmp_path / "gone", "gone"))

    assert list(tmp_path.iterdir()) == []
