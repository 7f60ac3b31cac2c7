"""What must fit together inside a rule beyond its shape; needs no database."""

from __future__ import annotations

from sentinel.errors import RuleError
from sentinel.rules import sql
from sentinel.rules.messages import BUILT_IN, placeholders
from sentinel.rules.mistakes import KeyPath, Origin, did_you_mean
from sentinel.rules.rule import Cell, Rule
from sentinel.rules.tables import GIVEN, PAST_TABLES


def check_consistency(rule: Rule, origin: Origin) -> None:
    """Raise RuleError for the first thing in a rule that does not fit the rest of it."""
    _check_source(rule, origin)
    _check_parameters(rule, origin)
    _check_message(rule, origin)
    _check_examples(rule, origin)


def _check_source(rule: Rule, origin: Origin) -> None:
    if (rule.table is None) == (rule.query is None):
        fact = "has both a table and a query" if rule.table else "has neither a table nor a query"
        raise origin.mistake(rule.id, ("table",), fact, "give one of the two")
    if rule.unknown_updates is not None and not rule.after_updates:
        fact = "has 'unknown_updates' without 'after_updates'"
        raise origin.mistake(rule.id, ("unknown_updates",), fact, "add 'after_updates: 1'")


def _check_parameters(rule: Rule, origin: Origin) -> None:
    used: set[str] = set()
    for key, text in fragments(rule):
        names = sql.parameters_in(text)
        used |= names
        for name in sorted(names - rule.parameters.keys()):
            fact = f"no parameter '{name}' is declared"
            todo = did_you_mean(name, rule.parameters) or "declare it under 'parameters'"
            raise origin.mistake(rule.id, key, fact, todo, word=f"${name}")
    for name in rule.parameters.keys() - used:
        fact = f"no SQL uses the parameter '{name}'"
        raise origin.mistake(rule.id, ("parameters", name), fact, f"write ${name}, or remove it")


def _check_message(rule: Rule, origin: Origin) -> None:
    choices = {*BUILT_IN, *rule.facts, *rule.parameters}
    try:
        wanted = placeholders(rule.message)
    except ValueError as error:
        fact = f"the message is no template: {error}"
        raise origin.mistake(rule.id, ("message",), fact, "double a brace to print it") from error
    for name in sorted(wanted - choices):
        fact = f"the message asks for {{{name}}}, which is no fact"
        todo = did_you_mean(name, choices)
        raise origin.mistake(rule.id, ("message",), fact, todo, word=f"{{{name}")
    for name in {*rule.facts} & {*BUILT_IN, *rule.parameters}:
        fact = f"the fact '{name}' has the name of something else"
        raise origin.mistake(rule.id, ("facts", name), fact, "give it another name")


def _check_examples(rule: Rule, origin: Origin) -> None:
    if not any(example.fires for example in rule.examples):
        raise origin.mistake(rule.id, ("examples",), "has no example that fires", "add one")
    if all(example.fires or example.not_evaluated for example in rule.examples):
        raise origin.mistake(rule.id, ("examples",), "has no example that stays quiet", "add one")
    for index, example in enumerate(rule.examples):
        for table, rows in example.tables.items():
            _check_example_table(rule, origin, ("examples", index, "tables", table), rows)


def _check_example_table(
    rule: Rule, origin: Origin, key: KeyPath, rows: list[dict[str, Cell]]
) -> None:
    table = str(key[-1])
    columns = PAST_TABLES.get(table) or GIVEN.get(table.removeprefix("prev_"))
    if columns is None:
        raise _no_table(rule, origin, key, table)
    for number, row in enumerate(rows):
        for column in row.keys() - columns.keys():
            fact = f"no column '{column}' in table '{table}'"
            todo = did_you_mean(column, columns)
            raise origin.mistake(rule.id, (*key, number, column), fact, todo)


def _no_table(rule: Rule, origin: Origin, key: KeyPath, table: str) -> RuleError:
    return origin.mistake(rule.id, key, f"no table '{table}'", did_you_mean(table, GIVEN))


def fragments(rule: Rule) -> list[tuple[KeyPath, str]]:
    """Return every piece of SQL in a rule with the key it stands at."""
    found: list[tuple[KeyPath, str]] = [(("where",), rule.where), (("when",), rule.when)]
    if rule.query is not None:
        found.insert(0, (("query",), rule.query))
    found += [(("facts", name), text) for name, text in rule.facts.items()]
    if rule.softer is not None:
        found.append((("softer", "when"), rule.softer.when))
    return found
