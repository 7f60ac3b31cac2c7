"""A rule of one's own that fires when the history of a checkpoint is known."""

from __future__ import annotations

from pathlib import Path

import pytest

RULE = """\
id: history-known
title: The checkpoint before is known
scope: run
severity: critical
safety: likely
since: 0.2.0
page: {what: "It has a checkpoint before it.", why: "For tests.", fix: "None.", sources: []}
table: checkpoint
when: prev_step IS NOT NULL
facts: {step: any_value(step), before: any_value(prev_step)}
message: "step {step} comes after step {before}"
examples:
  - name: the second
    fires: true
    tables: {checkpoint: [{step: 2}], prev_checkpoint: [{step: 1}]}
  - {name: the first, fires: false, tables: {checkpoint: [{step: 2}], prev_checkpoint: [{}]}}
"""


@pytest.fixture
def history_rule(tmp_path) -> Path:
    """A rule that fires from the second checkpoint on, and names the step before."""
    path = tmp_path / "history.yaml"
    path.write_text(RULE, encoding="utf-8")
    return path
