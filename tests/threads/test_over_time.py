"""Threads that only the checkpoints before, or the log, tell: a resume, a jump of the loss."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus import damage, training
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, tokens, train, trainable
from sentinel.daemon.room import room_for_next
from sentinel.flow import conclude
from sentinel.inspecting import inspect
from threads import simpletuner
from threads.finding import RULES, healthy, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("peft")


def test_ace_step_ace_step_1_5_742(tmp_path: Path, rng: np.random.Generator) -> None:
    """A resumed training behaves as if it began anew: the optimizer's state is not loaded. Told
    from the steps that it has counted, which were more in the checkpoint before."""
    found = {}
    for name, lost in (("lost", True), ("kept", False)):
        seed_torch(rng)
        training.run(adapted(FAMILIES["lora"]), tmp_path / name)
        start = tmp_path / f"start of {name}"
        shutil.copytree(tmp_path / name / "checkpoint-4", start)
        if lost:
            damage.gone("optimizer.pt")(start)
            damage.gone("scheduler.pt")(start)
        resume(start, tmp_path / name, steps=6)
        found[name] = scan(tmp_path / name)

    before, after = found["lost"]
    assert (before.checkpoint.step, after.checkpoint.step) == (4, 6)
    healthy(before.verdict)
    said(
        after.verdict,
        "optimizer-reset-on-resume",
        "suspect",
        "the optimizer has counted 2 steps at step 6, and 4 in the checkpoint before (step 4)",
        "the resume did not load its state",
    )
    silent(found["kept"][1].verdict, "optimizer-reset-on-resume")


def resume(start: Path, output: Path, *, steps: int) -> None:
    """Go on from a checkpoint as far as a step, in a process that knows nothing else."""
    transformers = importlib.import_module("transformers")
    example = {name: value[0] for name, value in tokens().items()}
    arguments = transformers.TrainingArguments(
        output_dir=str(output),
        max_steps=steps,
        save_steps=steps,
        logging_steps=1,
        per_device_train_batch_size=training.BATCH,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    model, data = adapted(FAMILIES["lora"]), [example] * training.EXAMPLES
    made = transformers.Trainer(model=model, args=arguments, train_dataset=data)
    made.remove_callback(transformers.PrinterCallback)
    made.train(resume_from_checkpoint=str(start))


def test_bghira_simpletuner_2353(tmp_path: Path) -> None:
    """The disk was full at the last checkpoint of a long run, which ended there. Told while the
    training runs and one save too early to hurt, with what a checkpoint takes and what is free."""
    seen = inspect(simpletuner.checkpoint(tmp_path))
    takes = seen.checkpoint.size_bytes
    full = conclude(seen, rules=RULES, free_bytes=takes - 1)
    roomy = conclude(seen, rules=RULES, free_bytes=room_for_next(seen.checkpoint))

    said(
        full.verdict,
        "disk-nearly-full",
        "suspect",
        "the next one does not fit: this checkpoint takes",
        "are free where it lies; make room before the next save, or keep fewer checkpoints",
    )
    healthy(roomy.verdict)


def test_axolotl_ai_cloud_axolotl_1310(tmp_path: Path, rng: np.random.Generator) -> None:
    """Asked for: a watchdog that goes back to an earlier checkpoint when the loss jumps up. The
    jump is told with both losses and the step where it began; the checkpoint before is healthy."""
    torch = importlib.import_module("torch")
    found = {}
    for name, jumps in (("jumps", True), ("goes on", False)):
        seed_torch(rng)
        base = tiny_llama()
        train(base, steps=20)
        model = adapted(FAMILIES["lora"], base)
        own = torch.optim.AdamW(trainable(model), lr=1e-3)
        if jumps:
            at_step(own, 31, lambda group: group.update(lr=3.0))
        options = {"max_steps": 36, "save_steps": 30}
        training.run(model, tmp_path / name, optimizer=own, **options)
        found[name] = scan(tmp_path / name)

    before, after = found["jumps"]
    healthy(before.verdict)
    said(
        after.verdict,
        "loss-spike",
        after.verdict.level,
        "since step 32",
        "the run has jumped out of where it was",
        "resume from a checkpoint before that with a lower learning rate",
    )
    assert after.verdict.level in {"suspect", "faulty"}
    silent(found["goes on"][1].verdict, "loss-spike", "norm-explosion", "nan-values")


def at_step(optimizer: Any, step: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the optimizer's settings before one of its steps, as a wrong schedule does."""
    taken = iter(range(1, 1000))

    def hook(own: Any, _arguments: Any, _options: Any) -> None:
        if next(taken) == step:
            change(own.param_groups[0])

    optimizer.register_step_pre_hook(hook)
