"""One process of a sharded LoRA training, saved by accelerate's own functions for FSDP.

accelerate shards only where it finds GPUs, so the model is sharded by torch; what it saves by is
what `save_state` and Transformers' Trainer call.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import peft
import torch
import torch.distributed as dist
import transformers
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.checkpointing import save_accelerator_state
from accelerate.utils.fsdp_utils import save_fsdp_model, save_fsdp_optimizer
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers.trainer_callback import TrainerState


def adapted() -> peft.PeftModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    base = transformers.LlamaForCausalLM(config)
    return peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))


def main(out: Path) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group(
        "gloo",
        init_method=os.environ["RENDEZVOUS"],
        rank=rank,
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type="SHARDED_STATE_DICT")
    accelerator = Accelerator(cpu=True)
    model = adapted()
    for layer in model.base_model.model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    tokens = torch.randint(0, 64, (2, 8))
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    for directory in (out / "state", out / "checkpoint-2"):
        is_trainer = directory.name.startswith("checkpoint")
        save_fsdp_model(plugin, accelerator, model, str(directory), adapter_only=is_trainer)
        save_fsdp_optimizer(plugin, accelerator, optimizer, model, str(directory))
    save_accelerator_state(str(out / "state"), [], [], [], [], rank, 1)
    if rank == 0:
        state = TrainerState(global_step=2, max_steps=4)
        state.save_to_json(str(out / "checkpoint-2" / "trainer_state.json"))
    whole = {
        name: one.full_tensor() if isinstance(one, DTensor) else one
        for name, one in model.state_dict().items()
    }
    if rank == 0:
        torch.save(whole, out / "whole.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
