"""Models, adapters and trainings by the real libraries, small enough for a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

VOCABULARY = 64


def tiny_llama(kind: str = "LlamaForCausalLM", seed: int = 0) -> Any:
    """A Llama of two layers with random weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    return getattr(transformers, kind)(config)


def adapted(kind: str = "LlamaForCausalLM", **options: Any) -> Any:
    """Such a model under a LoRA whose both sides are random."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    given = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **options}
    model = peft.get_peft_model(tiny_llama(kind), peft.LoraConfig(**given))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def trained(output: Path, *, steps: int, resume: Path | None = None) -> Any:
    """A Trainer after training an adapted model for so many steps, saving every third."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (32, 8))
    arguments = transformers.TrainingArguments(
        output_dir=str(output),
        max_steps=steps,
        save_steps=3,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    data = [{"input_ids": row, "labels": row} for row in ids]
    trainer = transformers.Trainer(adapted(), arguments, train_dataset=data)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return trainer
