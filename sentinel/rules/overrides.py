"""What the user changed about the rules: switched off, another severity, other thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sentinel.errors import ConfigError
from sentinel.rules.mistakes import did_you_mean
from sentinel.rules.rule import Parameter, Rule
from sentinel.settled import RuleWishes


def override(rules: Sequence[Rule], settings: RuleWishes) -> tuple[Rule, ...]:
    """Return the rules as the settings want them.

    A changed severity also replaces the milder one for doubtful hits. Raises ConfigError for a
    rule or parameter that does not exist, and for a value of another kind than the default.
    """
    known = {rule.id: rule for rule in rules}
    wishes = {
        "off": settings.off,
        "severity": settings.severity,
        "parameters": settings.parameters,
        "exclude": settings.exclude,
    }
    for group, ids in wishes.items():
        for rule_id in ids:
            if rule_id not in known:
                todo = did_you_mean(rule_id, known)
                raise _wrong(f"{group}.{rule_id}", "no rule has this id", todo)
    for rule_id, severity in settings.severity.items():
        known[rule_id] = replace(known[rule_id], severity=severity, softer=None)
    for rule_id, patterns in settings.exclude.items():
        known[rule_id] = replace(known[rule_id], exclude=list(patterns))
    for rule_id, values in settings.parameters.items():
        known[rule_id] = _with_parameters(known[rule_id], values)
    return tuple(rule for rule in known.values() if rule.id not in settings.off)


def _with_parameters(rule: Rule, values: Mapping[str, Parameter]) -> Rule:
    for name, value in values.items():
        setting = f"parameters.{rule.id}.{name}"
        if name not in rule.parameters:
            todo = did_you_mean(name, rule.parameters) or "leave it out"
            raise _wrong(setting, "the rule has no such parameter", todo)
        default = rule.parameters[name]
        if _kind(value) != _kind(default):
            raise _wrong(setting, f"is {value!r}", f"write a value like {default!r}")
    return replace(rule, parameters={**rule.parameters, **values})


def _kind(value: Parameter) -> str:
    if isinstance(value, bool):
        return "truth"
    return "text" if isinstance(value, str) else "number"


def _wrong(setting: str, fact: str, todo: str) -> ConfigError:
    return ConfigError(f"setting 'rules.{setting}'", fact=fact, todo=todo)
