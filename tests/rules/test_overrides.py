"""What `rules` in sentinel.yaml changes about the rules."""

from __future__ import annotations

import pytest

from sentinel.config import RuleSettings
from sentinel.errors import ConfigError
from sentinel.rules.evaluate import evaluate
from sentinel.rules.examples import rows_to_table
from sentinel.rules.load import load_rules


def test_a_threshold() -> None:
    """A looser threshold makes the same table pass."""
    pairs = [{"module": "q", "up": "q", "norm": 150.0, "base_norm": 10.0}]
    tables = {"pairs": rows_to_table("pairs", pairs)}

    def fired(settings: RuleSettings) -> bool:
        rules = [r for r in load_rules(overrides=settings) if r.id == "norm-explosion"]
        return bool(evaluate(rules, tables).findings)

    assert fired(RuleSettings())
    assert not fired(RuleSettings(parameters={"norm-explosion": {"ratio": 20}}))


def test_switched_off() -> None:
    """A rule that is off is not asked."""
    rules = load_rules(overrides=RuleSettings(off=("mixed-dtypes",)))

    assert "mixed-dtypes" not in {rule.id for rule in rules}
    assert len(load_rules()) - 1 == len(rules)


def test_excluded_paths(tmp_path) -> None:
    """A rule is not asked about checkpoints that its patterns name, and that is said."""
    settings = RuleSettings(exclude={"norm-explosion": ("scratch/*",)})
    (rule,) = [rule for rule in load_rules(overrides=settings) if rule.id == "norm-explosion"]

    def asked(path: str) -> tuple[int, list[str]]:
        pairs = [{"module": "q", "up": "q", "norm": 150.0, "base_norm": 10.0}]
        tables = {
            "pairs": rows_to_table("pairs", pairs),
            "checkpoint": rows_to_table("checkpoint", [{"path": str(tmp_path / path)}]),
        }
        answer = evaluate((rule,), tables)
        return len(answer.findings), [one.reason for one in answer.not_evaluated]

    assert asked("out/checkpoint-1") == (1, [])
    assert asked("scratch/a/checkpoint-1") == (0, ["excluded for this path by the settings"])


def test_severity() -> None:
    """The user's severity holds for sure and for doubtful hits."""
    settings = RuleSettings(severity={"loss-zero": "info"})
    (rule,) = [rule for rule in load_rules(overrides=settings) if rule.id == "loss-zero"]

    assert (rule.severity, rule.softer) == ("info", None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"off": ("nan-value",)},
            "setting 'rules.off.nan-value': no rule has this id; did you mean 'nan-values'?",
        ),
        (
            {"severity": {"nan-value": "info"}},
            "setting 'rules.severity.nan-value': no rule has this id; did you mean 'nan-values'?",
        ),
        (
            {"parameters": {"norm-explosion": {"ration": 3}}},
            (
                "setting 'rules.parameters.norm-explosion.ration': the rule has no such parameter; "
                "did you mean 'ratio'?"
            ),
        ),
        (
            {"parameters": {"norm-explosion": {"ratio": "much"}}},
            "setting 'rules.parameters.norm-explosion.ratio': is 'much'; write a value like 10.0",
        ),
        (
            {"parameters": {"nan-values": {"ratio": 1}}},
            (
                "setting 'rules.parameters.nan-values.ratio': the rule has no such parameter; "
                "leave it out"
            ),
        ),
    ],
)
def test_wrong_settings(settings, message) -> None:
    """A setting that would be ignored is an error that names it."""
    with pytest.raises(ConfigError) as caught:
        load_rules(overrides=RuleSettings(**settings))
    assert message == str(caught.value)
