"""Asking sentinel as its users do, and holding what it must say and must not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentinel
from sentinel.flow import Judgement
from sentinel.preflight import Checked, check
from sentinel.rules.load import load_rules
from sentinel.verdict import Finding, Level, Verdict

RULES = load_rules()


def scan(*paths: Path, **options: Any) -> tuple[Judgement, ...]:
    """Judge what lies there, at once: nobody writes any more."""
    return sentinel.scan(*paths, **{"rules": RULES, "settle_s": 0, **options})


def checked(path: Path, machine: dict[str, Any], **options: Any) -> Checked:
    """What is said of a configuration before step 1."""
    return check(path, rules=RULES, machine=machine, **options)


def said(verdict: Verdict, rule: str, level: Level, *words: str) -> Finding:
    """Hold that a rule speaks, how bad all is, and words that the user reads."""
    found = [one for one in verdict.findings if one.rule == rule]
    assert found, [(one.rule, one.message) for one in verdict.findings]
    assert verdict.level == level
    for word in words:
        assert word in found[0].message, found[0].message
    return found[0]


def healthy(verdict: Verdict) -> None:
    """Hold that nothing at all is amiss."""
    assert [(one.rule, one.message) for one in verdict.findings if one.severity != "info"] == []
    assert verdict.level == "healthy"


def silent(verdict: Verdict, *rules: str) -> None:
    """Hold that these rules do not speak."""
    assert [one.message for one in verdict.findings if one.rule in rules] == []
