"""A real terminal around a real process: what a person would see, as text."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pyte
import pytest

DEADLINE_S = 60


class Terminal:
    """A pseudo-terminal, its screen and what scrolled out of it; waits for facts, never sleeps."""

    def __init__(
        self, words: list[str], *, cwd: Path, columns: int = 80, rows: int = 24, **environment: str
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        self._size(columns, rows)
        plain = {
            name: value
            for name, value in os.environ.items()
            if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE"}
        }
        self.process = subprocess.Popen(
            words,
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=plain | {"TERM": "xterm-256color"} | environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """The screen, its lines without the blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def scrolled(self) -> list[str]:
        """What scrolled out at the top, then the screen."""
        width = self.screen.columns
        above = [
            "".join(line[column].data for column in range(width)).rstrip()
            for line in self.screen.history.top
        ]
        return above + self.lines

    def until(self, fact: Callable[[list[str]], bool]) -> list[str]:
        """Read what the process draws until a fact holds of the screen, and return that."""
        deadline = time.monotonic() + DEADLINE_S
        while not fact(self.lines):
            left_s = deadline - time.monotonic()
            if left_s < 0 or not self._read(left_s):
                pytest.fail("it never came to that; the screen:\n" + "\n".join(self.scrolled))
        return self.lines

    def until_shown(self, *texts: str) -> list[str]:
        """Read until each text stands in some line of the screen."""
        return self.until(lambda lines: all(any(text in line for line in lines) for text in texts))

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C: the terminal sends the signal."""
        self.type("\x03")

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size: the terminal tells the process by a signal."""
        self.screen.resize(rows, columns)
        self._size(columns, rows)

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(max(0.0, deadline - time.monotonic())):
            pass
        return self.process.wait(DEADLINE_S)

    def _size(self, columns: int, rows: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def _read(self, wait_s: float) -> bool:
        """Take what comes within a time; False when nothing did or the process has ended."""
        ready, _, _ = select.select([self._master], [], [], wait_s)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so that nobody holds the other end any more
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)


def sentinel(*arguments: object) -> list[str]:
    """The words of a command of ours."""
    return [sys.executable, "-m", "sentinel", *map(str, arguments)]


__all__ = ["DEADLINE_S", "Terminal", "sentinel"]
