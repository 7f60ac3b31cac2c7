"""Weights and optimizer state that lie in parts over several processes, as whole tensors.

A checkpoint holds them whole, in the form that one process writes: so it is resumed on any
number of processes and under any engine, and whatever reads it needs to know of none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(value: Any) -> Any:
    """Return a nested value with each sharded tensor put together, on the CPU.

    Every process has to call it with the same structure: the parts are gathered in its order.
    """
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(each) for each in value)
    return value


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights that are trained, whole, by their names in the model."""
    return {
        name: whole(value.detach())
        for name, value in model.named_parameters()
        if value.requires_grad
    }


def shared_out(state: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's whole state with each tensor cut as its weight is.

    ``state`` is what `torch.optim.Optimizer.state_dict` gave for the same weights.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    parts = {
        at: {key: _cut(each, weights[at]) for key, each in entry.items()}
        for at, entry in state["state"].items()
    }
    return state | {"state": parts}


def _cut(value: Any, weight: Any) -> Any:
    if not isinstance(weight, DTensor) or not isinstance(value, torch.Tensor):
        return value
    if value.shape != weight.shape:
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
