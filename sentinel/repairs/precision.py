"""Which precision a resume gets: of what is trained, and of the forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentinel.machine.device import Device
from sentinel.repairs.recipes import Precision, Recipe
from sentinel.verdict import Finding


@dataclass(frozen=True, slots=True)
class Chosen:
    """What changes; None where it stays as it is, with the reason in words."""

    precision: Precision | None
    compute: Precision | None
    why: str


def choose_precision(
    findings: Sequence[Finding],
    trained: Precision | None,
    computed: Precision | None,
    recipe: Recipe,
    device: Device,
) -> Chosen:
    """Choose a precision: fp32 wins over bf16 when findings disagree, since it has both.

    ``trained`` and ``computed`` are what the run has now, None where it is not known. Weights in
    fp32 stay so where bf16 is asked for: then only the forward pass changes. That one changes
    where the cause is range, and only where it is in fp16 (or unknown).
    """
    wishes = [wish for found in findings if (wish := _wish(found, device)) is not None]
    if not wishes:
        return Chosen(None, None, "the precision stays as it is")
    wanted, why = next((wish for wish in wishes if wish[0] == "fp32"), wishes[0])
    is_range = any(_asked(found, "cause") == "range" for found in findings)
    knows = not trained or trained == "fp16" or (trained == "bf16" and wanted == "fp32")
    precision = wanted if knows and wanted in recipe.precision else None
    compute = None
    if is_range and computed in {None, "fp16"} and wanted in recipe.compute:
        compute = wanted
    if precision is None and compute is None:
        return Chosen(None, None, _unchanged(trained, wanted, recipe))
    return Chosen(precision, compute, why)


def _unchanged(trained: Precision | None, wanted: Precision, recipe: Recipe) -> str:
    if wanted not in recipe.precision and wanted not in recipe.compute:
        return f"the precision stays, since {recipe.title} cannot be told {wanted} by sentinel"
    return f"it already trained in {trained}, so the precision stays"


def _wish(finding: Finding, device: Device) -> tuple[Precision, str] | None:
    asked = _asked(finding, "precision")
    if asked == "auto":
        return _automatic(_asked(finding, "cause"), device)
    return _ASKED.get(asked)


def _asked(finding: Finding, key: str) -> str:
    resume = finding.remedy.get("resume")
    return str(resume.get(key)) if isinstance(resume, Mapping) else ""


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
