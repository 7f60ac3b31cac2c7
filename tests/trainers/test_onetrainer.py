"""OneTrainer: its own files, laid out again from the facts, are understood down to each tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
from laying import lay
from onetrainer_facts import FACTS, SETTINGS, assert_understood, expanded, over

from sentinel.flow import Inspected, conclude, inspect
from sentinel.formats.layouts.onetrainer_backup import WEIGHTS
from sentinel.formats.onetrainer_config import PRECISIONS, adapter_of, settings_of
from sentinel.formats.opening import candidate_at, discover, is_complete, open_checkpoint
from sentinel.repairs.quarantine import DIRECTORY
from sentinel.rules.load import load_rules

pytestmark = pytest.mark.trainer

BACKUP_FILES_THAT_MAY_LACK = ("concepts.json", "samples.json")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The workspace after a whole training."""
    lay(expanded(FACTS["run"]["files"]), tmp_path)
    return tmp_path


def test_the_backup_of_a_whole_run(run: Path) -> None:
    """Its tensors, progress, settings and optimizer; embeddings and the average are parts of it."""
    path = run / "backup" / FACTS["run"]["backup"]
    found = open_checkpoint(path)

    assert (found.layout, found.trainer) == ("onetrainer-backup", "onetrainer")
    assert (found.step, found.epoch, found.updates_done) == (10, 2.0, 5)
    assert (found.complete, found.faults) == (True, ())
    assert_understood(path, FACTS["run"]["files"][f"backup/{path.name}/{WEIGHTS}"], WEIGHTS)
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


def test_a_backup_is_complete_when_its_configuration_is_there(tmp_path: Path) -> None:
    """In the order OneTrainer wrote it: complete with `args.json`, and no file sooner."""
    prefix = f"backup/{FACTS['run']['backup']}/"
    written = (line.removeprefix("write ") for line in FACTS["run"]["order"])
    order = [name for name in written if name.startswith(prefix)]
    files = expanded(FACTS["run"]["files"])
    told = []
    for count in range(1, len(order) + 1):
        root = tmp_path / str(count)
        lay({name: files[name] for name in order[:count]}, root)
        told.append(is_complete(candidate_at(root / prefix)))

    names = [name.removeprefix(prefix) for name in order]
    last = names.index("onetrainer_config/args.json")
    assert told == [False] * last + [True] * (len(names) - last)
    assert [Path(name).name for name in names[last + 1 :]] == [*BACKUP_FILES_THAT_MAY_LACK]


def test_a_save_of_a_whole_run(run: Path) -> None:
    """The step from its name, the settings from its metadata; its embeddings go with it."""
    found = open_checkpoint(run / "save" / FACTS["run"]["save"])

    assert (found.layout, found.trainer, found.complete) == ("onetrainer-save", "onetrainer", None)
    assert (found.step, found.epoch, found.updates_done) == (8, 1.0, 4)
    assert found.faults == ()
    # The file is in the output's precision; the adapter was trained in another.
    assert {tensor.dtype for tensor in found.tensors} == {"BF16"}
    assert (found.settings["precision.adapter"], found.settings["precision.output"]) == (
        "fp32",
        "bf16",
    )
    beside = f"{FACTS['run']['save']}_embeddings/thing.safetensors"
    assert [member.path for member in found.members] == [FACTS["run"]["save"], beside]
    layouts = [candidate.layout for candidate in discover(run)]
    assert sorted(layouts) == ["onetrainer-backup", "onetrainer-save"]


def test_fp16_with_prodigy_is_found(tmp_path: Path) -> None:
    """Four steps of OneTrainer itself left the up matrix at zero in fp16, in fp32 they did not."""
    rules = tuple(rule for rule in load_rules() if rule.id.startswith("dead-"))
    told = {}
    for name in ("prodigy_fp16", "prodigy_fp32", "adamw_bf16"):
        case = FACTS["optimizers"][name]
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


def test_adafactors_switches(tmp_path: Path) -> None:
    """The optimizer's own group and the configuration say the same."""
    case = FACTS["optimizers"]["adafactor"]
    lay(expanded(case["files"]), tmp_path / case["name"])

    found = open_checkpoint(tmp_path / case["name"])

    [group] = found.optimizer.groups
    for name in ("scale_parameter", "relative_step"):
        assert (group.settings[name], found.settings[f"optimizer.args.{name}"]) == (True, True)
    assert found.settings["adapter.method"] == "dora"
    assert found.settings["scheduler.name"] == "adafactor"


def test_the_base_is_that_of_the_model_type() -> None:
    """A configuration holds parts its model has not: only the trained one tells the base."""
    settings, parts = SETTINGS, FACTS["accepts"]["trained_part"]
    for model_type, trained in parts.items():
        for part in set(parts.values()):
            changes = {"model_type": model_type, part: {"weight_dtype": "NFLOAT_4"}}
            told = settings_of(over(settings, changes))["base.quantization"]
            assert told == ("nf4" if part == trained else "none"), (model_type, part)


def test_every_precision_and_family_is_known() -> None:
    """Each value of OneTrainer's enums has a name here."""
    enums, settings = FACTS["accepts"]["enums"], SETTINGS
    schemes = {}
    for name in enums["DataType"]:
        changed = over(settings, {"unet": {"weight_dtype": name}, "lora_weight_dtype": name})
        told = settings_of(changed)
        schemes[name] = (told.get("base.quantization"), told.get("precision.adapter"))
    assert {name for name, (scheme, _) in schemes.items() if scheme is None} == {"NONE"}
    assert {name for name, (_, kept) in schemes.items() if kept} == PRECISIONS.keys()
    families = [adapter_of({"peft_type": one}).family for one in enums["PeftType"]]
    assert families == ["lora", "loha", "oft", "lokr"]
    assert settings.keys() == FACTS["accepts"]["fields"].keys() | {"__version"}


def test_an_older_configuration_has_one_dtype_for_all() -> None:
    """Until version 9 the base's precision was one field."""
    config = over(SETTINGS, {"unet": {"weight_dtype": "NONE"}})
    assert settings_of({**config, "weight_dtype": "INT_8"})["base.quantization"] == "int8"


def test_a_quarantine_is_not_resumed_from() -> None:
    """OneTrainer takes the last name whatever it is; a hidden one sorts before every date."""
    picked = {case["directories"][1]: case["picked"] for case in FACTS["latest"]}
    assert picked["quarantine"] == "quarantine"
    assert picked[DIRECTORY] != DIRECTORY
