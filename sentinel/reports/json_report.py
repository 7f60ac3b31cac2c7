"""A scan as one JSON object: the contract that `docs/scan.schema.json` writes down.

Within schema 1 keys are only added. Whatever JSON cannot say becomes text: NaN and infinities
"nan", "inf" and "-inf", undecodable bytes of a path backslash-escaped.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from sentinel.health.plain import path_text, plain
from sentinel.reports.entries import ScanEntry, ScanReport
from sentinel.verdict import Finding, Verdict

SCHEMA = 1

MAX_TENSORS = 20
"""How many tensor names a finding lists; ``tensor_count`` says how many there are."""

_LINE = "\n"
"""Between lines, and nowhere else: JSON writes those of its strings with a backslash."""


def scan_to_json(report: ScanReport) -> str:
    """Return the report as JSON text, ASCII only, so that every console can print it.

    Checkpoints are written one by one: the objects that all of them make at once take several
    times the room of the text.
    """
    frame = _text({"schema": SCHEMA, "checkpoints": [], "summary": report.summary})
    if not report.entries:
        return frame
    texts = (_text(checkpoint_object(entry)) for entry in report.entries)
    listed = ",\n".join(f"    {text.replace(_LINE, _LINE + '    ')}" for text in texts)
    return frame.replace("[]", f"[\n{listed}\n  ]", 1)


def _text(found: object) -> str:
    return json.dumps(plain(found), indent=2, allow_nan=False)


def checkpoint_object(entry: ScanEntry) -> dict[str, object]:
    """Return one judged checkpoint."""
    checkpoint, verdict = entry.checkpoint, entry.verdict
    return {
        "path": path_text(checkpoint.path),
        "layout": checkpoint.layout,
        "trainer": checkpoint.trainer,
        "step": checkpoint.step,
        "verdict": verdict.level,
        "usable": verdict.usable,
        "reason": verdict.reason,
        "run": entry.run,
        "attempt": entry.attempt,
        "checkpoint_id": entry.checkpoint_id,
        "findings": [finding_object(finding) for finding in verdict.findings],
        "not_evaluated": skipped_objects(verdict),
        "skipped": asdict(entry.skipped) if entry.skipped else None,
    }


def skipped_objects(verdict: Verdict) -> list[dict[str, str]]:
    """Return the rules that could not be asked."""
    return [{"rule": one.rule, "reason": one.reason} for one in verdict.not_evaluated]


def finding_object(finding: Finding) -> dict[str, object]:
    """Return one finding."""
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "message": finding.message,
        "tensors": finding.tensors[:MAX_TENSORS],
        "tensor_count": finding.tensor_count,
        "remedy": finding.remedy,
    }
