"""Walking a directory: every checkpoint once, in the order of its run, nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentinel.errors import ConfigError
from sentinel.formats.naming import group_of, step_of_path
from sentinel.formats.opening import candidate_at, discover


def found(root: Path) -> list[str]:
    return [candidate.path.relative_to(root).as_posix() for candidate in discover(root)]


def test_runs_come_in_the_order_of_their_steps(write) -> None:
    """By number and not by name, the last save into the folder itself at the end."""
    for step in (10, 9, 200):
        write.trainer(f"run/checkpoint-{step}")
    write.peft("run")
    write.kohya("cat-step00000200.safetensors")
    write.kohya("cat-step00000030.safetensors")
    write.kohya("cat.safetensors")

    assert found(write.root) == [
        "cat-step00000030.safetensors",
        "cat-step00000200.safetensors",
        "cat.safetensors",
        "run/checkpoint-9",
        "run/checkpoint-10",
        "run/checkpoint-200",
        "run",
    ]
    assert len({candidate.group for candidate in discover(write.root)}) == 2


@pytest.mark.parametrize(
    "name",
    [
        ".tmp-checkpoint-3-77",
        "tmp-checkpoint-3",
        "checkpoint-3-tmp",
        ".sentinel-quarantine/checkpoint-3",
        "superseded-20260101T000000Z/checkpoint-3",
        ".git/checkpoint-3",
    ],
)
def test_temporary_and_put_aside_names_are_skipped(write, name: str) -> None:
    write.trainer(name)
    write.tensors(".half.safetensors")
    write.tensors("w.safetensors.tmp")

    assert found(write.root) == []


def test_a_skipped_name_given_by_the_user_is_scanned(write) -> None:
    path = write.trainer(".sentinel-quarantine/checkpoint-3")

    assert [candidate.path for candidate in discover(path)] == [path]
    assert found(path.parent) == ["checkpoint-3"]


def test_a_checkpoint_is_closed_but_for_its_other_adapters(write) -> None:
    path = write.trainer("run/checkpoint-3")
    write.peft("run/checkpoint-3/critic")
    write.tensors("run/checkpoint-3/extra.safetensors")
    write.tensors("run/checkpoint-3/global_step3/deep.safetensors")

    [own, critic] = discover(write.root)

    assert (own.path, critic.path) == (path, path / "critic")
    assert (critic.layout, critic.step) == ("peft", 3)
    assert (own.group, critic.group) == (str(write.root / "run"), str(write.root / "run/critic"))


def test_an_output_folder_with_a_last_save_is_walked_on(write) -> None:
    write.peft("out")
    write.trainer("out/checkpoint-5")
    write.trainer("out/phase2/checkpoint-7")

    assert sorted(found(write.root)) == ["out", "out/checkpoint-5", "out/phase2/checkpoint-7"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_links_neither_loop_nor_double(write) -> None:
    """The real name wins, also over a link that sorts before it."""
    write.trainer("run/checkpoint-3")
    (write.root / "run/best").symlink_to("checkpoint-3")
    (write.root / "a-link").symlink_to("run")
    (write.root / "run/loop").symlink_to(write.root)
    write.tensors("z.safetensors")
    (write.root / "a.safetensors").symlink_to("z.safetensors")

    assert sorted(found(write.root)) == ["run/checkpoint-3", "z.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_a_link_to_outside_is_followed(write, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model cache keeps its files elsewhere, under names without a suffix."""
    blob = tmp_path_factory.mktemp("blobs") / "0f3a"
    write.tensors("w.safetensors").rename(blob)
    (write.root / "model.safetensors").symlink_to(blob)

    assert found(write.root) == ["model.safetensors"]


def test_a_checkpoint_itself_is_found(write) -> None:
    directory = write.trainer("run/checkpoint-3")
    file = write.kohya("cat.safetensors")
    other = write.root / "model.ckpt"
    other.write_bytes(b"pickle")

    for path, layout in (
        (directory, "transformers-trainer"),
        (file, "kohya"),
        (other, "unknown"),
    ):
        assert [(one.path, one.layout) for one in discover(path)] == [(path, layout)]


def test_odd_names_are_found(write) -> None:
    names = ["with space/checkpoint-1", "żółw/checkpoint-2"]
    if os.name != "nt":
        names += ["line\nbreak/checkpoint-3", os.fsdecode(b"b\xff/checkpoint-4")]
    for name in names:
        write.trainer(name)

    assert sorted(found(write.root)) == sorted(names)


def test_nothing_there_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        list(discover(tmp_path / "none"))


def test_a_directory_of_other_trainers_is_not_taken_for_transformers(write) -> None:
    """The diffusers scripts use the same directory names."""
    write.kohya("run/checkpoint-3/pytorch_lora_weights.safetensors")

    [candidate] = discover(write.root)

    assert (candidate.path.name, candidate.layout) == ("checkpoint-3", "diffusers-lora")
    assert candidate.step == 3


def test_candidate_at_takes_this_very_path(write) -> None:
    path = write.trainer("run/checkpoint-3")

    assert candidate_at(path).step == 3
    assert candidate_at(path.parent) is None
    assert candidate_at(path / "gone.safetensors") is None


def test_descriptions_before_the_first_step_are_no_adapter(write) -> None:
    """Axolotl's output directory before it saved: an adapter's description beside the model's."""
    root = write.root / "out"
    root.mkdir()
    (root / "adapter_config.json").write_text("{}")
    assert candidate_at(root).layout == "peft"
    (root / "config.json").write_text("{}")

    assert candidate_at(root) is None


@pytest.mark.parametrize(
    ("path", "group", "step"),
    [
        ("out/checkpoint-300", "out", 300),
        ("out", "out", None),
        ("out/cat-step00000300.safetensors", "out/cat", 300),
        ("out/cat-000012.safetensors", "out/cat", 12),
        ("out/cat_000002000.safetensors", "out/cat", 2000),
        ("out/cat-v2.safetensors", "out/cat-v2", None),
        ("out/step_7", "out", 7),
        ("out/checkpoint-30-rolling", "out", 30),
        ("out/checkpoint-300/critic", "out/critic", 300),
        ("m/model-00001-of-00002.safetensors", "m/model", None),
        ("ws/backup/2026-01-02_03-04-05-backup-20-0-20", "ws/backup", 20),
        ("ws/save/cat-2026-01-02_03-04-05-save-7-0-7.safetensors", "ws/save/cat-save", 7),
        ("ws/save/2026-01-02_03-04-05-save-7-0-7.safetensors", "ws/save/save", 7),
        ("ckpt/epoch=0-step=10.ckpt", "ckpt", None),
        ("ckpt/cat-epoch=0.ckpt", "ckpt", None),
        ("ckpt/last-v1.ckpt", "ckpt", None),
        ("out/cat.ckpt", "out/cat.ckpt", None),
        ("out/cat-step00000300-state", "out/cat-state", None),
        ("out/cat-000012-state", "out/cat-state", None),
        ("out/cat-state", "out/cat-state", None),
    ],
)
def test_names(path: str, group: str, step: int | None) -> None:
    assert Path(group_of(Path(path))) == Path(group)
    assert step_of_path(Path(path)) == step
