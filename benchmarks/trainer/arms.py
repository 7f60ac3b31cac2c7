"""The ways a training is run here: by sentinel-train, with `sentinel watch` beside it, by TRL."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from measured import Measured, measure
from recipe import recipe

Arm = Callable[[], Measured]


class Arms:
    """Make arms; each run of one gets a directory of its own in ``place``."""

    def __init__(self, options: argparse.Namespace, place: Path, *, on_gpu: bool) -> None:
        self.options = options
        self.place = place
        self.on_gpu = on_gpu
        self.runs = 0
        self.judged: list[int] = []
        """Checkpoints that were judged while a watched training ran."""

    def sentinel_train(self, *, save_every: int | None = None, watched: bool = False) -> Arm:
        """Return a training by sentinel-train; without ``save_every`` only the end is saved."""
        every = save_every or self.options.steps
        file = self._recipe(every)

        def run() -> Measured:
            out = self._out()
            place = ("--set", f"output_dir={out}")
            command = (sys.executable, "-m", "sentinel_trainer.main", str(file), *place)
            if not watched:
                return self._measure(command, out)
            with _watching(out) as told:
                taken = self._measure(command, out)
                self.judged.append(
                    told.read_text(encoding="utf-8").count(f"{out.name}/checkpoint-")
                )
            return taken

        return run

    def trl(self, python: str, loss: str) -> Arm:
        """Return a training by TRL's SFTTrainer, which saves nothing."""
        file, script = self._recipe(self.options.steps), Path(__file__).with_name("with_trl.py")

        def run() -> Measured:
            out = self._out()
            return self._measure((python, str(script), str(file), str(out), loss), out)

        return run

    def _measure(self, command: Sequence[str], out: Path) -> Measured:
        given = self.options
        return measure(command, out, warm=given.warm, threads=given.threads, on_gpu=self.on_gpu)

    def _out(self) -> Path:
        self.runs += 1
        return self.place / f"run-{self.runs}"

    def _recipe(self, save_every: int) -> Path:
        """Write the recipe as JSON, which is YAML too."""
        file = self.place / f"save-{save_every}.json"
        content = recipe(self.options, self.place, save_every=save_every)
        file.write_text(json.dumps(content), encoding="utf-8")
        return file


def in_turn(arms: Mapping[str, Arm], rounds: int) -> dict[str, list[Measured]]:
    """Run every arm once a round, the order moved on by one each time."""
    names, found = list(arms), {name: [] for name in arms}
    for at in range(rounds):
        shift = at % len(names)
        for name in (*names[shift:], *names[:shift]):
            found[name].append(arms[name]())
            took = found[name][-1]
            print(f"  {name}: {took.tokens_per_s:,.0f} tokens/s", file=sys.stderr, flush=True)
    return found


@contextmanager
def _watching(out: Path) -> Iterator[Path]:
    """Keep `sentinel watch` beside a training; yield the file that its lines go to."""
    state = out.with_suffix(".state")
    told = out.with_suffix(".watch.log")
    with told.open("wb") as log:
        watch = subprocess.Popen(
            [sys.executable, "-m", "sentinel", "watch", str(out), "--state", str(state)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "200"},
        )
        try:
            yield told
        finally:
            watch.terminate()
            watch.wait(timeout=60)
