# ruff: noqa: S608 - the SQL under check is what this file is about
"""Checking the SQL of rules by running it over empty tables of the declared columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sentinel.errors import RuleError
from sentinel.rules import sql
from sentinel.rules.database import Database, open_database
from sentinel.rules.mistakes import KeyPath, Origin, did_you_mean
from sentinel.rules.query_error import QueryError
from sentinel.rules.rule import Rule
from sentinel.rules.tables import TABLES

# How DuckDB names what it does not find, in the releases since 1.1.
_NO_COLUMN = re.compile(
    r"Referenced column \"(?P<name>[^\"]+)\"|column named \"(?P<named>[^\"]+)\""
)
_NO_TABLE = re.compile(r"Table with name (?P<name>\S+) does not exist")

_TRUTH = frozenset({"BOOLEAN", "bool"})  # as DuckDB 2 and 1 describe a column of truth values


def check_sql(rules: Iterable[tuple[Rule, Origin]]) -> None:
    """Raise RuleError for the first rule whose SQL does not fit the tables."""
    with open_database({}) as database:
        for rule, origin in rules:
            _check_rule(rule, origin, database)


def _check_rule(rule: Rule, origin: Origin, database: Database) -> None:
    """Add the fragments one by one, so that a failure belongs to the one just added."""
    bare = replace(rule, where="true", when="true")
    source = sql.source_of(rule)
    columns = _try(rule, origin, ("query",), source, database)
    for key, text in (("where", rule.where), ("when", rule.when)):
        types = _try(rule, origin, (key,), _alone(bare, text), database)
        _check_truth(rule, origin, (key,), types["value_"])
    for name, text in rule.facts.items():
        _try(rule, origin, ("facts", name), sql.select_hits(rule, {name: text}), database)
    if rule.softer is not None:
        statement = sql.select_hits(rule, {"value_": rule.softer.when})
        types = _try(rule, origin, ("softer", "when"), statement, database)
        _check_truth(rule, origin, ("softer", "when"), types["value_"])
    if rule.names is not None and rule.names not in columns:
        fact = f"no column '{rule.names}' in {_place(rule)}"
        raise origin.mistake(rule.id, ("names",), fact, did_you_mean(rule.names, columns))


def _alone(bare: Rule, text: str) -> str:
    return f"{sql.judged(bare)}SELECT (\n{text}\n) AS value_ FROM source"


def _check_truth(rule: Rule, origin: Origin, key: KeyPath, kind: str) -> None:
    if kind not in _TRUTH:
        name = ".".join(str(part) for part in key)
        fact = f"'{name}' is of type {kind}, not a truth value"
        raise origin.mistake(rule.id, key, fact, "compare it with something")


def _try(
    rule: Rule, origin: Origin, key: KeyPath, statement: str, database: Database
) -> Mapping[str, str]:
    try:
        return database.columns(statement, sql.bound(rule, statement))
    except QueryError as error:
        raise _explain(rule, origin, key, str(error)) from error


def _explain(rule: Rule, origin: Origin, key: KeyPath, problem: str) -> RuleError:
    column = _NO_COLUMN.search(problem)
    if column:
        name = column["name"] or column["named"]
        known = {known for table in _tables_near(rule) for known in TABLES[table]}
        fact = f"no column '{name}' in {_place(rule)}"
        return origin.mistake(rule.id, key, fact, did_you_mean(name, known), word=name)
    table = _NO_TABLE.search(problem)
    if table:
        name = table["name"]
        fact = f"no table '{name}'"
        return origin.mistake(rule.id, key, fact, did_you_mean(name, TABLES), word=name)
    fact = f"the SQL is refused: {problem.splitlines()[0]}"
    return origin.mistake(rule.id, key, fact, "see https://duckdb.org/docs/stable/sql/introduction")


def _tables_near(rule: Rule) -> tuple[str, ...]:
    # The optional ones count too: their columns are there to be named.
    return sql.tables_of(replace(rule, optional=[])) or tuple(TABLES)


def _place(rule: Rule) -> str:
    return f"table '{rule.table}'" if rule.table else "the query"
