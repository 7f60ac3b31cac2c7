"""The processes of one training, as `torchrun` or `accelerate launch` start them.

Each trains on its own part of every step's samples; what is said, and what is written once, is
the first one's. Who one is comes from the environment that both launchers set; whatever the
processes have to agree on goes through torch's process group, which accelerate begins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoints import staged
from .errors import RefusedError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all: ``rank`` of ``count``, ``local_rank`` on this machine."""

    rank: int = 0
    local_rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Tell whether this one speaks and writes for all."""
        return self.rank == 0

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Let only the first process print inside the block; errors are every one's."""
        if self.first:
            yield
            return
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            yield

    def take_device(self) -> None:
        """Make this process's GPU the current one, where there are any."""
        if self.count > 1:
            import torch  # noqa: PLC0415 - slow

            if torch.cuda.is_available():
                torch.cuda.set_device(self.local_rank)

    def largest(self, number: int) -> int:
        """Return the largest number that any process came with, once all have come."""
        if self.count == 1:
            return number
        import torch  # noqa: PLC0415 - slow
        from torch import distributed  # noqa: PLC0415

        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        value = torch.tensor(number, device=device)
        distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
        return int(value)

    def told(self, value: Any) -> Any:
        """Return what the first process came with."""
        if self.count == 1:
            return value
        from torch import distributed  # noqa: PLC0415 - slow

        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Do the block in every process or fail in every one; all wait at its end.

        Raises what the block raised here, else ChildProcessError when it failed elsewhere.
        """
        try:
            yield
        except Exception:
            self.largest(1)
            raise
        if self.largest(0):
            raise ChildProcessError(f"{what}: failed in another process, which says why")


def from_environment() -> Processes:
    """Return who this process is; the only one, unless a launcher says otherwise."""
    try:
        count = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    except ValueError as error:
        raise RefusedError("WORLD_SIZE, RANK, LOCAL_RANK", str(error), "unset them") from error
    return Processes(rank, local_rank, count)


@contextmanager
def staged_together(
    processes: Processes, output_dir: Path, step: int, finish: Callable[[Path], None]
) -> Iterator[Path]:
    """Yield one empty directory to all processes; it becomes `checkpoint-<step>` at the end.

    When every process has filled it well, the first one calls ``finish`` on it and gives it its
    name; if any fails, none of it stays. All of them have to see ``output_dir``.
    """
    what = f"checkpoint-{step}"
    with ExitStack() as stack:
        directory = Path()
        with processes.together(what):
            if processes.first:
                directory = stack.enter_context(staged(output_dir, step))
        directory = Path(processes.told(str(directory)))
        with processes.together(what):
            yield directory
        with processes.together(what):
            if processes.first:
                finish(directory)
                stack.close()


def check_shared(processes: Processes, output_dir: Path) -> None:
    """Make the output directory, and refuse one that some process does not see."""
    if processes.first:
        output_dir.mkdir(parents=True, exist_ok=True)
    processes.largest(0)
    if processes.largest(0 if output_dir.is_dir() else 1):
        fact = f"not all of the {processes.count} processes see it"
        raise RefusedError(f"output_dir '{output_dir}'", fact, "give one on a shared file system")
