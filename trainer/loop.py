# ruff: noqa: ARG002 - the signatures are Transformers'
"""Transformers' Trainer with whole checkpoints and a resume that does what it says.

Everything about training itself is the parent's; here is only what it saves and loads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from .callbacks import EvaluationStopped, UpdateCount
from .device import Device
from .engines import engine_arguments, engine_of
from .manifest import Facts, write_manifest
from .model import load_adapter_weights
from .optimizers import build_optimizer, build_schedule, keep_state_precision
from .processes import staged_together
from .progress import Speed
from .recipe import Recipe
from .sections.optimizer import OPTIMIZERS
from .sharded import shared_out, trained_weights, whole
from .zero import whole_state


class LoopTrainer(Trainer):
    """A Trainer that follows a recipe.

    ``step`` is where it starts; ``changed`` holds the optimizer settings that win over the
    saved state, which is None when that state is dropped.
    """

    def __init__(
        self,
        *,
        facts: Facts,
        updates: UpdateCount,
        speed: Speed,
        step: int,
        changed: Mapping[str, Any] | None,
        **kwargs: Any,
    ) -> None:
        self.facts = facts
        self.updates = updates
        self.speed = speed
        self.start_step = step
        self.changed = changed
        super().__init__(**kwargs)

    # ---- building ------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> Any:
        """Build the recipe's optimizer, one group for all trainable weights."""
        if self.optimizer is None:
            trainable = [value for value in self.model.parameters() if value.requires_grad]
            self.optimizer = build_optimizer(self.facts.recipe.training, trainable)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Build the recipe's schedule."""
        if self.lr_scheduler is None:
            training = self.facts.recipe.training
            self.lr_scheduler = build_schedule(training, optimizer or self.optimizer)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def create_accelerator_and_postprocess(self) -> None:
        """Put the recipe's gradient scaler in place of accelerate's.

        accelerate scales fp16 on every GPU and on no CPU; a scaler that is switched off passes
        everything through.
        """
        super().create_accelerator_and_postprocess()
        wanted = self.facts.recipe.training.grad_scaler
        accelerator = self.accelerator
        if self.args.fp16 and (not wanted or accelerator.scaler is None):
            device = self.args.device.type
            accelerator.scaler = torch.amp.GradScaler(device, enabled=wanted)
            accelerator.native_amp = True

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Count the tokens and do the parent's step."""
        self.speed.count(inputs)
        return super().training_step(model, inputs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate; after a signal save and end instead."""
        try:
            return super().evaluate(*args, **kwargs)
        except EvaluationStopped:
            self.control.should_evaluate = False
            self.control.should_save = True
            self.control.should_training_stop = True
            return {}

    # ---- saving --------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save what the parent saves, whole or not at all, and the manifest last.

        State of callbacks is left out: ours has none that the manifest does not carry. A
        schedule-free optimizer holds other weights while it trains than those it has found;
        the found ones are saved, and the next step takes it back.
        """
        self.store_flos()
        if callable(getattr(self.optimizer, "eval", None)):
            self.optimizer.eval()
        place, step = Path(self.args.output_dir), self.state.global_step
        with staged_together(self.facts.processes, place, step, self._finish) as directory:
            self._save_weights(directory)
            self._save_state(directory)
            self._save_scaler(str(directory))
            self._save_rng_state(str(directory))

    def _save_weights(self, directory: Path) -> None:
        """Save the adapter whole, also where the processes hold it in parts."""
        if not self.is_fsdp_enabled:
            self.save_model(str(directory), _internal_call=True)
            return
        weights = trained_weights(self.model)
        if self.facts.processes.first:
            self._save(str(directory), state_dict=weights)

    def _save_state(self, directory: Path) -> None:
        """Save optimizer and schedule as one process would; DeepSpeed's own parts beside them."""
        if not self.is_fsdp_enabled:
            self._save_optimizer_and_scheduler(str(directory))
        if self.is_deepspeed_enabled:
            state = whole_state(self.model, self.model_wrapped.optimizer)
        elif self.is_fsdp_enabled:
            state = whole(self.optimizer.state_dict())
        else:
            return
        if self.facts.processes.first:
            torch.save(state, directory / "optimizer.pt")
            torch.save(self.lr_scheduler.state_dict(), directory / "scheduler.pt")

    def _finish(self, directory: Path) -> None:
        """Write what is said of the whole checkpoint, the manifest last."""
        self.state.save_to_json(str(directory / "trainer_state.json"))
        write_manifest(
            directory,
            self.facts,
            step=self.state.global_step,
            epoch=self.state.epoch,
            updates_done=self.updates.done,
        )

    def _save_scaler(self, output_dir: str) -> None:
        """Save the gradient scaler's state, where there is one that scales."""
        scaler = self.accelerator.scaler
        if scaler is not None and scaler.is_enabled():
            super()._save_scaler(output_dir)

    # ---- resuming ------------------------------------------------------------------------

    def _prepare_for_training(self, max_steps: int, loader: Any, resumed: str | None) -> Any:
        """Wrap model and optimizer; DeepSpeed loads its parts only where state is kept."""
        drops = self.is_deepspeed_enabled and self.changed is None
        result = super()._prepare_for_training(max_steps, loader, None if drops else resumed)
        if drops:
            self._load_optimizer_and_scheduler(resumed)
        return result

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Copy the weights into the adapter; the parent's way would make half precision fp32.

        Sharded weights were loaded before they were sharded.
        """
        if not self.is_fsdp_enabled:
            load_adapter_weights(model or self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the saved state unless it is dropped, let the recipe win, place the schedule."""
        if checkpoint is None:
            return
        if self.changed is not None:
            if self.is_fsdp_enabled:
                file = Path(checkpoint) / "optimizer.pt"
                saved = torch.load(file, map_location="cpu", weights_only=True)
                self.optimizer.load_state_dict(shared_out(saved, self.optimizer))
            elif not self.is_deepspeed_enabled:
                super()._load_optimizer_and_scheduler(checkpoint)
                self._keep_state_precision(Path(checkpoint) / "optimizer.pt")
            for group in self.optimizer.param_groups:
                group.update(self.changed)
        if not self.facts.recipe.training.optimizer.estimates_rate:
            self._place_schedule()

    def _keep_state_precision(self, file: Path) -> None:
        name = self.facts.recipe.training.optimizer.name
        if OPTIMIZERS[name].keeps_fp32 and file.is_file():
            saved = torch.load(file, map_location="cpu", weights_only=True)
            keep_state_precision(getattr(self.optimizer, "optimizer", self.optimizer), saved)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Load the scaler's state with the optimizer's; dropped, it finds its scale anew."""
        if self.changed is not None:
            super()._load_scaler(checkpoint)

    def _place_schedule(self) -> None:
        """Put the schedule where an uninterrupted run would have it at the first step."""
        schedule = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        rate = (self.changed or {}).get("lr")
        if rate is not None:
            schedule.base_lrs = [rate] * len(schedule.base_lrs)
            for group in self.optimizer.param_groups:
                group["initial_lr"] = rate
        schedule.last_epoch = self.start_step - 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch misses an optimizer step before this one
            schedule.step()


def training_arguments(recipe: Recipe, device: Device, *, quiet: bool) -> TrainingArguments:
    """Return the recipe in the words of Transformers' TrainingArguments."""
    training = recipe.training
    mixed = _autocasts(recipe, device)
    checkpointing = {"use_reentrant": training.gradient_checkpointing_reentrant}
    arguments = TrainingArguments(
        output_dir=recipe.output_dir,
        max_steps=training.last_step,
        num_train_epochs=training.epochs or 3.0,  # only told: max_steps goes over it
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs=checkpointing if training.gradient_checkpointing else None,
        torch_compile=training.compile,
        learning_rate=training.rate or 0.0,
        max_grad_norm=training.max_grad_norm,
        seed=training.seed,
        use_cpu=device.type == "cpu",
        bf16=mixed == "bf16",
        fp16=mixed == "fp16",
        save_strategy="steps",
        save_steps=training.save_every,
        logging_strategy="steps",
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if training.eval_every else "no",
        eval_steps=training.eval_every,
        prediction_loss_only=True,
        report_to="none",
        log_level="error",
        disable_tqdm=quiet,
        dataloader_pin_memory=device.type == "cuda",
        **engine_arguments(recipe),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # noqa: SLF001 - else each batch is spread over all GPUs there are
    return arguments


def _autocasts(recipe: Recipe, device: Device) -> str | None:
    """Return the half precision to autocast to, None to compute in the weights' own.

    By itself only full-precision adapters on a GPU are autocast: a scaler refuses fp16 weights
    ("Attempting to unscale FP16 gradients", torch), and half adapters are trained as they are,
    because that is what the recipe asked for.
    """
    asked, compute = recipe.training.mixed_precision, recipe.base.compute_dtype
    if asked != "auto":
        return None if asked == "none" else asked
    if engine_of(recipe) == "deepspeed":
        return None  # it would cast the trained weights themselves
    if device.type != "cuda" or compute == "fp32" or recipe.adapter.dtype != "fp32":
        return None
    return compute
