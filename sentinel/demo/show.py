"""The main job on a real training run: train, watch, catch, resume, log.

Nothing is planted: the recipes train real LoRA adapters on real text, in settings that go wrong
by themselves (or, with ``healthy``, in their healthy twins), and what is told is what happened.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.config import Config
from sentinel.daemon.assemble import supervising
from sentinel.daemon.inspector import Outcome
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.daemon.places import places_of
from sentinel.daemon.supervise import RunSettings
from sentinel.demo.scenes import Scene, base_command, recipe_directory, scenes
from sentinel.demo.stage import Stage
from sentinel.errors import TrainerError
from sentinel.health.rows import EventRow
from sentinel.repairs.invocation import recognise
from sentinel.repairs.recipes import load_recipes
from sentinel.reports.repeats import Repeats
from sentinel.reports.timeline import line_for
from sentinel.rules.load import load_rules

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class SceneEnd:
    """What became of a scene: every attempt, every judged checkpoint, and the exit code."""

    scene: Scene
    code: int
    attempts: tuple[Attempt, ...]
    judged: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class DemoEnd:
    """What became of the demo, and how long it took."""

    scenes: tuple[SceneEnd, ...]
    took_s: float


def demo_config(workspace: Path) -> Config:
    """Return the settings of the demo: sentinel's defaults, with its state in the workspace."""
    return Config(state=workspace / "state", backoff_s=0.5)


def run_demo(
    workspace: Path, console: Console, *, healthy: bool, only: Sequence[str] = ()
) -> DemoEnd:
    """Play the scenes in ``workspace``, which must not exist yet; ``only`` names some of them.

    Raises TrainerError when the bundled trainer cannot be run.
    """
    started_s = time.monotonic()
    played = [s for s in scenes(workspace, healthy=healthy) if not only or s.name in only]
    workspace.mkdir(parents=True)
    stage = Stage(console)
    with stage.live:
        _make_base(workspace, stage)
        ends = tuple(_play(scene, workspace, stage) for scene in played)
    return DemoEnd(ends, time.monotonic() - started_s)


def _make_base(workspace: Path, stage: Stage) -> None:
    stage.doing("pre-training a tiny base model on the Python standard library")
    started_s = time.monotonic()
    log = workspace / "base.log"
    with log.open("wb") as output:
        done = subprocess.run(  # noqa: S603 - our own trainer
            base_command(workspace / "base"),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode != 0:
        raise TrainerError(
            "demo",
            where=f"in '{workspace}'",
            fact=f"the base model could not be trained (exit code {done.returncode})",
            todo=f"see '{log}'",
        )
    stage.tell(f"base model pre-trained in {time.monotonic() - started_s:.0f} s")


def _play(scene: Scene, workspace: Path, stage: Stage) -> SceneEnd:
    stage.tell("")
    stage.tell(f"[bold]{scene.title}[/bold]")
    stage.doing("starting the trainer", scene)
    config = demo_config(workspace)

    repeats = Repeats()

    def told(event: EventRow) -> None:
        stage.tell(line_for(_readable(event, workspace)))
        if event.kind == "attempt":
            stage.doing(f"training, attempt {event.attempt}", scene)

    def judged(outcome: Outcome) -> None:
        row = repeats.shorten(outcome.row, outcome.judgement.verdict)
        stage.tell_checkpoint(row, workspace)

    settings = RunSettings(
        command=scene.command,
        cwd=workspace,
        roots=(scene.output,),
        recipe=recognise(scene.command, load_recipes(), workspace),
        backoff_s=config.backoff_s,
        output=workspace / f"{scene.name}.log",
    )
    with supervising(
        settings,
        config=config,
        rules=load_rules(),
        base=None,
        listener=told,
        on_judged=judged,
        on_note=stage.tell,
    ) as supervisor:
        code = supervisor.run()
    journal = Journal(places_of(config).journal)
    run_id = journal.bind_run((scene.output,))
    end = SceneEnd(scene, code, journal.attempts(run_id), journal.judged(run_id))
    journal.close()
    return end


def _readable(event: EventRow, workspace: Path) -> EventRow:
    """Leave out of a sentence what stands in every path of the demo."""
    message = event.message.replace(f"{workspace}{os.sep}", "")
    message = message.replace(f"{sys.executable} -m sentinel_trainer.main", "sentinel-train")
    return replace(event, message=message.replace(f"{recipe_directory()}{os.sep}", ""))
