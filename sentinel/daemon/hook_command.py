"""A command of the user's own, run as a list of words within a time, its last output kept."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from sentinel.daemon.hook_result import HookResult
from sentinel.daemon.process import TrainerProcess

OUTPUT_BYTES = 8192
"""How much of what a command says at the end is kept."""

_BLOCK_BYTES = 65_536
_GRACE_S = 2.0
_LAST_WORDS_S = 1.0


class CommandRun:
    """One run of a command. Make one with `start`, then `poll` until it tells what came of it."""

    def __init__(
        self,
        process: TrainerProcess,
        tail: _Tail,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._tail = tail
        self._timeout_s = timeout_s
        self._clock = clock
        self._until_s = clock() + timeout_s
        self._result: HookResult | None = None

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        mark: str,
        cwd: Path,
        env: Mapping[str, str],
        timeout_s: float,
    ) -> Self:
        """Start a command without a shell and without input; raises TrainerError.

        Its processes carry ``mark``, so that one that takes too long is ended with all it began.
        """
        read, write = os.pipe()
        tail = _Tail(os.fdopen(read, "rb", buffering=0))
        with os.fdopen(write, "wb") as output:
            process = TrainerProcess.start(argv, mark=mark, cwd=cwd, env=env, stdout=output)
        return cls(process, tail, timeout_s=timeout_s)

    def poll(self) -> HookResult | None:
        """Return what came of it, None while it runs; past its time it is ended."""
        if self._result is None:
            ended = self._process.poll()
            if ended is not None:
                # What it started may live on, as it should: a requeue may begin a training.
                self._result = self._ended(ended.code or 0)
            elif self._clock() > self._until_s:
                self._process.stop(_GRACE_S)
                fact = f"was still running after {self._timeout_s:g} s and was ended"
                self._result = HookResult.bad(fact, output=self._tail.text())
        return self._result

    def _ended(self, code: int) -> HookResult:
        output = self._tail.text()
        kept: dict[str, object] = {"exit_code": code, "output": output}
        if code == 0:
            return HookResult.good("ended with code 0", **kept)
        how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
        last = output.strip().rpartition("\n")[2].strip()
        return HookResult.bad(f"{how}, saying: {last}" if last else how, **kept)


class _Tail:
    """The last bytes of a stream, read to its end in a thread of its own."""

    def __init__(self, stream: BinaryIO) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._drain, args=(stream,), daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return what there is; a descendant that holds the stream open is not waited for."""
        self._thread.join(_LAST_WORDS_S)
        return self._kept.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")

    def _drain(self, stream: BinaryIO) -> None:
        with stream:
            while block := stream.read(_BLOCK_BYTES):
                self._kept = (self._kept + block)[-OUTPUT_BYTES:]
