"""From findings to a plan: which checkpoint to begin from, in which precision, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sentinel.machine.device import Device
from sentinel.repairs.recipes import Precision
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
    """

    checkpoint_id: str
    path: Path
    step: int | None
    level: Level
    good: bool
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How the training is started again. ``target`` is None when it begins at step 0."""

    rules: tuple[str, ...]
    target: str | None
    target_path: str | None
    target_step: int | None
    precision: Precision | None
    optimizer: Literal["keep", "drop"]
    reason: str
    steps_lost: int | None

    def as_detail(self) -> dict[str, object]:
        """Return the plan as JSON-ready values for the journal and the event log."""
        return asdict(self)

    @classmethod
    def from_detail(cls, detail: Mapping[str, object]) -> Plan:
        """Return the plan that `as_detail` wrote."""
        values = dict(detail)
        values["rules"] = tuple(_list(values.get("rules")))
        return cls(**values)  # type: ignore[arg-type]  # written by as_detail above


def make_plan(
    findings: Sequence[Finding],
    *,
    starts: Sequence[Start],
    failures: Mapping[str, int],
    faulty_step: int | None,
    precision_now: Precision | None,
    device: Device,
    failures_to_poison: int = 2,
) -> Plan | None:
    """Return how to go on after these critical findings, None when no way is left.

    ``starts`` is the lineage from oldest to newest; ``failures`` counts, by checkpoint id or
    `START`, the attempts that began there and ended faulty: two of them poison the place, and
    the next plan begins one further back (a healthy-looking checkpoint can carry the fault:
    https://github.com/NVIDIA/Megatron-LM/issues/5281).
    """
    target = _target(starts, failures, failures_to_poison)
    if target is None and failures.get(START, 0) >= failures_to_poison:
        return None
    precision, why = _precision(findings, precision_now, device)
    optimizer: Literal["keep", "drop"] = (
        "drop" if precision is not None or _asks_drop(findings) else "keep"
    )
    step = target.step if target else 0
    lost = faulty_step - step if faulty_step is not None and step is not None else None
    return Plan(
        rules=tuple(dict.fromkeys(found.rule for found in findings)),
        target=target.checkpoint_id if target else None,
        target_path=str(target.path) if target else None,
        target_step=step,
        precision=precision,
        optimizer=optimizer,
        reason=_reason(target, starts, optimizer, why),
        steps_lost=lost,
    )


def _target(
    starts: Sequence[Start], failures: Mapping[str, int], failures_to_poison: int
) -> Start | None:
    """Return the newest good start without doubts, else the newest good one at all."""
    possible = [
        start
        for start in starts
        if start.good and failures.get(start.checkpoint_id, 0) < failures_to_poison
    ]
    best = [start for start in possible if not start.doubts] or possible
    return best[-1] if best else None


def _precision(
    findings: Sequence[Finding], now: Precision | None, device: Device
) -> tuple[Precision | None, str]:
    """Choose a precision: fp32 wins over bf16 when findings disagree, since it has both."""
    wishes = [wish for found in findings if (wish := _wish(found, device)) is not None]
    if not wishes:
        return None, "the precision stays as it is"
    precision, why = next((wish for wish in wishes if wish[0] == "fp32"), wishes[0])
    if precision == now:
        return None, f"it already trained in {now}, so the precision stays"
    return precision, why


def _wish(finding: Finding, device: Device) -> tuple[Precision, str] | None:
    resume = finding.remedy.get("resume")
    asked = resume.get("precision") if isinstance(resume, Mapping) else None
    if asked == "auto":
        return _automatic(str(resume.get("cause")) if isinstance(resume, Mapping) else "", device)
    return _ASKED.get(str(asked))


_ASKED: Mapping[str, tuple[Precision, str]] = {
    "fp32": ("fp32", "in fp32, whose resolution keeps small updates"),
    "bf16": ("bf16", "in bf16, which has the range of fp32"),
}


def _automatic(cause: str, device: Device) -> tuple[Precision, str]:
    """Choose bf16 only where the device has it and the cause is range, else fp32."""
    if cause != "range":
        return "fp32", "in fp32, since the cause may be resolution, which bf16 does not mend"
    if device.bf16:
        return "bf16", f"in bf16: the cause is range, and {device.name} computes in bf16"
    lacks = "does not compute in bf16" if device.bf16 is False else "is not known to have bf16"
    return "fp32", f"in fp32: the cause is range, but {device.name} {lacks}"


def _asks_drop(findings: Sequence[Finding]) -> bool:
    return any(
        isinstance(resume := found.remedy.get("resume"), Mapping)
        and resume.get("optimizer") == "drop"
        for found in findings
    )


def _reason(target: Start | None, starts: Sequence[Start], optimizer: str, why: str) -> str:
    if target is None:
        return f"restart from step 0, since no good checkpoint lies before the fault, {why}"
    state = (
        "without the saved optimizer state, which would bring the old settings back"
        if optimizer == "drop"
        else "with its optimizer state"
    )
    return f"resume from {_place(target)}, {_standing(target, starts)}, {why}, {state}"


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
