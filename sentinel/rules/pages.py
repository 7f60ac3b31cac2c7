"""The catalogue for readers: `docs/rules.md`, and the JSON Schema of a rule file for editors.

`docs/generate.py` writes both; a test holds that they are up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from sentinel.rules import schema
from sentinel.rules.rule import AtLeast, Rule
from sentinel.verdict import LEVEL_OF

RULES_PAGE = "rules.md"
RULE_SCHEMA = "rule.schema.json"

_HEAD = """\
# Rules

<!-- Written by `python docs/generate.py` from the files below `rules/`. -->

A rule is one YAML file around one SQL predicate.
It fires on the rows of a table that are bad; what it then says becomes a *finding*, and the worst
finding becomes the verdict: critical is `faulty`, unreadable is `unreadable`, warning is `suspect`.
A predicate that meets a value nobody knows (NULL) is *not evaluated* and listed with the reason.
A rule that fails becomes the finding `rule-error` (warning).

Scope `content` judges the bytes of a checkpoint, scope `run` its settings, device and log.
Safety `certain` counts on the bytes alone; `likely` uses a threshold or a guess at the intention.

To change a threshold or a severity, or to switch a rule off, use `rules` in `sentinel.yaml`.
To write your own, put a file like those below into a directory and give it with `--rules`; editors
check it against `docs/rule.schema.json`.

Each rule says where it was seen: a test makes it fire on what a real library or trainer wrote, and
holds that it stays quiet on what comes near that and is healthy.
`trained`: a real library trained, and it failed by itself.
`saved`: a real library's saving was given what breaks it.
`planted`: the damage was done to a file that a real library wrote.
`configured`: the trainer's own configuration or command, before step 1.
"""
_NOWHERE: Mapping[str, str] = MappingProxyType({})


def render_page(rules: Sequence[Rule], seen: Mapping[str, str] = _NOWHERE) -> str:
    """Return the Markdown page of the whole catalogue; ``seen`` tells where, by a rule's id."""
    ordered = sorted(rules, key=lambda rule: rule.id)
    table = [
        "| rule | severity | safety | scope | finds |",
        "|---|---|---|---|---|",
        *_rows(ordered),
    ]
    sections = (render_rule(rule, seen.get(rule.id)) for rule in ordered)
    return "\n".join([_HEAD, *table, "", *sections]).rstrip() + "\n"


def render_rule(rule: Rule, seen: str | None = None) -> str:
    """Return one rule's section as Markdown: what it finds, why, what to do, its SQL, sources."""
    return "\n".join(_section(rule, seen)) + "\n"


def render_schema() -> str:
    """Return the JSON Schema of a rule file."""
    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema.Rule.model_json_schema(),
    }
    return json.dumps(described, indent=2) + "\n"


def _rows(rules: Sequence[Rule]) -> Iterator[str]:
    for rule in rules:
        yield (
            f"| [{rule.id}](#{rule.id}) | {rule.severity} | {rule.safety} | {rule.scope} "
            f"| {rule.title} |"
        )


def _section(rule: Rule, seen: str | None) -> Iterator[str]:
    yield f"## {rule.id}\n"
    yield f"**{rule.title}.** {_facts(rule)}\n"
    yield f"What it finds: {rule.page.what}\n"
    yield f"Why that matters: {rule.page.why}\n"
    yield f"What to do: {rule.page.fix}\n"
    if rule.parameters:
        settings = ", ".join(f"`{name}` = `{value}`" for name, value in rule.parameters.items())
        yield f"Parameters: {settings}.\n"
    yield f"```sql\n{_predicate(rule)}\n```\n"
    for heading, names in _examples(rule):
        yield f"{heading}: {'; '.join(names)}.\n"
    if seen is not None:
        yield f"Seen: {seen}.\n"
    if rule.page.sources:
        yield "Sources: " + ", ".join(f"<{source}>" for source in rule.page.sources) + "\n"


def _facts(rule: Rule) -> str:
    facts = [f"Severity {rule.severity} (`{LEVEL_OF[rule.severity]}`)"]
    if rule.softer is not None:
        facts.append(f"{rule.softer.severity} where less sure")
    if rule.after_updates:
        facts.append(f"after {rule.after_updates} update(s)")
    if rule.unknown_updates is not None:
        facts.append(f"{rule.unknown_updates} when the number of updates is unknown")
    if rule.confirm:
        facts.append("confirmed by a second reading")
    facts += [f"safety {rule.safety}", f"scope {rule.scope}", f"since {rule.since}"]
    return ", ".join(facts) + "."


def _predicate(rule: Rule) -> str:
    source = f"FROM {rule.table}" if rule.table else (rule.query or "").rstrip()
    match = f"at least {rule.match.at_least:.0%}" if isinstance(rule.match, AtLeast) else rule.match
    return "\n".join(
        [
            source,
            f"-- rows in scope\nWHERE {rule.where.strip()}",
            f"-- {match} of them bad\nWHEN {rule.when.strip()}",
        ]
    )


def _examples(rule: Rule) -> Iterator[tuple[str, list[str]]]:
    yield "Fires", [e.name for e in rule.examples if e.fires]
    yield "Stays quiet", [e.name for e in rule.examples if not e.fires and not e.not_evaluated]
    unknown = [e.name for e in rule.examples if e.not_evaluated]
    if unknown:
        yield "Not evaluated", unknown
