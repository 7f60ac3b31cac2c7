"""A real `sentinel watch` in a process of its own, and what it takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOOK_S = 0.01
_PATIENCE_S = 120.0


@dataclass(slots=True)
class Watch:
    """The command that watches ``out``; its state lies beside."""

    process: psutil.Process
    out: Path
    state: Path

    def cpu_s(self) -> float:
        """Return the processor time of it and its children so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self._all())

    def memory(self) -> tuple[int, int]:
        """Return the resident bytes of it and its children: all, and those of no file."""
        every = [_status(one) for one in self._all()]
        return sum(one["VmRSS"] for one in every), sum(one["RssAnon"] for one in every)

    def rows_at_ns(self, count: int) -> int:
        """Wait for the log to hold ``count`` checkpoints; return when the last got its name."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            parts = list((self.state / "health" / "checkpoints").rglob("*.parquet"))
            if len(parts) >= count:
                return max(part.stat().st_ctime_ns for part in parts)
            if time.monotonic() > deadline:
                message = f"no verdict in {_PATIENCE_S:g} s"
                raise TimeoutError(message)
            time.sleep(_LOOK_S)

    def at_rest(self) -> None:
        """Wait until it uses no processor any more."""
        before = -1.0
        while (now := self.cpu_s()) > before:
            before = now
            time.sleep(1.0)

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def watching(place: Path, name: str, words: Sequence[str] = ()) -> Iterator[Watch]:
    """Watch a fresh directory below ``place`` while the block lasts."""
    out, state = place / name / "out", place / name / "state"
    out.mkdir(parents=True)
    with (place / name / "said.txt").open("wb") as said:
        command = [sys.executable, "-m", "sentinel", "watch", str(out), "--state", str(state)]
        process = subprocess.Popen([*command, *words], stdout=said, stderr=said)
        watch = Watch(psutil.Process(process.pid), out, state)
        try:
            watch.at_rest()
            yield watch
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait(60)


def _status(process: psutil.Process) -> dict[str, int]:
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    pairs = (line.split(":", 1) for line in text.splitlines())
    return {name: 1024 * int(value.split()[0]) for name, value in pairs if value.endswith("kB")}
