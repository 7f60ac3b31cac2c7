"""SimpleTuner's trainer at toy size: it makes its adapter, steps, saves and resumes by itself.

Replaced are the data (one data loader of nothing, and the count of steps that follows from it)
and the gradients, which are drawn at random instead of coming from pictures.
"""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from _observing import Journal
from _simpletuner_home import forget
from _writing import described, tree_of

LYCORIS: dict[str, dict[str, object]] = {
    "lora": {"algo": "lora"},
    "dora": {"algo": "lora", "dora_wd": True},
    "loha": {"algo": "loha"},
    "lokr": {"algo": "lokr", "factor": 2},
    "lokr_full": {"algo": "lokr", "factor": 2, "full_matrix": True, "linear_dim": 10000},
    "oft": {"algo": "diag-oft"},
    "full": {"algo": "full"},
}
"""`lycoris_config.json` of each family, over rank 2 and alpha 3."""
STANDARD: dict[str, dict[str, object]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "alpha": {"lora_alpha": 8},
    "gaussian": {"lora_init_type": "gaussian"},
    "pissa": {"lora_init_type": "pissa"},
    "comfyui": {"lora_format": "comfyui"},
    "fp32": {"mixed_precision": "no", "optimizer": "torch-adafactor"},
}
"""What is set beside PEFT's LoRA of rank 4."""


def base_model(scratch: Path) -> Path:
    """Write a toy Flux for SimpleTuner to load, once, and return where it lies."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from simpletuner.helpers.models.flux.model import Flux

    toy = scratch / "toy"
    if not toy.is_dir():
        torch.manual_seed(0)
        transformer = Flux.MODEL_CLASS(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(2, 2, 4),
        )
        transformer.save_pretrained(toy / "transformer")
        FlowMatchEulerDiscreteScheduler().save_pretrained(toy / "scheduler")
    return toy


def trainer_of(scratch: Path, name: str, *, sampler: bool = True, **changes: object) -> Any:
    """Return a trainer as far as SimpleTuner brings it before its first step, resumed or not."""
    from simpletuner.helpers.training.state_tracker import StateTracker
    from simpletuner.helpers.training.trainer import Trainer

    forget()
    (scratch / "data.json").write_text("[]", encoding="utf-8")
    settings = {
        "model_type": "lora",
        "model_family": "flux",
        "lora_type": "standard",
        "pretrained_model_name_or_path": str(base_model(scratch)),
        "output_dir": str(scratch / name),
        "data_backend_config": str(scratch / "data.json"),
        "optimizer": "adamw_bf16",
        "learning_rate": 1e-3,
        "max_train_steps": 10,
        "num_train_epochs": 0,
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "lora_rank": 4,
        "flux_lora_target": "context",
        "seed": 1,
        "report_to": "none",
        "gradient_checkpointing": False,
        **changes,
    }
    trainer = Trainer(config={f"--{key}": value for key, value in settings.items()})
    trainer._recalculate_training_steps = lambda: None
    trainer.init_seed()
    trainer.init_load_base_model()
    trainer.init_precision()
    trainer.init_freeze_models()
    trainer.init_trainable_peft_adapter()
    trainer.move_models(destination="accelerator")
    backend = {
        "id": "pictures",
        "config": {"instance_prompt": "a cat"},
        "dataset_type": "image",
        "train_dataloader": torch.utils.data.DataLoader([torch.zeros(1)] * 4),
    }
    if sampler:
        backend["sampler"] = _sampler(trainer)
    StateTracker.register_data_backend(backend)
    trainer.resume_and_prepare()
    return trainer


def step(trainer: Any, count: int) -> None:
    """Let SimpleTuner's optimizer and scheduler make some steps."""
    from simpletuner.helpers.training.state_tracker import StateTracker

    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        for parameter in trainer._get_trainable_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.grad = drawn.to(parameter.dtype)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        trainer.optimizer.zero_grad()
        trainer.state["global_step"] += 1
        StateTracker.set_global_step(trainer.state["global_step"])
    if trainer.ema_model is not None:
        parameters = trainer._get_trainable_parameters()
        trainer.ema_model.step(parameters=parameters, global_step=trainer.state["global_step"])


def whole_run(scratch: Path) -> dict[str, object]:
    """Return what a training leaves that keeps an average and its metrics, in order of writing."""
    trainer = trainer_of(scratch, "whole", use_ema=True, report_to="tensorboard")
    output = scratch / "whole"
    trainer.init_trackers()
    step(trainer, 3)
    journal = Journal(output)
    with journal.watching():
        trainer.checkpoint_state_save(str(output))
        trainer._write_checkpoint_epoch(str(output / "checkpoint-3"), 2)
        step(trainer, 1)
        trainer.checkpoint_state_save(str(output), "rolling")
    if journal.unseen("checkpoint-*"):
        raise RuntimeError(f"not seen being written: {sorted(journal.unseen('checkpoint-*'))}")
    process = re.compile(r"\.tmp\.\d+")
    order = [process.sub(".tmp.1", line) for line in journal.events if "checkpoint-" in line]
    kept = {
        name: one for name, one in described(output).items() if name.startswith("checkpoint-3/")
    }
    [tracker] = output.rglob("hparams.yml")
    # The directory above it is named by the time.
    name = (tracker.parents[1].relative_to(output) / "1767323045.5" / tracker.name).as_posix()
    kept[name] = {"text": tracker.read_text(encoding="utf-8")}
    return {"order": order, "files": kept}


def standard(scratch: Path) -> dict[str, dict[str, object]]:
    """Return the checkpoint before the first step and after three, for PEFT's variants."""
    return {name: _twice(scratch, f"standard-{name}", given) for name, given in STANDARD.items()}


def lycoris(scratch: Path) -> dict[str, dict[str, object]]:
    """Return the same for LyCORIS' families."""
    found = {}
    for name, changes in LYCORIS.items():
        config = {"multiplier": 1, "linear_dim": 2, "linear_alpha": 3, **changes}
        config["apply_preset"] = {"target_module": ["FluxAttention", "Attention"]}
        path = scratch / f"lycoris-{name}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        settings = {"lora_type": "lycoris", "lycoris_config": str(path)}
        found[name] = _twice(scratch, f"lycoris-{name}", settings)
    return found


def _twice(scratch: Path, name: str, changes: dict[str, object]) -> dict[str, object]:
    try:
        trainer = trainer_of(scratch, name, sampler=False, **changes)
    except ValueError as error:
        return {"given": changes, "raises": type(error).__name__}
    trainer.checkpoint_state_save(str(scratch / name))
    step(trainer, 3)
    trainer.checkpoint_state_save(str(scratch / name))
    files = described(scratch / name)
    start = files["checkpoint-0/pytorch_lora_weights.safetensors"]
    left_out = ("optimizer.bin", "ramtorch", "random_states", "scheduler.bin")
    kept = {
        path.partition("/")[2]: one
        for path, one in files.items()
        if path.startswith("checkpoint-3/") and not path.partition("/")[2].startswith(left_out)
    }
    return {"given": changes, "zero_at_start": start.get("zero", []), "files": kept}


def resuming(scratch: Path) -> list[dict[str, object]]:
    """Return what a resume with other settings takes from them and what from its state."""
    trainer = trainer_of(scratch, "resumed", sampler=False, optimizer="torch-adamw")
    step(trainer, 3)
    trainer.checkpoint_state_save(str(scratch / "resumed"))
    kept = scratch / "kept"
    shutil.copytree(scratch / "resumed" / "checkpoint-3", kept)
    weights = str(kept / "pytorch_lora_weights.safetensors")
    latest: dict[str, object] = {"resume_from_checkpoint": "latest", "optimizer": "torch-adamw"}
    cases: tuple[tuple[str, dict[str, object]], ...] = (
        ("", latest),
        ("", {**latest, "learning_rate": 5e-4}),
        ("", {**latest, "learning_rate": 5e-4, "lr_scheduler": "cosine"}),
        ("", {**latest, "optimizer_config": "eps=1e-4"}),
        ("", {**latest, "optimizer": "adamw_bf16"}),
        ("", {**latest, "mixed_precision": "no"}),
        ("", {**latest, "lora_rank": 8}),
        ("optimizer.bin", latest),
        (".guard", latest),
        ("training_state.json", latest),
        ("pytorch_lora_weights.safetensors", latest),
        ("*", {"init_lora": weights}),
        ("*", {"init_lora": weights, "init_lora_step": 0}),
        ("*", {"init_lora": weights, "init_lora_step": 0, "mixed_precision": "no"}),
        ("*", {"init_lora": weights, "resume_from_checkpoint": ""}),
        ("*", {"init_lora": weights, "resume_from_checkpoint": "None"}),
    )
    found: list[dict[str, object]] = []
    for gone, changes in cases:
        shutil.rmtree(scratch / "resumed", ignore_errors=True)
        if gone != "*":
            shutil.copytree(kept, scratch / "resumed" / "checkpoint-3")
        if gone not in {"", "*"}:
            (scratch / "resumed" / "checkpoint-3" / gone).unlink()
        given = {k: v for k, v in changes.items() if latest.get(k) != v}
        found.append({"removed": gone, "given": given, **resumed(scratch, changes)})
    return found


def resumed(scratch: Path, changes: dict[str, object]) -> dict[str, object]:
    try:
        trainer = trainer_of(scratch, "resumed", sampler=False, **changes)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the fact
        return {"raises": type(error).__name__}
    [group] = trainer.optimizer.param_groups
    found: dict[str, object] = {
        "step": trainer.state["global_step"],
        "lr": group["lr"],
        "eps": tree_of(group.get("eps")),
        "knows_parameters": bool(trainer.optimizer.state),
        "lora_dtype": str(trainer._get_trainable_parameters()[0].dtype).removeprefix("torch."),
        "adapter_is_zero": _is_zero(trainer),
    }
    try:
        step(trainer, 1)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the fact
        return {**found, "step_raises": type(error).__name__}
    return {**found, "lr_after_a_step": trainer.optimizer.param_groups[0]["lr"]}


def _is_zero(trainer: Any) -> bool:
    component = trainer.model.get_trained_component()
    ups = [one for name, one in component.named_parameters() if "lora_B" in name]
    return not any(bool(one.any()) for one in ups)


def _sampler(trainer: Any) -> Any:
    """Return SimpleTuner's sampler with as much as it writes into a checkpoint."""
    from simpletuner.helpers.multiaspect.sampler import MultiAspectSampler
    from simpletuner.helpers.multiaspect.state import BucketStateManager

    sampler = object.__new__(MultiAspectSampler)
    sampler.__dict__ |= {
        "accelerator": trainer.accelerator,
        "metadata_backend": SimpleNamespace(
            aspect_ratio_bucket_indices={"1.0": ["a.png"]}, seen_images={}
        ),
        "state_manager": BucketStateManager("pictures"),
        "buckets": ["1.0"],
        "exhausted_buckets": [],
        "batch_size": 1,
        "current_bucket": 0,
        "current_epoch": 1,
    }
    return sampler
