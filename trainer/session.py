"""One start of the trainer, once the recipe is accepted: load, train, say how it ended."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorWithPadding, default_data_collator, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from . import quiet
from .callbacks import Intervals, MetricsFile, PlainLines, ProgressBar, StopSignal, UpdateCount
from .checkpoints import later_than, remove_stale, supersede
from .data import Sample, find_files, labelled_samples, language_samples
from .device import current_device
from .fingerprint import fingerprint
from .loop import LoopTrainer, training_arguments
from .manifest import Facts
from .model import add_adapter, load_adapter_weights, load_base, load_tokenizer
from .recipe import Recipe
from .start import Checkpoint, OptimizerState, changed_optimizer_settings, refuse_other_base


@dataclass(frozen=True, slots=True)
class Start:
    """What the command line decided: the recipe and where to begin.

    ``optimizer`` only means something with a ``checkpoint``.
    """

    recipe: Recipe
    checkpoint: Checkpoint | None = None
    optimizer: OptimizerState = "drop"
    init_lora: Path | None = None

    @property
    def step(self) -> int:
        """Return the step the training starts at."""
        return self.checkpoint.step if self.checkpoint else 0


def train(start: Start) -> int | None:
    """Train to the recipe's last step, or until a signal; return that signal's number.

    Everything that can be refused is refused before the output directory is touched.
    """
    # ---- surroundings --------------------------------------------------------------------
    quiet.after_imports()
    recipe, training = start.recipe, start.recipe.training
    if training.threads:
        torch.set_num_threads(training.threads)
    set_seed(training.seed)
    device = current_device()

    # ---- model and data ------------------------------------------------------------------
    tokenizer = load_tokenizer(recipe)
    base = load_base(recipe, device.type, tokenizer.pad_token_id)
    mark = fingerprint(recipe.base.model, getattr(base.config, "_commit_hash", None))
    if start.checkpoint:
        refuse_other_base(recipe, start.checkpoint, mark)
    model = add_adapter(base, recipe)
    resumed = start.checkpoint.path if start.checkpoint else None
    first = resumed or start.init_lora
    if first:
        load_adapter_weights(model, first)
    samples = _samples(recipe, tokenizer, recipe.data.files)
    held_out = _samples(recipe, tokenizer, recipe.data.eval_files) if training.eval_every else None

    # ---- loop ----------------------------------------------------------------------------
    stop = StopSignal()
    updates = UpdateCount(
        start.checkpoint.updates_done if start.checkpoint else 0,
        estimates_rate=training.optimizer.estimates_rate,
    )
    output_dir = Path(recipe.output_dir)
    on_terminal = sys.stderr.isatty()
    trainer = LoopTrainer(
        facts=Facts(recipe, device, mark, _resumed_from(start), _name(start.init_lora)),
        updates=updates,
        step=start.step,
        changed=_changed(start),
        model=model,
        args=training_arguments(recipe, device, quiet=not on_terminal),
        train_dataset=samples,
        eval_dataset=held_out,
        processing_class=tokenizer,
        data_collator=_collator(recipe, tokenizer),
        callbacks=[updates, Intervals(), stop, MetricsFile(output_dir / "metrics.jsonl")],
    )
    for usual in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(usual)
    trainer.add_callback(ProgressBar() if on_terminal else PlainLines())
    print(_summary(recipe, model, samples, device.name), flush=True)

    # ---- training ------------------------------------------------------------------------
    _clear_the_way(output_dir, start.step)
    with stop.listening():
        trainer.train(resume_from_checkpoint=_name(resumed))
    return stop.received if trainer.state.global_step < training.steps else None


def _clear_the_way(output_dir: Path, step: int) -> None:
    """Remove half-made checkpoints and move aside those this start would make again."""
    for name in remove_stale(output_dir):
        print(f"removed {name}, left half made by a process that is gone")
    later = later_than(output_dir, step)
    if later:
        aside = supersede(later, datetime.now(UTC))
        names = ", ".join(path.name for path in later)
        print(f"moved {names} to '{aside}': this start makes them again", flush=True)


def _samples(recipe: Recipe, tokenizer: Any, patterns: tuple[str, ...]) -> list[Sample]:
    files = find_files(patterns)
    if recipe.num_labels is not None:
        return labelled_samples(files, recipe.data, tokenizer, recipe.num_labels)
    return language_samples(files, recipe.data, tokenizer)


def _collator(recipe: Recipe, tokenizer: Any) -> Any:
    if recipe.task == "sequence-classification":
        return DataCollatorWithPadding(tokenizer)
    return default_data_collator


def _changed(start: Start) -> dict[str, Any] | None:
    if start.checkpoint is None or start.optimizer == "drop":
        return None
    return changed_optimizer_settings(start.recipe, start.checkpoint)


def _resumed_from(start: Start) -> dict[str, Any] | None:
    if start.checkpoint is None:
        return None
    return {"path": str(start.checkpoint.path), "step": start.checkpoint.step}


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _summary(recipe: Recipe, model: Any, samples: list[Sample], device: str) -> str:
    """Say in one line what is trained on what."""
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    base = recipe.base.quantization if recipe.base.quantization != "none" else "unquantised"
    return (
        f"{recipe.adapter.method} rank {recipe.adapter.rank} in {recipe.adapter.dtype} "
        f"({trainable:,} weights) on a {base} base in {recipe.base.compute_dtype}, "
        f"{len(samples):,} samples, {recipe.training.optimizer.name}, {device}"
    )


def exit_code(received: int | None) -> int:
    """Return 0 for a finished training, 128 + number for one that a signal stopped."""
    return 0 if received is None else 128 + signal.Signals(received).value
