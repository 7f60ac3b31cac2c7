"""OneTrainer: its own files, laid out again from the facts, are understood down to each tensor."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sentinel.flow import Inspected, conclude, inspect
from sentinel.formats.discovery import candidate_at, discover
from sentinel.formats.layouts.onetrainer_backup import WEIGHTS
from sentinel.formats.onetrainer_config import PRECISIONS, adapter_of, settings_of
from sentinel.formats.opening import is_complete, open_checkpoint
from sentinel.formats.roles import role_of
from sentinel.rules.load import load_rules
from sentinel.stats.measure import measure

BACKUP_FILES_THAT_MAY_LACK = ("concepts.json", "samples.json")
ROLES = {
    "lora_down.weight": "lora_down",
    "lora_A.weight": "lora_down",
    "lora_up.weight": "lora_up",
    "lora_B.weight": "lora_up",
    "alpha": "alpha",
    "dora_scale": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    **{f"hada_{one}": "adapter" for one in ("w1_a", "w1_b", "w2_a", "w2_b")},
    **{f"lokr_{one}": "adapter" for one in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "oft_R.weight": "adapter",
    "oft_R.scaled_oft": "adapter",
}
"""What OneTrainer's adapters call their tensors, below a module's name."""
FAMILIES = ("lora", "dora", "dora_output_axis", "loha", "lokr", "lokr_both", "lokr_tucker")
FAMILIES += ("lokr_full", "lokr_dora", "oft", "oft_scaled", "oft_shared")
METHODS = {
    "LoRAModule": "lora",
    "DoRAModule": "lora",
    "LoHaModule": "loha",
    "LoKrModule": "lokr",
    "OFTModule": "oft",
}


@pytest.fixture(scope="module")
def facts(facts_of: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return facts_of("onetrainer")


@pytest.fixture(scope="module")
def expanded(facts: dict[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Files with their configurations whole: the facts keep what differs from the defaults."""

    def expand(files: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, file in files.items():
            one = dict(file)
            if "over_settings" in one:
                one = {"json": over(facts["accepts"]["settings"], one["over_settings"])}
            config = one.get("metadata", {}).get("ot_config")
            if config:
                whole = over(facts["accepts"]["settings"], config["over_settings"])
                one["metadata"] = {**one["metadata"], "ot_config": json.dumps(whole)}
            found[name] = one
        return found

    return expand


def over(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration: OneTrainer's defaults with changes, part by part."""
    whole = copy.deepcopy(dict(settings))
    for key, value in changes.items():
        is_part = isinstance(value, dict) and isinstance(whole[key], dict) and whole[key]
        whole[key] = over(whole[key], value) if is_part else value
    return whole


def split(key: str) -> tuple[str, str]:
    """A key's module, and what is left of it."""
    tail = max((tail for tail in ROLES if key.endswith(f".{tail}")), key=len, default="")
    return (key.removesuffix(f".{tail}"), tail) if tail else ("", key)


def assert_understood(path: Path, file: Mapping[str, Any], member: str) -> None:
    """Every tensor has its role, module, shape and dtype."""
    found = {tensor.name: tensor for tensor in open_checkpoint(path).tensors}
    assert found.keys() == file["tensors"].keys()
    for key, (dtype, shape) in file["tensors"].items():
        module, tail = split(key)
        tensor = found[key]
        expected = (module, ROLES[tail], dtype, tuple(shape), member)
        got = (tensor.module, tensor.role, tensor.dtype, tensor.shape, tensor.member)
        assert got == expected, key


@pytest.fixture
def run(facts, expanded, lay, tmp_path: Path) -> Path:
    """The workspace after a whole training."""
    lay(expanded(facts["run"]["files"]), tmp_path)
    return tmp_path


def test_the_backup_of_a_whole_run(facts, run: Path) -> None:
    """Its tensors, progress, settings and optimizer; embeddings and the average are parts of it."""
    path = run / "backup" / facts["run"]["backup"]
    found = open_checkpoint(path)

    assert (found.layout, found.trainer) == ("onetrainer-backup", "onetrainer")
    assert (found.step, found.epoch, found.updates_done) == (10, 2.0, 5)
    assert (found.complete, found.faults) == (True, ())
    assert_understood(path, facts["run"]["files"][f"backup/{path.name}/{WEIGHTS}"], WEIGHTS)
    expected = {
        "precision.adapter": "fp32",
        "precision.mixed": "fp32",
        "precision.output": "bf16",
        "adapter.method": "lora",
        "adapter.rank": 4,
        "adapter.alpha": 2.0,
        "base.path": "toy/stable-diffusion",
        "base.version": "stable_diffusion_15",
        "base.quantization": "none",
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 1e-3,
        "scheduler.name": "constant",
    }
    assert expected.items() <= found.settings.items()
    assert {member.path: member.part for member in found.members} == {
        WEIGHTS: "weights",
        "embeddings/00000000-0000-4000-8000-000000000001.safetensors": "state",
        "optimizer/optimizer.pt": "optimizer",
        "ema/ema.pt": "state",
        "meta.json": "state",
        "onetrainer_config/args.json": "state",
    }
    groups = [(group.settings["name"], group.settings["lr"]) for group in found.optimizer.groups]
    names = ("text_encoder_lora", "embeddings/<thing>", "unet_lora")
    assert groups == [(name, 1e-3) for name in names]
    assert all(parameter.tensors.keys() >= {"exp_avg"} for parameter in found.optimizer.parameters)


def test_a_backup_is_complete_when_its_configuration_is_there(
    facts, expanded, lay, tmp_path: Path
) -> None:
    """In the order OneTrainer wrote it: complete with `args.json`, and no file sooner."""
    prefix = f"backup/{facts['run']['backup']}/"
    order = [line for line in facts["run"]["order"] if line.startswith(prefix)]
    files = expanded(facts["run"]["files"])
    told = []
    for count in range(1, len(order) + 1):
        root = tmp_path / str(count)
        lay({name: files[name] for name in order[:count]}, root)
        told.append(is_complete(candidate_at(root / prefix)))

    names = [name.removeprefix(prefix) for name in order]
    last = names.index("onetrainer_config/args.json")
    assert told == [False] * last + [True] * (len(names) - last)
    assert [Path(name).name for name in names[last + 1 :]] == [*BACKUP_FILES_THAT_MAY_LACK]


def test_a_save_of_a_whole_run(facts, run: Path) -> None:
    """The step from its name, the settings from its metadata; its embeddings go with it."""
    found = open_checkpoint(run / "save" / facts["run"]["save"])

    assert (found.layout, found.trainer, found.complete) == ("onetrainer-save", "onetrainer", None)
    assert (found.step, found.epoch, found.updates_done) == (8, 1.0, 4)
    assert found.faults == ()
    # The file is in the output's precision; the adapter was trained in another.
    assert {tensor.dtype for tensor in found.tensors} == {"BF16"}
    assert (found.settings["precision.adapter"], found.settings["precision.output"]) == (
        "fp32",
        "bf16",
    )
    beside = f"{facts['run']['save']}_embeddings/thing.safetensors"
    assert [member.path for member in found.members] == [facts["run"]["save"], beside]
    layouts = [candidate.layout for candidate in discover(run)]
    assert sorted(layouts) == ["onetrainer-backup", "onetrainer-save"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_at_its_start(facts, lay, tmp_path: Path, family: str) -> None:
    """What OneTrainer's own initialisation left at zero is what sentinel takes for that side."""
    case = facts["start"][family]
    given = {"lora_rank": 2, "lora_alpha": 3.0, **case["given"]}
    config = over(facts["accepts"]["settings"], given)
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


def test_every_family_has_its_own_rank_and_name(facts) -> None:
    """LoKr's rank is another field than LoRA's, and OFT has none."""
    told = {}
    for family in FAMILIES:
        config = over(facts["accepts"]["settings"], facts["start"][family]["given"])
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
def test_the_norm_of_what_a_family_changes(facts, lay, tmp_path: Path, family: str) -> None:
    """The change, put together as OneTrainer's `forward` does, has the norm that sentinel tells."""
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    case = facts["start"][family]
    file = {**case["file"], "zero": []}
    lay({"trained-save-1-0-1.safetensors": file}, tmp_path)
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


def test_every_output_format(facts, lay, tmp_path: Path) -> None:
    """Whatever `output_model_format` says, each tensor has its role and module."""
    assert {key.split("/")[1] for key in facts["formats"]} == {
        form for forms in facts["accepts"]["lora_formats"].values() for form in forms
    }
    for key, file in facts["formats"].items():
        path = tmp_path / f"{key.replace('/', '-')}.safetensors"
        lay({path.name: file}, tmp_path)

        found = open_checkpoint(path)

        assert (found.layout, found.trainer, found.faults) == ("onetrainer-save", "onetrainer", ())
        assert_understood(path, file, path.name)
        assert {one.name for one in found.tensors if one.zero_at_init} == set(file["zero"]), key
    assert len(list(discover(tmp_path))) == len(facts["formats"])


@pytest.mark.parametrize("form", ["KOHYA_LORA", "COMFY_LORA", "DIFFUSERS_LORA", "ORIGINAL_LORA"])
def test_a_formats_scale(facts, lay, tmp_path: Path, form: str) -> None:
    """DIFFUSERS folds alpha into the up matrix: its scale is 1; the others keep 3 / 2."""
    file = facts["formats"][f"STABLE_DIFFUSION_15/{form}/lora"]
    lay({"last.safetensors": file}, tmp_path)

    pairs = measure(open_checkpoint(tmp_path / "last.safetensors"), digest=False).pairs

    assert set(pairs.column("scale").to_pylist()) == {1.0 if form == "DIFFUSERS_LORA" else 1.5}
    assert set(pairs.column("rank").to_pylist()) == {2}


def test_files_before_the_renaming(facts, lay, tmp_path: Path) -> None:
    """Until July 2026 keys and formats had other names; the roles are the same."""
    older = facts["before_the_renaming"]
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


def test_fp16_with_prodigy_is_found(facts, expanded, lay, tmp_path: Path) -> None:
    """Four steps of OneTrainer itself left the up matrix at zero in fp16, in fp32 they did not."""
    rules = tuple(rule for rule in load_rules() if rule.id.startswith("dead-"))
    told = {}
    for name in ("prodigy_fp16", "prodigy_fp32", "adamw_bf16"):
        case = facts["optimizers"][name]
        lay(expanded(case["files"]), tmp_path / case["name"])
        seen: Inspected = inspect(tmp_path / case["name"])
        verdict = conclude(seen, rules=rules).verdict
        told[name] = (
            seen.checkpoint.settings["optimizer.name"],
            seen.checkpoint.settings["precision.adapter"],
            [finding.rule for finding in verdict.findings],
        )

    assert told == {
        "prodigy_fp16": ("prodigy", "fp16", ["dead-lora-up"]),
        "prodigy_fp32": ("prodigy", "fp32", []),
        "adamw_bf16": ("adamw", "bf16", []),
    }


def test_adafactors_switches(facts, expanded, lay, tmp_path: Path) -> None:
    """The optimizer's own group and the configuration say the same."""
    case = facts["optimizers"]["adafactor"]
    lay(expanded(case["files"]), tmp_path / case["name"])

    found = open_checkpoint(tmp_path / case["name"])

    [group] = found.optimizer.groups
    for name in ("scale_parameter", "relative_step"):
        assert (group.settings[name], found.settings[f"optimizer.args.{name}"]) == (True, True)
    assert found.settings["adapter.method"] == "dora"
    assert found.settings["scheduler.name"] == "adafactor"


def test_the_base_is_that_of_the_model_type(facts) -> None:
    """A configuration holds parts its model has not: only the trained one tells the base."""
    settings, parts = facts["accepts"]["settings"], facts["accepts"]["trained_part"]
    for model_type, trained in parts.items():
        for part in set(parts.values()):
            changes = {"model_type": model_type, part: {"weight_dtype": "NFLOAT_4"}}
            told = settings_of(over(settings, changes))["base.quantization"]
            assert told == ("nf4" if part == trained else "none"), (model_type, part)


def test_every_precision_and_family_is_known(facts) -> None:
    """Each value of OneTrainer's enums has a name here."""
    enums, settings = facts["accepts"]["enums"], facts["accepts"]["settings"]
    schemes = {}
    for name in enums["DataType"]:
        changed = over(settings, {"unet": {"weight_dtype": name}, "lora_weight_dtype": name})
        told = settings_of(changed)
        schemes[name] = (told.get("base.quantization"), told.get("precision.adapter"))
    assert {name for name, (scheme, _) in schemes.items() if scheme is None} == {"NONE"}
    assert {name for name, (_, kept) in schemes.items() if kept} == PRECISIONS.keys()
    families = [adapter_of({"peft_type": one}).family for one in enums["PeftType"]]
    assert families == ["lora", "loha", "oft", "lokr"]
    assert settings.keys() == facts["accepts"]["fields"].keys() | {"__version"}


def test_an_older_configuration_has_one_dtype_for_all(facts) -> None:
    """Until version 9 the base's precision was one field."""
    config = over(facts["accepts"]["settings"], {"unet": {"weight_dtype": "NONE"}})
    assert settings_of({**config, "weight_dtype": "INT_8"})["base.quantization"] == "int8"
