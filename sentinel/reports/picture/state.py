"""How a run stands, in one sentence, and what it is, in a few facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sentinel.reports.facts import counted
from sentinel.reports.picture.told import Told
from sentinel.reports.picture.verdicts import place_words, plan_of, proof_of
from sentinel.reports.words import shown
from sentinel.verdict import LEVELS

_FACTS: Mapping[str, str] = {
    "adapter.method": "adapter",
    "adapter.rank": "rank",
    "adapter.alpha": "alpha",
    "precision.adapter": "adapter precision",
    "base.quantization": "base quantization",
    "precision.mixed": "mixed precision",
    "optimizer.name": "optimizer",
    "optimizer.learning_rate": "learning rate",
    "device.name": "device",
}
"""Settings of the newest checkpoint that a reader looks for first."""


@dataclass(frozen=True, slots=True)
class State:
    """The state in one sentence; ``level`` chooses its colour and mark."""

    level: str
    word: str
    sentence: str


def state_of(run: Told) -> State:
    """Return how the run stands by its newest checkpoint and what was proved of its repairs."""
    newest = run.newest
    if newest is None:
        told = run.events[-1].message if run.events else ""
        return State("unknown", "Nothing judged", shown(told) or "The log holds no checkpoint.")
    place = place_words(newest)
    repair = _repair_sentence(run, newest.attempt)
    if newest.verdict in {"faulty", "unreadable"} or (newest.verdict == "suspect" and not repair):
        said = shown(newest.reason or "it could not be read")
        return State(newest.verdict, newest.verdict.capitalize(), f"At {place}: {said}.")
    ends = f"the last checkpoint ({place}) is {newest.verdict}"
    if repair is not None:
        return State(newest.verdict, "Repaired", f"{repair}; {ends}.")
    worse = sum(row.verdict in {"faulty", "unreadable"} for row in run.rows)
    if worse:
        said = f"{counted(worse, 'checkpoint')} before it {'is' if worse == 1 else 'are'} not."
        return State("healthy", "Healthy again", f"{ends[0].upper()}{ends[1:]}; {said}")
    checked = counted(len(run.rows), "checkpoint")
    return State("healthy", "Healthy", f"{checked} judged up to {place}, the last one healthy.")


def facts_of(run: Told) -> Iterator[tuple[str, str]]:
    """Yield what the run is: names and values, safe to show."""
    yield "run", run.run_id
    newest = run.newest
    if newest is None:
        return
    yield "trainer", shown(newest.trainer or "unknown")
    yield "layout", shown(newest.layout)
    first = min(row.seen_at for row in run.rows)
    last = max(row.judged_at for row in run.rows)
    yield "first seen", f"{first:%Y-%m-%d %H:%M} UTC"
    yield "last judged", f"{last:%Y-%m-%d %H:%M} UTC"
    yield "attempts", str(len(run.attempts))
    counts = Counter(row.verdict for row in run.rows)
    said = ", ".join(f"{counts[level]:,} {level}" for level in LEVELS if counts[level])
    yield "checkpoints", f"{len(run.rows):,} ({said})"
    yield "last checkpoint", shown(newest.path)
    for name, words in _FACTS.items():
        value = newest.settings.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield words, shown(f"{value:g}" if isinstance(value, float) else str(value))
    ended = [one for one in run.events if one.kind == "outcome" and "result" not in one.detail]
    if ended:
        yield "ended", shown(ended[-1].message)


def _repair_sentence(run: Told, attempt: int) -> str | None:
    """Return what the repair that began an attempt changed, None when it is not proved."""
    before = max((number for number in run.attempts if number < attempt), default=None)
    plan, proof = (plan_of(run, before) if before is not None else None), proof_of(run, attempt)
    if plan is None or proof is None or proof.detail.get("result") != "fixed":
        return None
    rules = plan.detail.get("rules")
    names = ", ".join(map(str, rules)) if isinstance(rules, list) else plan.rule or "the fault"
    step = plan.detail.get("target_step")
    begin = f"from step {step}" if isinstance(step, int) and step else "from the beginning"
    precision = plan.detail.get("precision")
    how = f" in {precision}" if precision else ""
    return shown(f"{names} stopped attempt {before}; attempt {attempt} went on {begin}{how}")
