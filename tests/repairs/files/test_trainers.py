"""Copies of the trainers' own files, laid out from the facts: what their loaders need is there."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from expecting import filled
from laying import facts_of, lay
from onetrainer_facts import FACTS as ONETRAINER
from onetrainer_facts import expanded
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from sentinel.checkpoint import Checkpoint
from sentinel.errors import RepairError
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.files.copy import prepare_copy
from sentinel.repairs.files.keys import key_rules_of
from sentinel.repairs.files.planning import prepare
from sentinel.repairs.files.undoing import undo

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.trainer

SIMPLETUNER = facts_of("simpletuner")
SD_SCRIPTS = facts_of("sd_scripts")
AI_TOOLKIT = facts_of("ai_toolkit")
HASHES = ("sshs_model_hash", "sshs_legacy_hash")
GUARD = {"text": "complete\n"}


def names_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def shapes_of(found: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in found.tensors}


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of OneTrainer in its workspace."""
    lay(expanded(ONETRAINER["run"]["files"]), tmp_path / "workspace")
    return tmp_path / "workspace" / "backup" / ONETRAINER["run"]["backup"]


@pytest.mark.parametrize("optimizer", ["keep", "cast", "drop"])
def test_a_backup_of_onetrainer(backup, untouched, optimizer):
    """All its files under the same names, alone in the backup directory of a new workspace; the
    one that OneTrainer goes on without is left out on demand.
    """
    (without,) = (
        one
        for one in ONETRAINER["resuming"]
        if one["removed"] == "optimizer/optimizer.pt" and "raises" not in one
    )
    assert (without["step"], without["state"]) == (4, None)
    workspace = backup.parents[1]

    with untouched(workspace):
        receipt = prepare_copy(open_checkpoint(backup), cast="bf16", optimizer=optimizer)

    copy = receipt.plan.target
    assert copy == workspace.with_name("workspace-repaired") / "backup" / backup.name
    assert [path.name for path in copy.parent.iterdir()] == [backup.name]
    left = {"optimizer/optimizer.pt"} if optimizer == "drop" else set()
    assert names_in(copy) == names_in(backup) - left | {"sentinel-repair.json"}
    before, after = open_checkpoint(backup), open_checkpoint(copy)
    assert (after.layout, after.step, after.faults) == ("onetrainer-backup", before.step, ())
    assert shapes_of(after) == shapes_of(before)
    assert {one.dtype for one in after.tensors if one.role != "alpha"} == {"BF16"}
    assert {one.dtype for one in after.tensors if one.role == "alpha"} == {"F32"}
    assert any("ema/ema.pt" in note and "embeddings/" in note for note in receipt.plan.notes)
    if optimizer != "drop":
        state = torch.load(copy / "optimizer/optimizer.pt", weights_only=True)["state"]
        kinds = {value.dtype for one in state.values() for k, value in one.items() if k != "step"}
        assert kinds == {torch.bfloat16 if optimizer == "cast" else torch.float32}


def test_a_save_of_onetrainer_takes_its_embeddings_along(tmp_path):
    """The directory beside it is named after the file."""
    files = {
        name.removeprefix("save/"): file
        for name, file in expanded(ONETRAINER["run"]["files"]).items()
        if name.startswith("save/")
    }
    lay(files, tmp_path / "save")
    (save_name,) = (name for name in files if "/" not in name)

    receipt = prepare_copy(
        open_checkpoint(tmp_path / "save" / save_name), tmp_path / "new/x.safetensors", cast="fp32"
    )

    assert names_in(tmp_path / "new") == {
        "x.safetensors",
        "x.safetensors_embeddings/thing.safetensors",
        "sentinel-repair-x.safetensors.json",
    }
    with safe_open(receipt.plan.target, "pt") as file:
        metadata = file.metadata()
    original = files[save_name]["metadata"]
    assert "modelspec.hash_sha256" in original
    assert metadata == {k: v for k, v in original.items() if k != "modelspec.hash_sha256"}
    assert any("modelspec.hash_sha256" in note for note in receipt.plan.notes)
    assert undo(receipt.path).is_clean
    assert not (tmp_path / "new").exists()


@pytest.fixture
def simpletuner(tmp_path: Path) -> Path:
    """A checkpoint of SimpleTuner in its output directory."""
    files = {
        name: GUARD if name.endswith(".guard") else file
        for name, file in SIMPLETUNER["run"]["files"].items()
    }
    lay(files, tmp_path / "output")
    return tmp_path / "output" / "checkpoint-3"


def test_a_checkpoint_of_simpletuner_stays_whole(simpletuner, untouched):
    """Every file, its guard and manifest too, since the loader raises without the optimizer."""
    (without,) = (one for one in SIMPLETUNER["resuming"] if one["removed"] == "optimizer.bin")
    assert without["raises"] == "FileNotFoundError"
    with untouched(simpletuner.parent):
        receipt = prepare_copy(open_checkpoint(simpletuner), cast="fp32")

    copy = receipt.plan.target
    assert copy == simpletuner.parents[1] / "output-repaired" / "checkpoint-3"
    assert names_in(copy) == names_in(simpletuner) | {"sentinel-repair.json"}
    after = open_checkpoint(copy)
    assert (after.layout, after.complete, after.step, after.faults) == ("simpletuner", True, 3, ())
    assert {tensor.dtype for tensor in after.tensors} == {"F32"}
    assert shapes_of(after) == shapes_of(open_checkpoint(simpletuner))


def test_of_simpletuner_without_optimizer_the_weights_are_left(simpletuner):
    """What `--init_lora` takes, as the facts say it does."""
    taken = [one for one in SIMPLETUNER["resuming"] if "init_lora_step" in one["given"]]
    assert taken
    assert not any("raises" in one for one in taken if one["given"]["init_lora_step"] == 0)

    receipt = prepare_copy(open_checkpoint(simpletuner), cast="fp32", optimizer="drop")

    copy = receipt.plan.target
    assert names_in(copy) == {"pytorch_lora_weights.safetensors", "sentinel-repair.json"}
    assert f"--init_lora {copy}/pytorch_lora_weights.safetensors --init_lora_step 0" in (
        receipt.plan.go_on
    )
    said = []
    for place in (simpletuner, copy):
        with safe_open(place / "pytorch_lora_weights.safetensors", "pt") as file:
            said.append((file.metadata(), set(file.keys())))
    assert said[0] == said[1]


SAVES = [
    (run, name)
    for run, what in SD_SCRIPTS["runs"].items()
    for name in what.get("files", ())
    if name.endswith(".safetensors") and "/" not in name
]


@pytest.mark.parametrize(("run", "name"), SAVES)
def test_saves_of_sd_scripts_keep_keys_and_metadata(tmp_path, untouched, run, name):
    """Every kind of network that it trains: keys, shapes, alphas; digests are made anew."""
    lay({name: SD_SCRIPTS["runs"][run]["files"][name]}, tmp_path / "out", filled)
    with untouched(tmp_path / "out"):
        receipt = prepare_copy(
            open_checkpoint(tmp_path / "out" / name), cast="bf16", allow_loss=True
        )

    before, after = load_file(tmp_path / "out" / name), load_file(receipt.plan.target)
    assert receipt.plan.target == tmp_path / "out-repaired" / name
    assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in before.items()}
    for key, value in before.items():
        expected = value if key.endswith(".alpha") else value.to(torch.bfloat16)
        assert torch.equal(after[key], expected)
        assert after[key].dtype == expected.dtype
    with safe_open(tmp_path / "out" / name, "pt") as old, safe_open(receipt.plan.target, "pt") as n:
        kept, found = old.metadata() or {}, n.metadata() or {}
    assert {k: v for k, v in kept.items() if not k.startswith("sshs_")} == {
        k: v for k, v in found.items() if not k.startswith("sshs_")
    }
    if "sshs_model_hash" in kept and receipt.plan.changes:
        digests = dict(zip(HASHES, kohya_hashes(after, found), strict=True))
        assert {k: v for k, v in found.items() if k.startswith("sshs_")} == {
            k: digests[k] for k in digests.keys() & kept.keys()
        }


def kohya_hashes(tensors: dict[str, Any], metadata: dict[str, str]) -> tuple[str, str]:
    """What sd-scripts would note: both over the file with the training's metadata alone."""
    told = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    raw = save(tensors, told)
    behind = raw[8 + int.from_bytes(raw[:8], "little") :]
    legacy = io.BytesIO(raw)
    legacy.seek(0x100000)
    part = hashlib.sha256(legacy.read(0x10000)).hexdigest()[:8]
    return hashlib.sha256(behind).hexdigest(), part


def test_digests_of_a_large_save(tmp_path):
    """More than a mebibyte, so that the older digest is of values."""
    tensors = {
        "lora_unet_a.lora_down.weight": torch.randn(64, 8000),
        "lora_unet_a.lora_up.weight": torch.randn(300, 64),
        "lora_unet_a.alpha": torch.tensor(64.0),
    }
    metadata = {"ss_network_module": "networks.lora", "modelspec.title": "caf\u00e9 \x7f\n"}
    metadata |= {"sshs_model_hash": "a" * 64, "sshs_legacy_hash": "b" * 8}
    (tmp_path / "out").mkdir()
    save_file(tensors, tmp_path / "out/cat.safetensors", metadata)

    receipt = prepare_copy(open_checkpoint(tmp_path / "out/cat.safetensors"), cast="bf16")

    with safe_open(receipt.plan.target, "pt") as file:
        found = file.metadata()
    expected = kohya_hashes(load_file(receipt.plan.target), found)
    assert (found["sshs_model_hash"], found["sshs_legacy_hash"]) == expected
    assert found | {k: metadata[k] for k in metadata if k.startswith("sshs_")} == metadata


@pytest.mark.parametrize("optimizer", ["keep", "drop"])
def test_a_state_of_sd_scripts(tmp_path, optimizer):
    """Whole for `--resume`; without its optimizer the network alone, for `--network_weights`."""
    files = SD_SCRIPTS["runs"]["resumed"]["files"]
    lay(files, tmp_path / "out", filled)

    receipt = prepare_copy(
        open_checkpoint(tmp_path / "out" / "again-state"),
        cast="bf16",
        optimizer=optimizer,
        allow_loss=True,
    )

    copy = receipt.plan.target
    expected = {name.removeprefix("again-state/") for name in files if "/" in name}
    if optimizer == "drop":
        expected = {"model.safetensors"}
    assert names_in(copy) == expected | {"sentinel-repair.json"}
    if optimizer == "keep":
        assert open_checkpoint(copy).faults == ()
        assert open_checkpoint(copy).layout == "sd-scripts-state"
    else:
        assert receipt.plan.go_on == f"--network_weights {copy}/model.safetensors"


def test_a_save_of_ai_toolkit_never_lies_beside_the_others(tmp_path):
    """It takes the newest file in its directory for its own."""
    run, what = next(iter(AI_TOOLKIT["runs"].items()))
    files = {k: v for k, v in what["files"].items() if not k.endswith(".pt")}
    lay(files, tmp_path / "jobs", filled)
    name = next(one for one in files if one.endswith(".safetensors"))
    found = open_checkpoint(tmp_path / "jobs" / name)
    assert run

    with pytest.raises(RepairError, match="lies beside the original"):
        prepare(found, found.path.with_name("other.safetensors"), cast="fp32")

    receipt = prepare_copy(found, cast="fp32", allow_loss=True)
    around = Path(name).parent.name
    assert receipt.plan.target == tmp_path / "jobs" / f"{around}-repaired" / Path(name).name


def test_keys_of_a_backup_by_own_rules(backup, untouched):
    """From OneTrainer's names to those it had before: the facts have both."""
    before = expanded(ONETRAINER["before_the_renaming"]["files"])
    old = before["STABLE_DIFFUSION_15/backup/lora/lora.safetensors"]["tensors"]
    with untouched(backup):
        receipt = prepare_copy(
            open_checkpoint(backup), rename=key_rules_of(["text_encoder.=clip_l."])
        )

    new = load_file(receipt.plan.target / "lora/lora.safetensors")
    renamed = json.loads(receipt.path.read_text())["renamed"]
    assert set(renamed.values()) == {key for key in new if key.startswith("clip_l.")}
    assert set(renamed.values()) & old.keys()
    given = load_file(backup / "lora/lora.safetensors")
    assert new.keys() == {renamed.get(key, key) for key in given}
    assert all(torch.equal(new[renamed.get(key, key)], value) for key, value in given.items())
