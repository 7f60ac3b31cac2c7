"""Asking the rules: which of them fire on a checkpoint's tables, and which cannot be asked.

A predicate is three-valued. Rows that are NULL count as neither bad nor good; the rule is not
evaluated when those rows could still turn the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from sentinel.checkpoint import Part
from sentinel.rules import sql
from sentinel.rules.asking import Asking
from sentinel.rules.counts import Counts
from sentinel.rules.messages import after_updates, at_step, fill, group_names
from sentinel.rules.past import Past, held_in_a_row, history_tables
from sentinel.rules.query_error import QueryError
from sentinel.rules.rule import Rule
from sentinel.rules.tables import FINDINGS, TABLES, UNKNOWN_WHEN_EMPTY
from sentinel.verdict import LEVEL_OF, LEVELS, Finding, NotEvaluated, Severity

if TYPE_CHECKING:
    import pyarrow as pa

LISTED = 20
"""How many tensors a finding lists by name."""

RULE_ERROR = "rule-error"
"""The id of the finding about a rule that failed."""

_PARTS: tuple[Part, ...] = ("weights", "optimizer", "state")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the rules say of one checkpoint, the gravest first.

    ``unconfirmed`` names the rules among the findings that want a second equal reading,
    ``holding`` those with `for` whose predicate holds here, long enough or not.
    """

    findings: tuple[Finding, ...]
    not_evaluated: tuple[NotEvaluated, ...]
    unconfirmed: tuple[str, ...] = ()
    holding: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A predicate that holds, but not yet in as many checkpoints in a row as its rule wants."""

    rule: Rule
    held: int

    def told(self) -> NotEvaluated:
        wanted = self.rule.consecutive
        return NotEvaluated(
            self.rule.id, f"holds in {self.held} of the {wanted} checkpoints in a row that it wants"
        )


@dataclass(frozen=True, slots=True)
class _Subject:
    """The checkpoint under judgement: how to ask about it and what every message may tell."""

    asking: Asking
    missing: Mapping[str, str]
    path: str
    step: int | None
    updates: int | None
    past: Past


def evaluate(
    rules: Sequence[Rule],
    tables: Mapping[str, pa.Table],
    past: Past = (),
    *,
    direct: bool = True,
) -> Evaluation:
    """Ask every rule about the tables of one checkpoint.

    ``tables`` holds tensors, pairs, checkpoint, config, metrics, faults and, when known, base;
    ``past`` the checkpoints before it in its lineage. Rules that name `findings` come last, and
    see what the others found. A rule that fails becomes a finding
    `rule-error`; none raises. Without ``direct`` every rule is asked in the database.
    """
    named = {table for rule in rules for table in sql.named_tables(rule)}
    known = {**tables, **history_tables(past, named)}
    given = FINDINGS in known
    first: list[Rule] = []
    last: list[Rule] = []
    for rule in rules:
        (last if FINDINGS in sql.named_tables(rule) and not given else first).append(rule)
    with Asking(known, direct=direct) as asking:
        subject = _subject(asking, known, past)
        answers = [(rule, _ask(rule, subject)) for rule in first]
        if last:
            said = _findings_table(answers)
            asking.add(FINDINGS, said)
            subject = _subject(asking, {**known, FINDINGS: said}, past)
            answers += [(rule, _ask(rule, subject)) for rule in last]
    findings = [answer for _, answer in answers if isinstance(answer, Finding)]
    waiting = [answer for _, answer in answers if isinstance(answer, _Waiting)]
    return Evaluation(
        findings=tuple(sorted(findings, key=lambda found: -_rank(found.severity))),
        not_evaluated=(
            *(answer for _, answer in answers if isinstance(answer, NotEvaluated)),
            *(answer.told() for answer in waiting),
        ),
        unconfirmed=tuple(
            rule.id
            for rule, answer in answers
            if rule.confirm and isinstance(answer, Finding) and answer.rule == rule.id
        ),
        holding=frozenset(
            {answer.rule.id for answer in waiting}
            | {
                rule.id
                for rule, answer in answers
                if rule.consecutive > 1 and isinstance(answer, Finding) and answer.rule == rule.id
            }
        ),
    )


def _findings_table(answers: Sequence[tuple[Rule, object]]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - only where a rule asks for it

    found = [answer for _, answer in answers if isinstance(answer, Finding)]
    columns = ("rule", "severity", "scope", "safety")
    named = {name: pa.array([getattr(one, name) for one in found], pa.string()) for name in columns}
    counts = pa.array([one.tensor_count for one in found], pa.int64())
    return pa.table({**named, "tensor_count": counts})


def _subject(asking: Asking, tables: Mapping[str, pa.Table], past: Past) -> _Subject:
    missing = {name: f"table '{name}' is not known" for name in TABLES if name not in tables}
    for name in UNKNOWN_WHEN_EMPTY - missing.keys():
        if not tables[name].num_rows:
            missing[name] = f"table '{name}' is empty"
    path, step, updates = (
        _first(tables.get("checkpoint"), name) for name in ("path", "step", "updates_done")
    )
    return _Subject(
        asking,
        MappingProxyType(missing),
        cast("str | None", path) or "",
        cast("int | None", step),
        cast("int | None", updates),
        past,
    )


def _first(table: pa.Table | None, column: str) -> object:
    if table is None or not table.num_rows or column not in table.column_names:
        return None
    return table[column][0].as_py()


def _ask(rule: Rule, subject: _Subject) -> Finding | NotEvaluated | _Waiting | None:
    """Return what one rule says: a finding, that it cannot be asked, or nothing."""
    if any(_matches(subject.path, pattern) for pattern in rule.exclude):
        return NotEvaluated(rule.id, "excluded for this path by the settings")
    for table in sql.tables_of(rule):
        if table in subject.missing:
            return NotEvaluated(rule.id, subject.missing[table])
    if subject.updates is not None and subject.updates < rule.after_updates:
        return None
    try:
        return _judge(rule, subject)
    except QueryError as error:
        problem = str(error).splitlines()[0]
        message = f"rule '{rule.id}' failed: {problem}; mend the rule or switch it off"
        return Finding(RULE_ERROR, "warning", message, scope=rule.scope, parts=())


def _matches(path: str, pattern: str) -> bool:
    """Tell whether a path, or its end, is what a pattern says; `*` also stands for slashes."""
    posix = path.replace("\\", "/")
    return fnmatchcase(posix, pattern) or fnmatchcase(posix, f"*/{pattern}")


def _judge(rule: Rule, subject: _Subject) -> Finding | NotEvaluated | _Waiting | None:
    counts, unknown = subject.asking.counts(rule)
    fires = counts.decide(rule.match)
    if fires is None:
        if unknown is None:
            unknown = subject.asking.unknown_columns(rule)
        return NotEvaluated(rule.id, _why_unknown(rule, counts, unknown))
    if not fires:
        return None
    unsure = rule.after_updates > 0 and subject.updates is None
    if unsure and rule.unknown_updates is None:
        return NotEvaluated(rule.id, "column 'updates_done' of 'checkpoint' is unknown")
    held = 1 + held_in_a_row(rule.id, subject.past)
    if held < rule.consecutive:
        return _Waiting(rule, held)
    return _finding(rule, counts, subject, unsure=unsure)


def _why_unknown(rule: Rule, counts: Counts, unknown: Sequence[str]) -> str:
    """Name the columns that are NULL in the rows that could not be decided."""
    empty = [f"'{column}'" for column in unknown]
    verb = "are" if len(empty) > 1 else "is"
    noun = (
        ("columns " if len(empty) > 1 else "column ") + ", ".join(empty)
        if empty
        else "the predicate"
    )
    where = f" of '{rule.table}'" if rule.table else ""
    return f"{noun}{where} {verb} unknown in {counts.undecided} of {counts.total} rows"


def _finding(rule: Rule, counts: Counts, subject: _Subject, *, unsure: bool) -> Finding:
    expressions = {**rule.facts, **({"softer_": rule.softer.when} if rule.softer else {})}
    facts = subject.asking.hits(rule, expressions)
    names, parts = _names_and_parts(rule, subject)
    message = fill(
        rule.message,
        {
            **rule.parameters,
            **facts,
            "hits": counts.bad,
            "rows": counts.in_scope,
            "at": at_step(subject.step),
            "after": after_updates(subject.updates),
            "names": group_names(names),
            "first": names[0] if names else None,
        },
    )
    severity = rule.severity
    if rule.softer and facts["softer_"]:
        severity = rule.softer.severity
    if unsure and rule.unknown_updates is not None:
        severity = min(severity, rule.unknown_updates, key=_rank)
        message += " (whether it was updated at all is not known, so this may be no fault)"
    return Finding(
        rule=rule.id,
        severity=severity,
        message=message,
        scope=rule.scope,
        safety=rule.safety,
        parts=parts,
        tensors=names[:LISTED],
        tensor_count=len(names),
        remedy=MappingProxyType(dict(rule.remedy)),
    )


def _names_and_parts(rule: Rule, subject: _Subject) -> tuple[tuple[str, ...], tuple[Part, ...]]:
    """Return the tensors of the hit rows in their order, and the parts they belong to."""
    hits = subject.asking.listed(rule)
    names = tuple(dict.fromkeys(str(name) for name, _ in hits if name is not None))
    if rule.scope == "run":
        return names, ()
    named = {part for _, part in hits}
    return names, tuple(part for part in _PARTS if part in named) or ("weights",)


def _rank(severity: Severity) -> int:
    return LEVELS.index(LEVEL_OF[severity])
