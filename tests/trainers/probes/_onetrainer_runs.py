"""Trainings at toy size by OneTrainer's own `scripts/train.py`, and what a resume takes up."""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from _observing import Journal
from _onetrainer_home import feeding, train
from _onetrainer_tiny import Batches, fill_stable_diffusion
from _writing import described, tree_of

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
EMBEDDING = "00000000-0000-4000-8000-000000000001"


def configuration(scratch: Path, name: str, **changes: object) -> Path:
    """Write a configuration of a LoRA training of Stable Diffusion 1.5 and return its path.

    ``changes`` go over it; a dictionary among them over the part of that name.
    """
    from modules.util.config.TrainConfig import TrainConfig

    run = scratch / name
    run.mkdir(exist_ok=True)
    for file in ("concepts", "samples"):
        (scratch / f"{file}.json").write_text("[]", encoding="utf-8")
    settings: dict[str, Any] = {
        "training_method": "LORA",
        "base_model_name": "toy/stable-diffusion",
        "workspace_dir": str(run),
        "cache_dir": str(scratch / "cache"),
        "concept_file_name": str(scratch / "concepts.json"),
        "sample_definition_file_name": str(scratch / "samples.json"),
        "tensorboard": False,
        "train_device": "cpu",
        "temp_device": "cpu",
        "train_dtype": "FLOAT_32",
        "epochs": 1,
        "learning_rate": 1e-3,
        "learning_rate_warmup_steps": 0,
        "sample_after_unit": "NEVER",
        "backup_after_unit": "NEVER",
        "lora_rank": 4,
        "lora_alpha": 2.0,
        "layer_filter": ATTENTION,
        "layer_filter_preset": "custom",
        "text_encoder": {"train": False},
        "embedding": {"uuid": "00000000-0000-4000-8000-000000000000"},
        "output_model_format": "KOHYA_LORA",
        "output_model_destination": str(run / "last.safetensors"),
    }
    settings |= changes
    content = TrainConfig.default_values().to_dict()
    for key, value in settings.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    path = scratch / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def whole_run(scratch: Path) -> dict[str, object]:
    """Return what one training leaves: backups, saves, the last file, in the order of writing.

    It trains two parts and an embedding, keeps an average, and saves in another precision.
    """
    embedding = {
        "__version": 0,
        "uuid": EMBEDDING,
        "model_name": "",
        "placeholder": "<thing>",
        "train": True,
        "token_count": 1,
        "initial_embedding_text": "a b",
    }
    config = configuration(
        scratch,
        "whole",
        epochs=2,
        gradient_accumulation_steps=2,
        backup_after=3,
        backup_after_unit="STEP",
        rolling_backup=True,
        rolling_backup_count=2,
        save_every=4,
        save_every_unit="STEP",
        save_filename_prefix="cat-",
        ema="CPU",
        output_dtype="BFLOAT_16",
        include_train_config="SETTINGS",
        text_encoder={"train": True},
        additional_embeddings=[embedding],
        bundle_additional_embeddings=False,
    )
    root = scratch / "whole"
    journal = Journal(root)
    with journal.watching(), feeding(Batches(5), fill_stable_diffusion, scratch):
        train("--config-path", str(config))
    if journal.unseen():
        raise RuntimeError(f"not seen being written: {sorted(journal.unseen())}")
    order = [line for line in journal.events if "tensorboard/" not in line]
    backup = max((root / "backup").iterdir())
    save = max((root / "save").glob("*.safetensors"))
    kept = (f"backup/{backup.name}/", f"save/{save.name}")
    files = {name: one for name, one in described(root).items() if name.startswith(kept)}
    return {
        "order": order,
        "backup": backup.name,
        "save": save.name,
        "files": _without_defaults(files),
        "tensorboard": _scalars(root / "tensorboard"),
    }


def by_optimizer(scratch: Path) -> dict[str, dict[str, object]]:
    """Return what a backup holds for optimizers and precisions that threads complain about."""
    single = f"{ATTENTION}.to_q"
    cases: dict[str, dict[str, object]] = {
        "adafactor": {
            "optimizer": {
                "optimizer": "ADAFACTOR",
                "scale_parameter": True,
                "relative_step": True,
                "eps": 1e-30,
                "eps2": 1e-3,
                "clip_threshold": 1.0,
                "decay_rate": -0.8,
            },
            "learning_rate_scheduler": "ADAFACTOR",
            "lora_decompose": True,
        },
        "prodigy_fp16": {
            "optimizer": {"optimizer": "PRODIGY", "d0": 1e-6, "d_coef": 1.0, "eps": 1e-8},
            "learning_rate": 1.0,
            "lora_weight_dtype": "FLOAT_16",
            "train_dtype": "FLOAT_16",
        },
        "prodigy_fp32": {
            "optimizer": {"optimizer": "PRODIGY", "d0": 1e-6, "d_coef": 1.0, "eps": 1e-8},
            "learning_rate": 1.0,
        },
        "adamw_bf16": {"lora_weight_dtype": "BFLOAT_16", "train_dtype": "BFLOAT_16"},
    }
    return {
        name: _last_backup(scratch, name, layer_filter=single, **changes)
        for name, changes in cases.items()
    }


def _last_backup(scratch: Path, name: str, **changes: Any) -> dict[str, object]:
    config = configuration(scratch, name, **changes)
    with feeding(Batches(4), fill_stable_diffusion, scratch):
        train("--config-path", str(config))
    [backup] = (scratch / name / "backup").iterdir()
    return {"name": backup.name, "files": _without_defaults(described(backup))}


def _without_defaults(files: dict[str, Any]) -> dict[str, Any]:
    """Return the files, of a whole configuration only what is not OneTrainer's default.

    `args.json` is then `{"over_settings": ...}`, and so is `ot_config` among metadata.
    """
    from modules.util.config.TrainConfig import TrainConfig

    defaults = TrainConfig.default_values().to_settings_dict(secrets=False)
    found = {}
    for name, one in files.items():
        metadata = one.get("metadata", {})
        if name.endswith("args.json"):
            found[name] = {"over_settings": _difference(one["json"], defaults)}
        elif "ot_config" in metadata:
            config = {"over_settings": _difference(json.loads(metadata["ot_config"]), defaults)}
            found[name] = {**one, "metadata": {**metadata, "ot_config": config}}
        else:
            found[name] = one
    return found


def _difference(content: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return what differs; TrainConfig has every key of its defaults and no other."""
    if content.keys() != defaults.keys():
        raise RuntimeError(f"keys differ: {sorted(content.keys() ^ defaults.keys())}")
    return {
        key: _difference(value, defaults[key]) if _both(value, defaults[key]) else value
        for key, value in content.items()
        if value != defaults[key]
    }


def _both(value: object, default: object) -> bool:
    return isinstance(value, dict) and isinstance(default, dict) and bool(default)


def resuming(scratch: Path) -> list[dict[str, object]]:
    """Return what a training resumed with other settings takes from them and what from its state.

    Each case is what was changed, and then the learning rate and `eps` of the optimizer, whether
    it knew its parameters, the adapter's dtype and the step it began at; or what was raised.
    """
    first = configuration(scratch, "resumed", learning_rate=1e-3)
    with feeding(Batches(4), fill_stable_diffusion, scratch):
        train("--config-path", str(first))
    [backup] = (scratch / "resumed" / "backup").iterdir()
    kept = scratch / "kept"
    shutil.copytree(backup, kept)
    cases: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("", ()),
        ("", ("learning_rate=5e-4",)),
        ("", ("optimizer.eps=1e-4",)),
        ("", ("optimizer.optimizer=ADAM", "optimizer.eps=1e-4")),
        ("optimizer/optimizer.pt", ("optimizer.eps=1e-4",)),
        ("", ("lora_weight_dtype=BFLOAT_16",)),
        ("", ("lora_rank=8",)),
        ("", ("lora_alpha=8",)),
        ("meta.json", ()),
        ("lora/lora.safetensors", ()),
    )
    found: list[dict[str, object]] = []
    for gone, values in cases:
        shutil.rmtree(scratch / "resumed")
        shutil.copytree(kept, scratch / "resumed" / "backup" / backup.name)
        if gone:
            (scratch / "resumed" / "backup" / backup.name / gone).unlink()
        found.append({"removed": gone, "given": list(values), **resumed(scratch, first, values)})
    return found


def resumed(scratch: Path, config: Path, values: tuple[str, ...]) -> dict[str, object]:
    """Resume without a further batch: `epochs` is as many as are done."""
    chosen = [word for value in values for word in ("--config-value", value)]
    with feeding(Batches(4), fill_stable_diffusion, scratch):
        try:
            trainer = train(
                "--config-path", str(config), "--config-value", "continue_last_backup=true", *chosen
            )
        except Exception as error:  # noqa: BLE001 - whatever it raises is the fact
            return {"raises": type(error).__name__}
    optimizer = trainer.model.optimizer
    [group] = optimizer.param_groups
    states = list(optimizer.state.values())
    return {
        "step": trainer.model.train_progress.global_step,
        "epoch": trainer.model.train_progress.epoch,
        "lr": group["lr"],
        "eps": group["eps"],
        "knows_parameters": bool(states),
        "state": tree_of(states[0]) if states else None,
        "lora_dtype": str(trainer.parameters[0].dtype).removeprefix("torch."),
        "alphas": sorted({float(one.alpha) for one in _modules(trainer)}),
    }


def _modules(trainer: Any) -> list[Any]:
    return list(trainer.model.unet_lora.lora_modules.values())


def spoiled(scratch: Path) -> dict[str, object]:
    """Return what a training with a NaN loss does, and what it leaves."""
    config = configuration(scratch, "spoiled", backup_after=1, backup_after_unit="STEP")
    raised = ""
    with feeding(Batches(3, spoiled=True), fill_stable_diffusion, scratch):
        try:
            train("--config-path", str(config))
        except Exception as error:  # noqa: BLE001 - whatever it raises is the fact
            raised = type(error).__name__
    backups = sorted((scratch / "spoiled" / "backup").iterdir())
    return {"raises": raised, "backups": [path.name for path in backups]}


def failed_backup(scratch: Path) -> list[str]:
    """Return which backups are left after one whose last files could not be written."""
    from modules.trainer.GenericTrainer import GenericTrainer

    config = configuration(scratch, "failed")
    name = "_GenericTrainer__save_backup_config"
    real = getattr(GenericTrainer, name)

    def refuse(*_: object) -> None:
        raise OSError

    setattr(GenericTrainer, name, refuse)
    try:
        with feeding(Batches(2), fill_stable_diffusion, scratch):
            train("--config-path", str(config))
    finally:
        setattr(GenericTrainer, name, real)
    return sorted(path.name for path in (scratch / "failed" / "backup").iterdir())


def _scalars(directory: Path) -> list[str]:
    """Return the names of what OneTrainer logs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [run] = directory.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    return sorted(events.Tags()["scalars"])
