"""The optimizer state that DeepSpeed keeps in flat parts, in the form of one process.

Put together by DeepSpeed's own `safe_get_full_optimizer_state`, for whoever goes on without it.
"""

from __future__ import annotations

from typing import Any

import torch

_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


def whole_state(model: Any, optimizer: Any) -> dict[str, Any]:
    """Return the state as `torch.optim.Optimizer.state_dict` of one process would.

    ``optimizer`` is DeepSpeed's around torch's. Every process has to call it.
    """
    from deepspeed.utils import safe_get_full_optimizer_state  # noqa: PLC0415 - only with it

    inner = optimizer.optimizer
    flat = [entry for entry in inner.state.values() if entry]
    keys = [key for key in _MOMENTS if flat and isinstance(flat[0].get(key), torch.Tensor)]
    step = flat[0].get("step") if flat else None
    weights = [value for value in model.parameters() if value.requires_grad]
    state = {}
    for at, weight in enumerate(weights):
        entry = {key: safe_get_full_optimizer_state(weight, key).cpu() for key in keys}
        if step is not None:
            # One of its own for each weight: torch counts them up in place.
            entry = {"step": torch.as_tensor(step, dtype=torch.float32).cpu().clone(), **entry}
        state[at] = entry
    group = {key: value for key, value in inner.param_groups[0].items() if key != "params"}
    return {"state": state, "param_groups": [group | {"params": list(range(len(weights)))}]}
