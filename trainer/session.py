"""One start of the trainer, once the recipe is accepted: load, train, say how it ended."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from . import quiet
from .base_files import check_base_files
from .callbacks import Intervals, MetricsFile, StopSignal, UpdateCount
from .checkpoints import later_than, remove_stale, supersede
from .data.chat import set_template
from .data.collate import Collator
from .data.samples import Samples, held_out_samples, training_samples
from .device import Device, check_device, current_device
from .disk import check_room
from .engines import check_engine
from .eva import initialise_eva
from .fingerprint import fingerprint
from .length import nothing_left, with_steps
from .loop import LoopTrainer, training_arguments
from .manifest import Facts
from .memory import OutOfMemoryError, advise, is_out_of_memory
from .model import add_adapter, load_adapter_weights, load_base, load_tokenizer
from .processes import check_shared, from_environment
from .progress import PlainLines, ProgressBar, Speed
from .recipe import Recipe
from .rotation import Rotation
from .skeleton import build_skeleton, checkpoint_bytes
from .start import (
    Checkpoint,
    OptimizerState,
    changed_optimizer_settings,
    describe_data,
    refuse_other_base,
)


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before the model is loaded."""

    device: Device
    tokenizer: Any
    samples: Samples
    held_out: Samples | None
    facts: Facts


def train(start: Start) -> int | None:
    """Train to the recipe's last step, or until a signal; return that signal's number.

    A checkpoint that is at that step already leaves nothing to do.
    Everything that can be refused is refused before the model is loaded and before the output
    directory is touched. Raises OutOfMemoryError with what to change.
    """
    quiet.after_imports()
    if start.recipe.training.threads:
        torch.set_num_threads(start.recipe.training.threads)
    prepared = prepare(start)
    start = replace(start, recipe=prepared.facts.recipe)
    if start.checkpoint and (said := nothing_left(start.recipe, start.step)):
        print(said)
        return None
    done: list[int] = []
    try:
        return _run(start, prepared, done)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(advise(start.recipe, done[-1] if done else None)) from error


def prepare(start: Start) -> Prepared:
    """Look at device, base, data and disk, and refuse what will not work."""
    recipe, processes = start.recipe, from_environment()
    processes.take_device()
    device = current_device()
    check_engine(recipe, processes, device.type)
    check_device(recipe, device)
    check_base_files(recipe)
    tokenizer = load_tokenizer(recipe)
    skeleton = build_skeleton(recipe)
    mark = fingerprint(recipe.base.model, skeleton.commit)
    if start.checkpoint:
        refuse_other_base(recipe, start.checkpoint, mark)
    if recipe.data.style == "chat":
        set_template(tokenizer, recipe.data)
    samples = training_samples(recipe, tokenizer)
    held_out = held_out_samples(recipe, tokenizer) if recipe.training.eval_every else None
    recipe, told = with_steps(recipe, len(samples), processes.count)
    for line in told:
        print(line, flush=True)
    print(check_room(recipe, start.step, checkpoint_bytes(recipe, skeleton.trained)), flush=True)
    facts = Facts(
        recipe=recipe,
        device=device,
        fingerprint=mark,
        data=samples.facts(),
        resumed_from=_resumed_from(start),
        initialised_from=_name(start.init_lora),
        processes=processes,
    )
    if start.checkpoint:
        print("".join(describe_data(start.checkpoint, facts.data)), end="", flush=True)
    return Prepared(device, tokenizer, samples, held_out, facts)


def _run(start: Start, prepared: Prepared, done: list[int]) -> int | None:
    """Load and train; ``done`` gets the steps that were finished."""
    recipe, training = start.recipe, start.recipe.training
    processes = prepared.facts.processes
    collator = Collator(prepared.tokenizer.pad_token_id)
    model = _model(start, prepared, collator)

    # ---- loop ----------------------------------------------------------------------------
    stop, speed = StopSignal(done, processes), Speed(processes.count)
    updates = UpdateCount(
        start.checkpoint.updates_done if start.checkpoint else 0,
        estimates_rate=training.optimizer.estimates_rate,
    )
    output_dir = Path(recipe.output_dir)
    on_terminal = sys.stderr.isatty() and processes.first
    trainer = LoopTrainer(
        facts=prepared.facts,
        updates=updates,
        speed=speed,
        step=start.step,
        changed=_changed(start),
        model=model,
        args=training_arguments(recipe, prepared.device, quiet=not on_terminal),
        train_dataset=prepared.samples,
        eval_dataset=prepared.held_out,
        processing_class=prepared.tokenizer,
        data_collator=collator,
        callbacks=[updates, Intervals(), stop, speed, MetricsFile(output_dir / "metrics.jsonl")],
    )
    for usual in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(usual)
    trainer.add_callback(ProgressBar() if on_terminal else PlainLines())
    wanted = training.tensorboard or (training.tensorboard is None and find_spec("tensorboard"))
    if wanted and processes.first:
        trainer.add_callback(_tensorboard(output_dir))
    if training.keep is not None:
        trainer.add_callback(Rotation(training.keep))
    print(_summary(recipe, model, prepared), flush=True)

    # ---- training ------------------------------------------------------------------------
    check_shared(processes, output_dir)
    with processes.together("output_dir"):
        if processes.first:
            _clear_the_way(output_dir, start.step)
    done.append(start.step)
    with stop.listening():
        trainer.train(resume_from_checkpoint=_name(start.checkpoint and start.checkpoint.path))
    return stop.received if trainer.state.global_step < training.last_step else None


def _model(start: Start, prepared: Prepared, collator: Collator) -> Any:
    """Return the base with its adapter, which begins as the start says."""
    recipe = start.recipe
    set_seed(recipe.training.seed)
    base = load_base(recipe, prepared.device.type, prepared.tokenizer.pad_token_id)
    first = start.checkpoint.path if start.checkpoint else start.init_lora
    model = add_adapter(base, recipe, fresh=first is None)
    if first:
        load_adapter_weights(model, first)
    elif recipe.adapter.init == "eva":
        initialise_eva(model, prepared.samples, collator, recipe)
    return model


def _tensorboard(output_dir: Path) -> TensorBoardCallback:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - only when it is wanted

    return TensorBoardCallback(SummaryWriter(log_dir=str(output_dir / "tensorboard")))


def _clear_the_way(output_dir: Path, step: int) -> None:
    """Remove half-made checkpoints and move aside those this start would make again."""
    for name in remove_stale(output_dir):
        print(f"removed {name}, left half made by a process that is gone")
    later = later_than(output_dir, step)
    if later:
        aside = supersede(later, datetime.now(UTC))
        names = ", ".join(path.name for path in later)
        print(f"moved {names} to '{aside}': this start makes them again", flush=True)


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


def _summary(recipe: Recipe, model: Any, prepared: Prepared) -> str:
    """Say in one line what is trained on what."""
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    base = recipe.base.quantization if recipe.base.quantization != "none" else "unquantised"
    return (
        f"{recipe.adapter.method} rank {recipe.adapter.rank} in {recipe.adapter.dtype} "
        f"({trainable:,} weights) on a {base} base in {recipe.base.compute_dtype}, "
        f"{len(prepared.samples):,} samples, {recipe.training.optimizer.name}, "
        f"{prepared.device.name}"
    )


def exit_code(received: int | None) -> int:
    """Return 0 for a finished training, 128 + number for one that a signal stopped."""
    return 0 if received is None else 128 + signal.Signals(received).value
