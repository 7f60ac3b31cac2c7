"""From findings to a plan: which checkpoint to begin from, in which precision, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from sentinel.formats.settings import Setting
from sentinel.machine.device import Device
from sentinel.repairs.precision import choose_precision
from sentinel.repairs.recipes import ONE_FILE, Precision, Recipe
from sentinel.repairs.wishes import Settings, settle, shown
from sentinel.verdict import Finding, Level

START = "start"
"""The name of the beginning of the run as a place to resume from."""


@dataclass(frozen=True, slots=True)
class Start:
    """A place a resume could begin from: a checkpoint of the lineage.

    ``good`` says that it may be a target: settled, and no critical content finding in what the
    resume will load. ``doubts`` names rules that found signs of the fault in its content: a
    finite checkpoint from a diverging run carries the damage on (a run resumed from the last
    finite one, with weights 200 times too large, never came back; the one before them did).
    ``spoilt`` names those that call the weights themselves spoilt, so that none begins there while
    there is another way. ``stale_state`` says that a finding asks to drop its optimizer state:
    with second moments that vanished in fp16 a kept state let the loss jump from 2.9 to 4.7 in a
    run that was measured.
    """

    checkpoint_id: str
    path: Path
    step: int | None
    level: Level
    good: bool
    doubts: tuple[str, ...] = ()
    spoilt: tuple[str, ...] = ()
    stale_state: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How the training is started again. ``target`` is None when it begins at step 0.

    ``precision`` is that of what is trained, ``compute`` that of the forward pass, None where it
    stays; ``settings`` are further ones by name. They hold what earlier repairs of the run
    changed too, since each start is composed from the user's own command. ``output`` is the fresh
    directory it goes on in, None for its own, ``copy`` the copy of the target in it; ``number``
    tells the starts of a run apart.
    """

    rules: tuple[str, ...]
    target: str | None
    target_path: str | None
    target_step: int | None
    precision: Precision | None
    optimizer: Literal["keep", "drop"]
    reason: str
    steps_lost: int | None
    compute: Precision | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    output: str | None = None
    copy: str | None = None
    number: int = 0

    def as_detail(self) -> dict[str, object]:
        """Return the plan as JSON-ready values for the journal and the event log."""
        detail = {item.name: getattr(self, item.name) for item in fields(self)}
        return detail | {"rules": list(self.rules), "settings": dict(self.settings)}

    @classmethod
    def from_detail(cls, detail: Mapping[str, object]) -> Plan:
        """Return the plan that `as_detail` wrote, or that a version before this one did."""
        values = dict(detail)
        values["rules"] = tuple(_list(values.get("rules")))
        return cls(**values)  # type: ignore[arg-type]  # written by as_detail above


@dataclass(frozen=True, slots=True)
class Now:
    """What the run has now: precision of what is trained and of the forward pass, settings.

    ``before`` is the plan that began the attempt, None for the user's own start; ``begun`` says
    that there was one, and that something may be lost by beginning anew.
    """

    precision: Precision | None = None
    compute: Precision | None = None
    settings: Settings = field(default_factory=dict)
    before: Plan | None = None
    begun: bool = True


def make_plan(
    findings: Sequence[Finding],
    *,
    starts: Sequence[Start],
    failures: Mapping[str, int],
    faulty_step: int | None,
    now: Now,
    device: Device,
    recipe: Recipe,
    failures_to_poison: int = 2,
) -> Plan | None:
    """Return how to go on after these critical findings, None when no way is left.

    Findings are weighed in this order: the place (the newest good checkpoint), the precision
    (fp32 before bf16), each setting (see `wishes`), and last the optimizer state, which is
    dropped where anything changed that it would bring back, where a finding asks for it, and
    where what it holds is itself a fault.

    ``starts`` is the lineage from oldest to newest; ``failures`` counts, by checkpoint id or
    `START`, the attempts that began there and ended faulty: two of them poison the place, and
    the next plan begins one further back (a healthy-looking checkpoint can carry the fault:
    https://github.com/NVIDIA/Megatron-LM/issues/5281). The beginning carries nothing, so it is
    tried again as long as something changes.
    """
    chosen = choose_precision(findings, now.precision, now.compute, recipe, device)
    settled = settle(findings, now.settings)
    settings = {k: v for k, v in settled.settings.items() if recipe.change_of(k) is not None}
    said = [*settled.said, *_cannot_be_told(settled.settings, recipe)]
    changes = bool(chosen.precision or chosen.compute or settings)
    is_spent = failures.get(START, 0) >= failures_to_poison and not changes
    place = target = _target(starts, failures, failures_to_poison, at_start=not is_spent)
    stale = chosen.precision is not None or bool(settings) or bool(target and target.stale_state)
    optimizer = _optimizer(recipe, target, stale=stale, asked=_asks_drop(findings))
    if optimizer is None:
        target, optimizer = None, "drop"
    if target is None and is_spent:
        return None
    step = target.step if target else 0
    lost = faulty_step - step if faulty_step is not None and step is not None else None
    before = now.before
    reason = _reason(
        target,
        starts,
        recipe=recipe,
        optimizer=optimizer,
        why=chosen.why + _told_words(settings),
        has_place=place is not None,
        lost=lost,
        begun=now.begun,
    )
    return Plan(
        rules=tuple(dict.fromkeys(found.rule for found in findings)),
        target=target.checkpoint_id if target else None,
        target_path=str(target.path) if target else None,
        target_step=step,
        precision=chosen.precision or (before.precision if before else None),
        compute=chosen.compute or (before.compute if before else None),
        settings={**(before.settings if before else {}), **settings},
        optimizer=optimizer,
        reason="; ".join(filter(None, [reason, *said])),
        steps_lost=lost,
    )


def _target(
    starts: Sequence[Start], failures: Mapping[str, int], failures_to_poison: int, *, at_start: bool
) -> Start | None:
    """Return the newest good start without doubts, else the newest that is not spoilt.

    A spoilt one is taken only where nothing is left to be tried from the beginning (``at_start``).
    """
    possible = [
        start
        for start in starts
        if start.good and failures.get(start.checkpoint_id, 0) < failures_to_poison
    ]
    sound = [start for start in possible if not start.doubts]
    best = sound or [start for start in possible if not (start.spoilt and at_start)]
    return best[-1] if best else None


def _optimizer(
    recipe: Recipe, target: Start | None, *, stale: bool, asked: bool
) -> Literal["keep", "drop"] | None:
    """Return what becomes of the saved optimizer state, None where no resume can be had.

    ``stale`` state would undo the change or is itself at fault; where it is only ``asked`` to be
    dropped and the trainer cannot, keeping it is better than beginning anew.
    """
    keep, drop = recipe.resume.keep, recipe.resume.drop
    if keep is not None and keep.directory and target and target.path.suffix in ONE_FILE:
        keep = None
    if drop is not None and (stale or asked or keep is None):
        return "drop"
    return "keep" if keep is not None and not stale else None


def _asks_drop(findings: Sequence[Finding]) -> bool:
    return any(
        isinstance(resume := found.remedy.get("resume"), Mapping)
        and resume.get("optimizer") == "drop"
        for found in findings
    )


def _cannot_be_told(settings: Iterable[str], recipe: Recipe) -> list[str]:
    deaf = [name for name in settings if recipe.change_of(name) is None]
    return [f"{recipe.title} cannot be told {' and '.join(deaf)} by sentinel"] if deaf else []


def _told_words(settings: Settings) -> str:
    told = " and ".join(f"{name} {shown(value)}" for name, value in settings.items())
    return f", with {told}" if told else ""


def _reason(
    target: Start | None,
    starts: Sequence[Start],
    *,
    recipe: Recipe,
    optimizer: str,
    why: str,
    has_place: bool,
    lost: int | None,
    begun: bool,
) -> str:
    """Return where it begins and why there, in what, with what state, and what the user loses."""
    resume = recipe.resume
    if target is None and not begun:
        return f"begin at step 0 {why}"
    if target is None:
        cause = "no good checkpoint lies before the fault"
        if resume.keep is None and resume.drop is None:
            cause = f"{recipe.title} cannot resume"
        elif has_place:
            cause = f"{recipe.title} cannot resume without the saved optimizer state"
        elif any(start.good for start in starts):
            cause = f"every checkpoint before shows {_spoilt(starts)}, which no resume mends"
        steps = f", and {lost} steps are lost" if lost else ""
        words = [f"restart from step 0, since {cause}{steps}, {why}", resume.restart.says]
        return "; ".join(filter(None, words))
    state, route = "with its optimizer state", resume.keep
    if optimizer == "drop":
        state = "without the saved optimizer state, which would bring the old settings back"
        route = resume.drop
    place = f"resume from {_place(target)}, {_standing(target, starts)}, {why}, {state}"
    return "; ".join(filter(None, [place, route.says if route else ""]))


def _spoilt(starts: Sequence[Start]) -> str:
    rules = dict.fromkeys(rule for start in starts if start.good for rule in start.spoilt)
    return ", ".join(rules) or "the fault"


def _standing(target: Start, starts: Sequence[Start]) -> str:
    """Say why this place and no later one."""
    later = [start for start in starts[starts.index(target) + 1 :] if start.good and start.doubts]
    if target.doubts:
        return f"the last finite checkpoint, although {', '.join(target.doubts)} speaks against it"
    if later:
        doubts = ", ".join(dict.fromkeys(rule for start in later for rule in start.doubts))
        return f"the last good checkpoint ({_place(later[-1])} is finite, but shows {doubts})"
    doubt = ", although it is only suspect" if target.level == "suspect" else ""
    return f"the last good checkpoint{doubt}"


def _place(start: Start) -> str:
    return f"step {start.step}" if start.step is not None else f"'{start.path.name}'"


def _list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []
