"""A workbench for tests that run the real command on a real (small) trainer."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO

import psutil
import pytest

from sentinel.daemon.journal import Journal
from sentinel.health.reading import RunLog, read_run

PROGRAMS = Path(__file__).parent / "programs"
RUN_TIMEOUT_S = 120


@dataclass(frozen=True)
class Bench:
    """One run's directory: the trainer's output, sentinel's state, and how to start both."""

    place: Path

    @property
    def out(self) -> Path:
        return self.place / "out"

    @property
    def state(self) -> Path:
        return self.place / "state"

    def trainer(self, *options: str) -> list[str]:
        """The command of the small trainer, writing to this bench."""
        return [sys.executable, str(PROGRAMS / "toy_trainer.py"), "--out", str(self.out), *options]

    def arguments(self, *options: str, trainer: list[str]) -> list[str]:
        """The arguments of `sentinel run` around a trainer."""
        recipe = PROGRAMS / "toy-recipe.yaml"
        return [
            *("run", "--state", str(self.state), "--recipe", str(recipe)),
            *("--config", str(self._config()), *options, "--", *trainer),
        ]

    def run(
        self, *arguments: str, kill_at: int = 0, when: str = "after", cwd: Path | None = None
    ) -> Ran:
        """Run the command to its end (or its death) in a process of its own.

        Its output goes to files: the end of a pipe would be waited for as long as a trainer that
        outlives a killed sentinel holds it, and one that hangs never lets go.
        """
        program = [sys.executable, str(PROGRAMS / "killed_at.py"), str(kill_at), when]
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            done = subprocess.run(
                [*program, *arguments],
                stdout=out,
                stderr=err,
                timeout=RUN_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                env=dict(os.environ, COLUMNS="200"),
                cwd=cwd or self.place,
                check=False,
            )
            return Ran(done.returncode, _read(out), _read(err))

    def run_plain(self, command: list[str]) -> None:
        """Run a trainer without sentinel."""
        subprocess.run(command, check=True, timeout=RUN_TIMEOUT_S)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "sentinel", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.place,
        )

    @property
    def run_id(self) -> str:
        (run_id,) = self.journal().runs()
        return run_id

    def journal(self) -> Journal:
        return Journal(self.state / "journal.sqlite")

    def log(self) -> RunLog:
        """What the health log holds of the one run there is."""
        return read_run(self.state / "health", self.run_id)

    def steps(self) -> list[int]:
        """The steps of the checkpoints that lie in the output now."""
        return sorted(int(path.name.split("-")[1]) for path in self.out.glob("checkpoint-*"))

    def quarantined(self) -> list[str]:
        place = self.place / ".sentinel-quarantine"
        return sorted(path.name for path in place.glob("*/checkpoint-*"))

    def living_trainers(self) -> list[int]:
        """The pids of this bench's trainers that are alive."""
        try:
            pids = {int(line) for line in (self.place / "pids").read_text().split()}
        except OSError:
            return []
        living = (pid for pid in pids if psutil.pid_exists(pid))
        return [pid for pid in living if "toy_trainer.py" in " ".join(_cmdline(pid))]

    def _config(self) -> Path:
        path = self.place / "sentinel.yaml"
        path.write_text("backoff_s: 0.05\ngrace_s: 1.0\n", encoding="utf-8")
        return path


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def commits(self) -> int:
        """How often it wrote to its journal (only told by an undisturbed run)."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("commits: ")]
        return int(line.split()[1])


def _read(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


def _cmdline(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    place = tmp_path / "bench"
    place.mkdir()
    return Bench(place)
