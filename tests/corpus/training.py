"""Real runs of Transformers' Trainer on a tiny model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.families import Family
from corpus.models import NOTHING, adapted, seed_torch, tokens, trainable

if TYPE_CHECKING:
    import numpy as np

STEPS = 4
EXAMPLES = 24
BATCH = 2

Optimizer = Callable[[Any], Any]
"""Makes an optimizer from a model's trainable parameters."""


def run(
    model: Any,
    output: Path,
    *,
    optimizer: Any = None,
    schedule: Any = None,
    inputs: Mapping[str, object] = NOTHING,
    **options: object,
) -> Path:
    """Train for four steps, save at the end, and return the last checkpoint."""
    transformers = importlib.import_module("transformers")
    batch = tokens(inputs)
    example = {name: value[0] for name, value in batch.items()}
    given = {
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_steps": STEPS,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        **options,
    }
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(output_dir=str(output), **given),
        train_dataset=[example] * EXAMPLES,
        optimizers=(optimizer, schedule),
    )
    # What the Trainer prints about its progress is nobody's business here.
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return output / f"checkpoint-{given['max_steps']}"


def adapter(
    family: Family,
    place: Path,
    rng: np.random.Generator,
    *,
    optimizer: Optimizer | None = None,
    dtype: str | None = None,
    **options: object,
) -> Path:
    """Train an adapter; ``dtype`` is that of all of the model, the adapter too."""
    torch = seed_torch(rng)
    model = adapted(family)
    if dtype is not None:
        model = model.to(getattr(torch, dtype))
    own = None if optimizer is None else optimizer(trainable(model))
    return run(model, place, optimizer=own, inputs=family.inputs, **options)


def without_the_adapter(_parameters: Any) -> Any:
    """Return an optimizer that holds something else: the adapter stays as it began."""
    torch = importlib.import_module("torch")
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
