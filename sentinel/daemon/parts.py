"""The daemon's parts one by one, each as the configuration asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from sentinel.checkpoint import Base
from sentinel.config import Config
from sentinel.daemon.hanging import Hanging, outputs_of
from sentinel.daemon.inspector import Inspector, Reader, Runs
from sentinel.daemon.journal import Journal
from sentinel.daemon.pinning import PinSettings
from sentinel.daemon.places import places_of
from sentinel.daemon.planning import Planner
from sentinel.daemon.progress import Progress
from sentinel.daemon.settle import Settling
from sentinel.daemon.supervise import RunSettings
from sentinel.daemon.telling import Teller
from sentinel.engines.isolated import IsolatedWorker
from sentinel.errors import WorkerDiedError
from sentinel.health.log import HealthLog
from sentinel.priority import Priority
from sentinel.repairs.asking import fresh_root
from sentinel.rules.baseline import read_baseline
from sentinel.rules.rule import Rule

Told = TypeVar("Told")

_READING = "sentinel.inspecting"


def pin_settings(config: Config) -> PinSettings:
    """Return what the configuration says of pins."""
    return PinSettings(budget_bytes=config.pin_budget, count=config.pin_count)


def nobody(_event: object) -> None:
    """Listen to events that are only written down."""


def hanging_of(
    settings: RunSettings, config: Config, watched: Sequence[Path], teller: Teller
) -> Hanging:
    """Return what looks for hangs of a supervised run."""
    progress = None
    if config.hang_after_s is not None:
        outputs = outputs_of(settings.output)
        progress = Progress(config.hang_after_s, watched, outputs=outputs)
    then = {"auto": "it is started again", "stop": "it is stopped"}.get(settings.policy)
    return Hanging(progress, teller, then=then if config.hang == "restart" else None)


def reader_of(stack: ExitStack, config: Config) -> IsolatedWorker:
    """Start the process that reads: ready when the first checkpoint comes, and giving way."""
    priority = Priority(config.nice, config.ionice)
    worker = stack.enter_context(IsolatedWorker(priority=priority, imports=(_READING,)))
    with suppress(WorkerDiedError):  # the first checkpoint tells
        worker.start()
    return worker


def inspector_of(
    journal: Journal,
    *,
    config: Config,
    rules: Sequence[Rule],
    runs: Runs,
    reader: Reader,
    base: Base | None,
    on_note: Callable[[str], None],
) -> Inspector:
    """Return what judges, as the configuration says."""
    return Inspector(
        journal=journal,
        log=HealthLog(places_of(config).log),
        rules=rules,
        runs=runs,
        settling=Settling(settle_s=config.settle_s, torn_after_s=config.torn_after_s),
        reader=reader,
        base=base,
        baseline=read_baseline(config.baseline) if config.baseline else None,
        bytes_per_s=config.max_read_rate,
        on_note=on_note,
        hold_s=2 * config.torn_after_s,
    )


def fresh_roots(settings: RunSettings) -> tuple[Path, ...]:
    """Return where the run goes on when its trainer is given fresh directories."""
    if settings.recipe is None or settings.recipe.resume.into == "same":
        return ()
    return (fresh_root(settings.asked.output or settings.roots[0]),)


def planner_of(settings: RunSettings) -> Planner | None:
    """Return what plans a repair, None where no recipe knows the trainer."""
    if settings.recipe is None:
        return None
    return Planner(settings.recipe, settings.command, settings.cwd, settings.roots, settings.asked)


def unheard(listener: Callable[[Told], None]) -> Callable[[Told], None]:
    """Go on guarding the trainer when the terminal that was told about it is gone."""

    def tell(told: Told) -> None:
        with suppress(OSError):
            listener(told)

    return tell
