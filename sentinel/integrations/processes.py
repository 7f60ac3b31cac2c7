"""Several processes train together, one judges, and all hear what it says.

torch.distributed is taken from where the host has imported it: without that there is no process
group, and this process is the only one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def is_first() -> bool:
    """Tell whether this process is the one that judges: rank 0, or the only one."""
    distributed = _group()
    return distributed is None or distributed.get_rank() == 0


def told_by_first(decide: Callable[[], bool]) -> bool:
    """Return on every process what ``decide`` returns on the first.

    Every process of the training must call this at the same point. They wait for each other
    first: a save is whole when the last of them has written its share. Then they wait for the
    first, at most as long as the process group's timeout (30 minutes by Transformers).
    """
    distributed = _group()
    if distributed is None:
        return decide()
    distributed.barrier()
    answer = [decide() if distributed.get_rank() == 0 else False]
    distributed.broadcast_object_list(answer, src=0)
    return answer[0]


def _group() -> Any:
    """Return torch.distributed where several processes have met, else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed if distributed.get_world_size() > 1 else None
