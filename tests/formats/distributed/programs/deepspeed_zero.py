"""One process of a training with DeepSpeed's ZeRO on the CPU: two steps, and its own save."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed
import torch


class Adapted(torch.nn.Module):
    """A frozen layer under a LoRA, named as PEFT names them, a head, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = torch.nn.Linear(6, 5)
        self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(6, 3, bias=False)})
        self.lora_B = torch.nn.ModuleDict({"default": torch.nn.Linear(3, 5, bias=False)})
        self.head = torch.nn.Linear(5, 3)
        self.register_buffer("seen", torch.arange(4.0))
        self.base_layer.requires_grad_(requires_grad=False)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        adapted = self.lora_B["default"](self.lora_A["default"](given))
        return self.head(self.base_layer(given) + adapted)


def main(out: Path, stage: int) -> None:
    deepspeed.init_distributed(
        "gloo",
        init_method=os.environ["RENDEZVOUS"],
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    torch.manual_seed(0)
    model = Adapted()
    decayed = [one for one in model.parameters() if one.requires_grad and one.ndim > 1]
    others = [one for one in model.parameters() if one.requires_grad and one.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3
    )
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": True},
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    for _ in range(2):
        loss = engine(torch.randn(1, 6, dtype=torch.bfloat16)).float().square().sum()
        engine.backward(loss)
        engine.step()
        engine.save_checkpoint(str(out))
    torch.distributed.barrier()
    # All is saved. Taking gloo's threads down with the interpreter aborts once in a while.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
