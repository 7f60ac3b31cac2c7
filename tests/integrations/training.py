"""A LoRA on a tiny Llama under Transformers' Trainer, and what differs when it goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus.models import VOCABULARY, tiny_llama

STEPS, EVERY = 6, 2


def adapted(dtype: str) -> Any:
    """A LoRA on a tiny Llama, all of it in one dtype, the same each time."""
    import peft  # noqa: PLC0415 - only where the training libraries are installed
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(tiny_llama(), config, autocast_adapter_dtype=False)
    return model.to(getattr(torch, dtype))


def trainer(out: Path, *, dtype: str, callbacks: list[Any], **arguments: Any) -> Any:
    """A Trainer that saves each second of six steps.

    In fp16 the squares of the gradients vanish in Adam's second moment, so the first update
    divides by zero and the weights become NaN: no error anywhere. In fp32 all is well.
    """
    import torch  # noqa: PLC0415 - only where the training libraries are installed
    import transformers  # noqa: PLC0415

    model = adapted(dtype)
    rows = torch.randint(0, VOCABULARY, (16, 8), generator=torch.Generator().manual_seed(1))
    given = {
        "max_steps": STEPS,
        "save_steps": EVERY,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "optim": "adamw_torch",
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        **arguments,
    }
    return transformers.Trainer(
        model,
        transformers.TrainingArguments(str(out), **given),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=callbacks,
    )
