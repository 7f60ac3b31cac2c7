"""Where a base is looked for when nobody names it, and where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import sentinel
from sentinel.flow import find_base
from sentinel.formats.hub_cache import cache_of, snapshot_of
from sentinel.formats.opening import open_checkpoint

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which alone is looked into."""
    path = tmp_path / "hub"
    path.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(path))
    return path


def model(path: Path, rows: int = 4) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    weight = np.ones((rows, 6), "f4")
    save_file({"model.layers.0.self_attn.q_proj.weight": weight}, path / "model.safetensors")
    return path


def snapshot(cache: Path, name: str, commit: str, rows: int = 4, ref: str = "main") -> Path:
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / ref).write_text(commit)
    return model(folder / "snapshots" / commit, rows)


def rows_found(checkpoint: Path) -> int | None:
    base = find_base(open_checkpoint(checkpoint))
    return base.weights[0].out_features if base is not None else None


def test_a_path_that_the_adapter_names(write) -> None:
    base = model(write.root / "base")

    assert rows_found(write.peft("adapter", base_model_name_or_path=str(base))) == 4


def test_a_name_of_the_hub(write, cache: Path) -> None:
    snapshot(cache, "owner/name", COMMIT)

    assert rows_found(write.peft("adapter", base_model_name_or_path="owner/name")) == 4


def test_the_revision_that_the_adapter_names(write, cache: Path) -> None:
    """By its branch and by its commit; main is another one."""
    snapshot(cache, "owner/name", COMMIT)
    snapshot(cache, "owner/name", OTHER, rows=8, ref="old")

    for number, revision in enumerate(("old", OTHER)):
        adapter = write.peft(
            f"adapter{number}", base_model_name_or_path="owner/name", revision=revision
        )
        assert rows_found(adapter) == 8


def test_a_directory_of_that_name_comes_first(
    write, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As libraries do it: what lies there locally wins over the hub."""
    snapshot(cache, "owner/name", COMMIT)
    model(write.root / "owner" / "name", rows=8)
    monkeypatch.chdir(write.root)

    assert rows_found(write.peft("adapter", base_model_name_or_path="owner/name")) == 8


@pytest.mark.parametrize("place", ["adapter", "."])
def test_the_configuration_beside_names_it(write, cache: Path, place: str) -> None:
    """Axolotl and others leave the base's configuration in the output directory."""
    snapshot(cache, "owner/name", COMMIT)
    adapter = write.peft("adapter")
    write.json(f"{place}/config.json", {"_name_or_path": "owner/name"})

    assert rows_found(adapter) == 4


@pytest.mark.parametrize("place", ["adapter", "."])
def test_a_model_beside_the_adapter(write, place: str) -> None:
    adapter = write.peft("adapter", base_model_name_or_path="owner/gone")
    model(write.root / place)

    assert rows_found(adapter) == 4


def test_the_manifest_of_the_bundled_trainer_names_it(write) -> None:
    base = model(write.root / "base")
    adapter = write.peft("adapter")
    write.json(
        "adapter/sentinel_manifest.json", {"schema": 1, "step": 1, "base": {"path": str(base)}}
    )

    assert rows_found(adapter) == 4


def test_a_broken_base_is_passed_over(write, cache: Path) -> None:
    """The next place is asked; a model that cannot be read is no finding about the adapter."""
    snapshot(cache, "owner/name", COMMIT)
    base = model(write.root / "owner")
    (base / "model.safetensors").write_bytes(b"torn")
    adapter = write.peft("adapter", base_model_name_or_path=str(base))

    assert rows_found(adapter) is None


def test_several_packings_of_a_model_are_none(write) -> None:
    """Which of them the adapter is for, nobody says; asked for with --base it is an error."""
    for name in ("q4.gguf", "q8.gguf"):
        (write.root / name).write_bytes(b"GGUF")
    write.json("config.json", {})

    assert rows_found(write.peft("adapter", base_model_name_or_path=str(write.root))) is None


def test_without_a_base_the_rules_say_so(write) -> None:
    adapter = write.peft("adapter", base_model_name_or_path="owner/gone")

    (judgement,) = sentinel.scan(adapter, settle_s=0)

    reasons = {one.rule: one.reason for one in judgement.verdict.not_evaluated}
    assert reasons["adapter-keys-mismatch-base"] == "table 'base' is not known"


@pytest.mark.parametrize(
    "name",
    ["../x", "owner/../x", "a/b/c", "owner/na me", "", "-x/y", "owner--name", "//server/share"],
)
def test_odd_names_lead_nowhere(write, cache: Path, name: str) -> None:
    """A name comes from a file of anybody's: it may not lead out of the cache."""
    model(cache.parent / "x")
    snapshot(cache, "owner/name", COMMIT)

    assert snapshot_of(cache, name) is None
    assert rows_found(write.peft("adapter", base_model_name_or_path=name)) is None


@pytest.mark.parametrize("commit", ["../../x", "", "main", "A" * 40, "a" * 39])
def test_a_reference_is_a_commit_or_nothing(cache: Path, commit: str) -> None:
    snapshot(cache, "owner/name", COMMIT)
    (cache / "models--owner--name" / "refs" / "main").write_text(commit)

    assert snapshot_of(cache, "owner/name") is None
    assert snapshot_of(cache, "owner/name", "../refs/main") is None
    assert snapshot_of(cache, "owner/name", COMMIT) is not None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/h", "HF_HOME": "/x"}, "/h"),
        ({"HUGGINGFACE_HUB_CACHE": "/h", "HF_HOME": "/x"}, "/h"),
        ({"HF_HOME": "/x", "XDG_CACHE_HOME": "/y"}, "/x/hub"),
        ({"XDG_CACHE_HOME": "/y"}, "/y/huggingface/hub"),
        ({}, "/home/me/.cache/huggingface/hub"),
    ],
)
def test_where_the_cache_lies(environment: dict[str, str], expected: str) -> None:
    """As huggingface_hub itself decides it."""
    assert cache_of(environment, Path("/home/me")) == Path(expected)


def test_the_hub_itself_looks_there(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    found = snapshot(tmp_path, "owner/name", COMMIT)

    theirs = hub.try_to_load_from_cache("owner/name", "config.json", cache_dir=tmp_path)

    assert theirs == str(found / "config.json")
    assert snapshot_of(tmp_path, "owner/name") == found


def test_a_single_file_is_not_searched_beside(write) -> None:
    """A folder of many people's files is not where the base of one of them lies."""
    model(write.root)

    assert rows_found(write.kohya("some.safetensors")) is None


def test_what_is_told_of_the_base_is_json(write) -> None:
    adapter = write.peft("adapter")
    for content in (
        "{",
        "[]",
        json.dumps({"_name_or_path": ["x"]}),
        '{"_name_or_path": "\\u0000"}',
    ):
        (adapter / "config.json").write_text(content)
        assert rows_found(adapter) is None
