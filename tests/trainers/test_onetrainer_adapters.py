"""OneTrainer's adapters: every family at its start, in every output format, before and now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from laying import as_it_was, lay
from onetrainer_facts import FACTS, SETTINGS, assert_understood, over

from sentinel.formats.layouts.onetrainer_backup import WEIGHTS
from sentinel.formats.onetrainer_config import adapter_of
from sentinel.formats.opening import discover, open_checkpoint
from sentinel.formats.roles import role_of
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

FAMILIES = ("lora", "dora", "dora_output_axis", "loha", "lokr", "lokr_both", "lokr_tucker")
FAMILIES += ("lokr_full", "lokr_dora", "oft", "oft_scaled", "oft_shared")
METHODS = {
    "LoRAModule": "lora",
    "DoRAModule": "lora",
    "LoHaModule": "loha",
    "LoKrModule": "lokr",
    "OFTModule": "oft",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_at_its_start(tmp_path: Path, family: str) -> None:
    """What OneTrainer's own initialisation left at zero is what sentinel takes for that side."""
    case = FACTS["start"][family]
    given = {"lora_rank": 2, "lora_alpha": 3.0, **case["given"]}
    config = over(SETTINGS, given)
    files = {
        WEIGHTS: case["file"],
        "meta.json": {"json": {"train_progress": {"epoch": 0, "global_step": 0}}},
        "onetrainer_config/args.json": {"json": config},
    }
    lay(files, tmp_path)

    found = open_checkpoint(tmp_path)

    assert_understood(tmp_path, case["file"], WEIGHTS)
    sides = {tensor.name for tensor in found.tensors if tensor.zero_at_init}
    assert sides == set(case["file"]["zero"])
    rows = {row["module"]: row for row in measure(found, digest=False).effects.to_pylist()}
    assert case["modules"].keys() <= rows.keys()
    for module, own in case["modules"].items():
        told = rows[module]
        assert (told["idle"], told["starts_idle"]) == (True, True)
        assert told["family"] == METHODS[own["class"]]
        assert found.adapter.rank in {own["rank"], None}


def test_every_family_has_its_own_rank_and_name() -> None:
    """LoKr's rank is another field than LoRA's, and OFT has none."""
    told = {}
    for family in FAMILIES:
        config = over(SETTINGS, FACTS["start"][family]["given"])
        adapter = adapter_of(config)
        told[family] = (adapter.family, adapter.rank, adapter.dora)

    assert told == {
        "lora": ("lora", 16, False),
        "dora": ("lora", 16, True),
        "dora_output_axis": ("lora", 16, True),
        "loha": ("loha", 16, False),
        "lokr": ("lokr", 2, False),
        "lokr_both": ("lokr", 1, False),
        "lokr_tucker": ("lokr", 1, False),
        "lokr_full": ("lokr", 16, False),
        "lokr_dora": ("lokr", 2, True),
        "oft": ("oft", None, False),
        "oft_scaled": ("oft", None, False),
        "oft_shared": ("oft", None, False),
    }


@pytest.mark.parametrize("family", [name for name in FAMILIES if "oft" not in name])
def test_the_norm_of_what_a_family_changes(tmp_path: Path, family: str) -> None:
    """The change, put together as OneTrainer's `forward` does, has the norm that sentinel tells."""
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    case = FACTS["start"][family]
    file = {**case["file"], "zero": []}
    lay({"trained-save-1-0-1.safetensors": file}, tmp_path, as_it_was(file, seed=0))
    values = load_file(tmp_path / "trained-save-1-0-1.safetensors")
    path = tmp_path / "trained-save-1-0-1.safetensors"

    measured = measure(open_checkpoint(path), digest=False)
    told = {row["module"]: row["norm"] for row in measured.effects.to_pylist()}

    known = 0
    for module, own in case["modules"].items():
        parts = {key.removeprefix(f"{module}."): v for key, v in values.items() if module in key}
        if told[module] is None:
            continue
        known += 1
        expected = torch.linalg.vector_norm(change(parts, torch) * own["scale"]).item()
        assert told[module] == pytest.approx(expected, rel=1e-5), module
    # A Tucker core of a convolution is the only change whose norm is left open.
    assert known == len(case["modules"]) - (family == "lokr_tucker")


def change(parts: Mapping[str, Any], torch: Any) -> Any:
    """What an adapter adds to a weight before its scale, all convolutions as matrices."""
    flat = {key: value.reshape(value.shape[0], -1) for key, value in parts.items() if value.ndim}
    if "lora_up.weight" in flat:
        return flat["lora_up.weight"] @ flat["lora_down.weight"]
    if "hada_w1_a" in flat:
        one, two = (flat[f"hada_{w}_a"] @ flat[f"hada_{w}_b"] for w in ("w1", "w2"))
        return one * two
    one, two = (
        flat[f"lokr_{w}"] if f"lokr_{w}" in flat else flat[f"lokr_{w}_a"] @ flat[f"lokr_{w}_b"]
        for w in ("w1", "w2")
    )
    return torch.kron(one, two)


def test_every_output_format(tmp_path: Path) -> None:
    """Whatever `output_model_format` says, each tensor has its role and module."""
    assert {key.split("/")[1] for key in FACTS["formats"]} == {
        form for forms in FACTS["accepts"]["lora_formats"].values() for form in forms
    }
    for key, file in FACTS["formats"].items():
        path = tmp_path / f"{key.replace('/', '-')}.safetensors"
        lay({path.name: file}, tmp_path)

        found = open_checkpoint(path)

        assert (found.layout, found.trainer, found.faults) == ("onetrainer-save", "onetrainer", ())
        assert_understood(path, file, path.name)
        assert {one.name for one in found.tensors if one.zero_at_init} == set(file["zero"]), key
    assert len(list(discover(tmp_path))) == len(FACTS["formats"])


@pytest.mark.parametrize("form", ["KOHYA_LORA", "COMFY_LORA", "DIFFUSERS_LORA", "ORIGINAL_LORA"])
def test_a_formats_scale(tmp_path: Path, form: str) -> None:
    """DIFFUSERS folds alpha into the up matrix: its scale is 1; the others keep 3 / 2."""
    file = FACTS["formats"][f"STABLE_DIFFUSION_15/{form}/lora"]
    lay({"last.safetensors": file}, tmp_path)

    pairs = measure(open_checkpoint(tmp_path / "last.safetensors"), digest=False).pairs

    assert set(pairs.column("scale").to_pylist()) == {1.0 if form == "DIFFUSERS_LORA" else 1.5}
    assert set(pairs.column("rank").to_pylist()) == {2}


def test_files_before_the_renaming(tmp_path: Path) -> None:
    """Until July 2026 keys and formats had other names; the roles are the same."""
    older = FACTS["before_the_renaming"]
    assert older["commit"].startswith("1e0263b3")
    lay(older["files"], tmp_path)
    starts = {}
    for name, file in older["files"].items():
        path = tmp_path / name
        if name.endswith(WEIGHTS):
            path = path.parents[1]
            progress = {"train_progress": {"global_step": 1}}
            lay({"meta.json": {"json": progress}}, path)
            lay({"onetrainer_config/args.json": {"json": {}}}, path)
        assert_understood(path, file, WEIGHTS if path.is_dir() else path.name)
        starts[name] = {key.split(".")[0].split("_text_model")[0] for key in file["tensors"]}

    assert starts["STABLE_DIFFUSION_15/backup/lora/lora.safetensors"] == {"clip_l", "unet"}
    assert starts["FLUX_DEV_1/backup/lora/lora.safetensors"] == {"clip_l", "transformer"}
    assert "lora_te" in starts["STABLE_DIFFUSION_15/LEGACY_SAFETENSORS.safetensors"]


@pytest.mark.parametrize("prefix", ["lora_unet.", "lora_te1.", "lora_transformer."])
def test_an_old_prefix_is_a_part_of_the_module(prefix: str) -> None:
    """Models without a table of names kept their prefix of old, with dots."""
    key = f"{prefix}down_blocks.0.attn1.to_q.lora_up.weight"
    found = role_of(key)
    assert (found.role, found.module) == ("lora_up", f"{prefix}down_blocks.0.attn1.to_q")
