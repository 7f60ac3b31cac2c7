"""A LoRA on a tiny Llama under Lightning's Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch

from corpus.models import tokens, trainable
from integrations.training import adapted


class Module(lightning.LightningModule):
    """A LoRA on a tiny Llama, which Adam breaks when all of it is in fp16."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.model = adapted(dtype)

    def training_step(self, _batch, _index):
        return self.model(**tokens()).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(trainable(self.model), lr=1e-3, foreach=False)


def saving(out: Path, **options: Any) -> lightning.Callback:
    """A ModelCheckpoint that keeps each second step."""
    given = {"every_n_train_steps": 2, "save_top_k": -1, "filename": "{step}", **options}
    return lightning.callbacks.ModelCheckpoint(dirpath=out, **given)


def fitted(
    dtype: str,
    callbacks: list[lightning.Callback],
    *,
    ckpt_path: Path | None = None,
    steps: int = 6,
    **options: Any,
) -> None:
    """Train six steps on the CPU."""
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks, **options,
    )  # fmt: skip
    batches = torch.utils.data.DataLoader(torch.zeros(8, 1), batch_size=1)
    trainer.fit(Module(dtype), batches, ckpt_path=ckpt_path)
