"""Putting the daemon's parts together for one state directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from sentinel.checkpoint import Base
from sentinel.config import Config
from sentinel.daemon.arrivals import Arrivals
from sentinel.daemon.attending import Attending, InterruptibleReader
from sentinel.daemon.beginning import Beginning
from sentinel.daemon.compacting import compacting
from sentinel.daemon.doing import run_does, watch_does
from sentinel.daemon.guarding import guarding_directory, guarding_run, is_guarded
from sentinel.daemon.hanging import WatchedHanging
from sentinel.daemon.hooks import Hooks
from sentinel.daemon.journal import Journal
from sentinel.daemon.launching import Launcher
from sentinel.daemon.observing import observing
from sentinel.daemon.parts import (
    fresh_roots,
    hanging_of,
    inspector_of,
    nobody,
    pin_settings,
    planner_of,
    reader_of,
    unheard,
)
from sentinel.daemon.pin_offers import pinning
from sentinel.daemon.pinned import Pinned
from sentinel.daemon.places import once_each, places_of, refuse_state_below
from sentinel.daemon.preflighting import Preflight
from sentinel.daemon.proving import Prover
from sentinel.daemon.quarantining import Quarantiner
from sentinel.daemon.repairing import Repairer
from sentinel.daemon.runs import SupervisedRuns, WatchedRuns, runs_below
from sentinel.daemon.supervise import RunSettings, Supervisor
from sentinel.daemon.telling import Listener, Teller
from sentinel.daemon.watch import Beside, Watch
from sentinel.daemon.watch import Listener as OutcomeListener
from sentinel.health.log import HealthLog
from sentinel.repairs.pins import PinStore
from sentinel.rules.rule import Rule


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
        inspector = inspector_of(
            journal,
            config=config,
            rules=rules,
            reader=reader_of(stack, config),
            runs=WatchedRuns(
                journal, is_guarded=partial(is_guarded, places.state), on_note=on_note
            ),
            base=base,
            on_note=on_note,
        )
        observed = stack.enter_context(
            observing(
                config,
                journal,
                runs=tuple(runs_below(plain, journal)),
                queue=lambda: inspector.pending,
                does=watch_does(config),
                on_note=on_note,
            )
        )
        listener, on_event = observed.heard(listener), observed.told(on_event)
        arrivals = stack.enter_context(Arrivals(plain, on_note=on_note))
        log = HealthLog(places.log)
        merging = stack.enter_context(compacting(log, runs_below(plain, journal), on_note=on_note))

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
        for run_id in runs_below(plain, journal) if wanted else ():
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
                    pin_settings(config),
                    journal=journal,
                    teller_of=lambda run_id: Teller(log, run_id, nobody, on_note=on_note),
                    on_note=on_note,
                )
            )
            for run_id in runs_below(plain, journal):
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
        watched = once_each((*settings.roots, *fresh_roots(settings)))
        runs = SupervisedRuns(run_id, settings.roots[0], before=journal.attempts(run_id))
        log = HealthLog(places.log)
        merging = stack.enter_context(compacting(log, [run_id], on_note=on_note))
        reader = InterruptibleReader(reader_of(stack, config))
        inspector = inspector_of(
            journal,
            config=config,
            rules=rules,
            runs=runs,
            reader=reader,
            base=base,
            on_note=on_note,
        )
        observed = stack.enter_context(
            observing(
                config,
                journal,
                runs=(run_id,),
                queue=lambda: inspector.pending,
                does=run_does(settings),
                on_note=on_note,
            )
        )
        listener = observed.told(unheard(listener))
        on_judged = merging.heard(observed.heard(unheard(on_judged)))
        teller = Teller(log, run_id, listener, on_note=on_note)
        store, pins = PinStore(places.pins), None
        if config.pin is not False:
            pins = stack.enter_context(
                pinning(
                    store,
                    pin_settings(config),
                    journal=journal,
                    teller_of=lambda _: teller,
                    on_note=on_note,
                )
            )
            pins.begin(run_id)
            on_judged = pins.heard(on_judged)
        attending = Attending(
            watched,
            inspector=inspector,
            reader=reader,
            arrivals=stack.enter_context(Arrivals(watched, on_note=on_note)),
            on_judged=on_judged,
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
            planner=planner_of(settings),
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
            hanging=hanging_of(settings, config, watched, teller),
            teller=teller,
            on_note=on_note,
        )
        if pins is not None:
            pins.end(run_id)
