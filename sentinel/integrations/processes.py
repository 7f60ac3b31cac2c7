"""Several processes train together, one judges, and all hear what it says."""

from __future__ import annotations

from collections.abc import Callable


def is_first() -> bool:
    """Tell whether this process is the one that judges: rank 0, or the only one."""
    from torch import distributed  # noqa: PLC0415 - the host has imported it by now

    return not _together() or distributed.get_rank() == 0


def told_by_first(decide: Callable[[], bool]) -> bool:
    """Return on every process what ``decide`` returns on the first.

    Every process of the training must call this at the same point. They wait for each other
    first: a save is whole when the last of them has written its share. Each waits for the first
    at most as long as torch's process group lets it (30 minutes with gloo and Transformers).
    """
    from torch import distributed  # noqa: PLC0415 - the host has imported it by now

    if not _together():
        return decide()
    distributed.barrier()
    answer = [decide() if distributed.get_rank() == 0 else False]
    distributed.broadcast_object_list(answer, src=0)
    return answer[0]


def _together() -> bool:
    from torch import distributed  # noqa: PLC0415 - the host has imported it by now

    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )
