"""One process of a sharded training with torch alone: FSDP2, DTensors of every kind, and DCP.

Rank 0 also saves, by torch's own gathering, what the whole tensors are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor


def save(state: dict, path: Path, **options: object) -> None:
    dcp.save(state, checkpoint_id=None if options else path, **options)
    whole = {
        name: one.full_tensor() if isinstance(one, DTensor) else one
        for name, one in state.get("model", state).items()
    }
    if dist.get_rank() == 0:
        torch.save(whole, path.with_suffix(".pt"))


def main(out: Path) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(
        "gloo", init_method=os.environ["RENDEZVOUS"], rank=rank, world_size=world
    )
    mesh = init_device_mesh("cpu", (world,))
    torch.manual_seed(0)
    tensors = {
        "rows": distribute_tensor(torch.randn(5, 3), mesh, [Shard(0)]),
        "columns": distribute_tensor(torch.randn(4, 7), mesh, [Shard(1)]),
        "kernel": distribute_tensor(torch.randn(2, 3, 4), mesh, [Shard(2)]),
        "one row": distribute_tensor(torch.randn(1, 3), mesh, [Shard(0)]),
        "replicated": distribute_tensor(torch.randn(2, 2), mesh, [Replicate()]),
        "bf16": distribute_tensor(torch.randn(6, 4).bfloat16(), mesh, [Shard(0)]),
        "plain": torch.arange(4.0),
    }
    save({"model": tensors, "step": 5}, out / "tensors")
    writer = dcp.HuggingFaceStorageWriter(str(out / "shards"), save_distributed=True)
    save(tensors, out / "shards", storage_writer=writer)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 2, bias=False))
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(3, 6)).square().sum().backward()
    optimizer.step()
    for flat in (False, True):
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        weights, kept = get_state_dict(model, optimizer, options=options)
        save({"model": weights, "optim": kept}, out / f"fsdp-{flat}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
