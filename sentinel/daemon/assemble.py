"""Putting the daemon's parts together for one state directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from sentinel.checkpoint import Base
from sentinel.config import Config
from sentinel.daemon.arrivals import Arrivals
from sentinel.daemon.attending import Attending, InterruptibleReader
from sentinel.daemon.beginning import Beginning
from sentinel.daemon.compacting import compacting
from sentinel.daemon.guarding import guarding_directory, guarding_run, is_guarded
from sentinel.daemon.hanging import Hanging, WatchedHanging, outputs_of
from sentinel.daemon.hooks import Hooks
from sentinel.daemon.inspector import Inspector, Reader, Runs
from sentinel.daemon.journal import Journal
from sentinel.daemon.launching import Launcher
from sentinel.daemon.pin_offers import pinning
from sentinel.daemon.pinned import Pinned
from sentinel.daemon.pinning import PinSettings
from sentinel.daemon.places import once_each, places_of, refuse_state_below
from sentinel.daemon.planning import Planner
from sentinel.daemon.preflighting import Preflight
from sentinel.daemon.progress import Progress
from sentinel.daemon.proving import Prover
from sentinel.daemon.quarantining import Quarantiner
from sentinel.daemon.repairing import Repairer
from sentinel.daemon.runs import SupervisedRuns, WatchedRuns
from sentinel.daemon.settle import Settling
from sentinel.daemon.supervise import RunSettings, Supervisor
from sentinel.daemon.telling import Listener, Teller
from sentinel.daemon.watch import Beside, Watch
from sentinel.daemon.watch import Listener as OutcomeListener
from sentinel.engines.isolated import IsolatedWorker
from sentinel.errors import WorkerDiedError
from sentinel.health.log import HealthLog
from sentinel.priority import Priority
from sentinel.repairs.asking import fresh_root
from sentinel.repairs.pins import PinStore
from sentinel.rules.baseline import read_baseline
from sentinel.rules.schema import Rule

Told = TypeVar("Told")

_READING = "sentinel.inspecting"


@contextmanager
def watching(
    roots: Sequence[Path],
    *,
    config: Config,
    rules: Sequence[Rule],
    base: Base | None,
    listener: OutcomeListener,
    on_event: Listener,
    on_note: Callable[[str], None],
) -> Iterator[Watch]:
    """Open all that `sentinel watch` needs, and close it again.

    ``on_event`` hears what hooks did.
    """
    places = places_of(config)
    plain = once_each(roots)
    refuse_state_below(plain, places)
    with ExitStack() as stack:
        for root in plain:
            stack.enter_context(guarding_directory(places.state, root))
        journal = Journal(places.journal)
        stack.callback(journal.close)
        inspector = _inspector(
            journal,
            config=config,
            rules=rules,
            reader=_reader(stack, config),
            runs=WatchedRuns(
                journal, is_guarded=partial(is_guarded, places.state), on_note=on_note
            ),
            base=base,
            on_note=on_note,
        )
        arrivals = stack.enter_context(Arrivals(plain, on_note=on_note))
        log = HealthLog(places.log)
        merging = stack.enter_context(compacting(log, _runs_below(plain, journal), on_note=on_note))

        def teller_of(run_id: str) -> Teller:
            return Teller(log, run_id, on_event, on_note=on_note)

        wanted = () if config.policy == "report" else config.hooks
        hooks = Hooks(
            wanted,
            act_on=frozenset(config.act_on),
            journal=journal,
            teller_of=teller_of,
            on_note=on_note,
            cwd=Path.cwd(),
        )
        for run_id in _runs_below(plain, journal) if wanted else ():
            if not is_guarded(places.state, run_id):
                hooks.begin(run_id)
        listener = hooks.heard(listener)
        beside: list[Beside] = [hooks]
        if config.hang_after_s is not None:
            silences = WatchedHanging(config.hang_after_s, teller_of)
            listener = silences.heard(listener)
            beside.append(silences)
        pins = None
        if config.pin:
            pins = stack.enter_context(
                pinning(
                    PinStore(places.pins),
                    _pin_settings(config),
                    journal=journal,
                    teller_of=lambda run_id: Teller(log, run_id, _nobody, on_note=on_note),
                    on_note=on_note,
                )
            )
            for run_id in _runs_below(plain, journal):
                if not is_guarded(places.state, run_id):
                    pins.begin(run_id)
        yield Watch(
            plain,
            inspector=inspector,
            arrivals=arrivals,
            listener=merging.heard(listener if pins is None else pins.heard(listener)),
            verdict_timeout_s=config.verdict_timeout_s,
            at_rest=(merging.finish,) if pins is None else (pins.finish, merging.finish),
            beside=beside,
        )


@contextmanager
def supervising(
    settings: RunSettings,
    *,
    config: Config,
    rules: Sequence[Rule],
    base: Base | None,
    listener: Listener,
    on_judged: OutcomeListener,
    on_note: Callable[[str], None],
) -> Iterator[Supervisor]:
    """Open all that `sentinel run` needs, and close it again."""
    places = places_of(config)
    settings = replace(settings, roots=once_each(settings.roots))
    refuse_state_below(settings.roots, places)
    with ExitStack() as stack:
        for root in settings.roots:
            stack.enter_context(guarding_directory(places.state, root))
        journal = Journal(places.journal)
        stack.callback(journal.close)
        run_id = journal.bind_run(settings.roots)
        stack.enter_context(guarding_run(places.state, run_id))
        if settings.told:
            journal.remember_command(run_id, settings.told)
        watched = once_each((*settings.roots, *_fresh_roots(settings)))
        runs = SupervisedRuns(run_id, settings.roots[0], before=journal.attempts(run_id))
        log = HealthLog(places.log)
        teller = Teller(log, run_id, _unheard(listener), on_note=on_note)
        merging = stack.enter_context(compacting(log, [run_id], on_note=on_note))
        store, pins = PinStore(places.pins), None
        if config.pin is not False:
            pins = stack.enter_context(
                pinning(
                    store,
                    _pin_settings(config),
                    journal=journal,
                    teller_of=lambda _: teller,
                    on_note=on_note,
                )
            )
            pins.begin(run_id)
            on_judged = pins.heard(on_judged)
        reader = InterruptibleReader(_reader(stack, config))
        attending = Attending(
            watched,
            inspector=_inspector(
                journal,
                config=config,
                rules=rules,
                runs=runs,
                reader=reader,
                base=base,
                on_note=on_note,
            ),
            reader=reader,
            arrivals=stack.enter_context(Arrivals(watched, on_note=on_note)),
            on_judged=merging.heard(_unheard(on_judged)),
        )
        quarantiner = Quarantiner(
            run_id=run_id,
            roots=watched,
            journal=journal,
            teller=teller,
            shared=settings.recipe.resume.shared if settings.recipe else "",
        )
        repairer = Repairer(
            run_id=run_id,
            journal=journal,
            teller=teller,
            planner=_planner(settings),
            act_on=settings.act_on,
            max_attempts=settings.max_attempts,
            pinned=Pinned(store, teller),
        )
        launcher = Launcher(settings, journal, copies=places.state / "starts")
        beginning = Beginning(
            settings,
            run_id=run_id,
            runs=runs,
            journal=journal,
            launcher=launcher,
            attending=attending,
            repairer=repairer,
            quarantiner=quarantiner,
            preflight=Preflight(
                settings,
                rules=rules,
                base=base.path if base else None,
                teller=teller,
                on_note=on_note,
            ),
            teller=teller,
            on_note=on_note,
        )
        yield Supervisor(
            settings,
            run_id=run_id,
            runs=runs,
            journal=journal,
            launcher=launcher,
            attending=attending,
            repairer=repairer,
            quarantiner=quarantiner,
            beginning=beginning,
            prover=Prover(run_id=run_id, journal=journal, teller=teller, recipe=settings.recipe),
            hanging=_hanging(settings, config, watched, teller),
            teller=teller,
            on_note=on_note,
        )
        if pins is not None:
            pins.end(run_id)


def _pin_settings(config: Config) -> PinSettings:
    return PinSettings(budget_bytes=config.pin_budget, count=config.pin_count)


def _runs_below(roots: Sequence[Path], journal: Journal) -> Iterator[str]:
    """Yield the known runs whose checkpoints lie below one of the directories."""
    real = [Path(os.path.realpath(root)) for root in roots]
    for run_id, places in journal.runs().items():
        if any(place.is_relative_to(root) for place in places for root in real):
            yield run_id


def _nobody(_event: object) -> None:
    """Listen to events that are only written down."""


def _hanging(
    settings: RunSettings, config: Config, watched: Sequence[Path], teller: Teller
) -> Hanging:
    progress = None
    if config.hang_after_s is not None:
        outputs = outputs_of(settings.output)
        progress = Progress(config.hang_after_s, watched, outputs=outputs)
    then = {"auto": "it is started again", "stop": "it is stopped"}.get(settings.policy)
    return Hanging(progress, teller, then=then if config.hang == "restart" else None)


def _reader(stack: ExitStack, config: Config) -> IsolatedWorker:
    """Start the process that reads: ready when the first checkpoint comes, and giving way."""
    priority = Priority(config.nice, config.ionice)
    worker = stack.enter_context(IsolatedWorker(priority=priority, imports=(_READING,)))
    with suppress(WorkerDiedError):  # the first checkpoint tells
        worker.start()
    return worker


def _inspector(
    journal: Journal,
    *,
    config: Config,
    rules: Sequence[Rule],
    runs: Runs,
    reader: Reader,
    base: Base | None,
    on_note: Callable[[str], None],
) -> Inspector:
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


def _fresh_roots(settings: RunSettings) -> tuple[Path, ...]:
    """Return where the run goes on when its trainer is given fresh directories."""
    if settings.recipe is None or settings.recipe.resume.into == "same":
        return ()
    return (fresh_root(settings.asked.output or settings.roots[0]),)


def _planner(settings: RunSettings) -> Planner | None:
    if settings.recipe is None:
        return None
    return Planner(settings.recipe, settings.command, settings.cwd, settings.roots, settings.asked)


def _unheard(listener: Callable[[Told], None]) -> Callable[[Told], None]:
    """Go on guarding the trainer when the terminal that was told about it is gone."""

    def tell(told: Told) -> None:
        with suppress(OSError):
            listener(told)

    return tell
