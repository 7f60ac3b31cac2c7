"""A scan as one JSON object: the contract that `docs/scan.schema.json` writes down.

Within schema 1 keys are only added. Whatever JSON cannot say becomes text: NaN and infinities
"nan", "inf" and "-inf", undecodable bytes of a path backslash-escaped.
"""

from __future__ import annotations

import json

from sentinel.health.plain import path_text, plain
from sentinel.reports.entries import ScanEntry, ScanReport
from sentinel.verdict import Finding

SCHEMA = 1

MAX_TENSORS = 20
"""How many tensor names a finding lists; ``tensor_count`` says how many there are."""


def scan_to_json(report: ScanReport) -> str:
    """Return the report as JSON text, ASCII only, so that every console can print it."""
    return json.dumps(scan_to_object(report), indent=2, allow_nan=False)


def scan_to_object(report: ScanReport) -> object:
    """Return the report as the dicts and lists that JSON is made of."""
    return plain(
        {
            "schema": SCHEMA,
            "checkpoints": [_checkpoint(entry) for entry in report.entries],
            "summary": report.summary,
        }
    )


def _checkpoint(entry: ScanEntry) -> dict[str, object]:
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
        "findings": [_finding(finding) for finding in verdict.findings],
        "not_evaluated": [
            {"rule": skipped.rule, "reason": skipped.reason} for skipped in verdict.not_evaluated
        ],
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "message": finding.message,
        "tensors": finding.tensors[:MAX_TENSORS],
        "tensor_count": finding.tensor_count,
        "remedy": finding.remedy,
    }
