"""A checkpoint's tensors written into the health log while the rules are asked about them.

Most of that is waiting for the disk, and the rules need none. The checkpoint's own row, without
which its tensors are not in the log, comes after the verdict all the same.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.errors import SentinelError

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.health.log import HealthLog


@dataclass(slots=True)
class _Writing:
    checkpoint_id: str
    tensors: pa.Table
    done: bool = False


class RowsAhead:
    """One checkpoint's tensors at a time, on their way into one health log."""

    def __init__(self, log: HealthLog) -> None:
        self._log = log
        self._begun: tuple[_Writing, threading.Thread] | None = None
        self._pays = True

    def begin(self, run_id: str, checkpoint_id: str, tensors: pa.Table) -> None:
        """Begin to write the tensors of a checkpoint that is about to be judged.

        Nothing is begun after a verdict that changed them (the norms of a base do): they had to
        be written twice.
        """
        self._end()
        if not tensors.num_rows or not self._pays:
            return
        writing = _Writing(checkpoint_id, tensors)
        thread = threading.Thread(target=self._write, args=(run_id, writing), name="sentinel-rows")
        self._begun = writing, thread
        thread.start()

    def are_written(self, checkpoint_id: str, tensors: pa.Table | None) -> bool:
        """Tell whether just these tensors of a checkpoint lie in the log by now, as a whole."""
        writing = self._end()
        if writing is None or writing.checkpoint_id != checkpoint_id or tensors is None:
            return False
        self._pays = tensors.equals(writing.tensors)
        return self._pays and writing.done

    def _write(self, run_id: str, writing: _Writing) -> None:
        # What the disk refuses now is written with the verdict, which tells why it cannot be.
        with suppress(OSError, SentinelError):
            self._log.append_tensors(run_id, writing.checkpoint_id, writing.tensors)
            writing.done = True

    def _end(self) -> _Writing | None:
        if self._begun is None:
            return None
        writing, thread = self._begun
        self._begun = None
        thread.join()
        return writing
