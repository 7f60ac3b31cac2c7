# ruff: noqa: S608 - rules are SQL; the sandbox of database.py guards what they may do
"""The SQL text of a rule: what it names, and the statements made of its parts.

Every fragment is pasted on lines of its own, so that a comment at its end stays harmless;
values are always bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from sentinel.rules.rule import Parameter, Rule
from sentinel.rules.tables import TABLES

# Quoted text and comments hold words that name nothing; "quoted names" stay.
_SILENT = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_WORD = re.compile(r"(?<![$\w])[A-Za-z_]\w*")
_REMEMBERED = 4096
_PARAMETER = re.compile(r"\$([A-Za-z_]\w*)")


@lru_cache(_REMEMBERED)
def words(sql: str) -> frozenset[str]:
    """Return the names an SQL text uses: columns, tables, functions and keywords alike."""
    return frozenset(_WORD.findall(_SILENT.sub(" ", sql)))


def parameters_in(sql: str) -> set[str]:
    """Return the names of the parameters an SQL text binds."""
    return set(_PARAMETER.findall(_SILENT.sub(" ", sql)))


def bound(rule: Rule, sql: str) -> Mapping[str, Parameter]:
    """Return the parameters a statement wants; DuckDB refuses one that it does not use."""
    used = parameters_in(sql)
    return {name: value for name, value in rule.parameters.items() if name in used}


def source_of(rule: Rule) -> str:
    """Return the SELECT whose rows the rule judges."""
    return rule.query if rule.query is not None else f"SELECT * FROM {rule.table}"


def tables_of(rule: Rule) -> tuple[str, ...]:
    """Return the tables that a rule cannot do without."""
    if rule.table is not None:
        return (rule.table,)
    named = words(rule.query or "")
    return tuple(name for name in TABLES if name in named and name not in rule.optional)


def named_tables(rule: Rule) -> frozenset[str]:
    """Return every table that any SQL of a rule may name, those it can do without included."""
    texts = (rule.query or rule.table or "", rule.where, rule.when, *rule.facts.values())
    return _tables_in(texts)


@lru_cache(_REMEMBERED)
def _tables_in(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(TABLES) & words("\n".join(texts))


def judged(rule: Rule) -> str:
    """Return the head of every statement: `judged` (rows, in scope, bad) and `hits`."""
    return f"""
WITH source AS (
{source_of(rule)}
),
judged AS (SELECT *, (
{rule.where}
) AS in_scope_, (
{rule.when}
) AS is_bad_ FROM source),
hits AS (SELECT * EXCLUDE (in_scope_, is_bad_) FROM judged WHERE in_scope_ AND is_bad_)
"""


def count_rows(rule: Rule) -> str:
    """Return the statement that counts rows: bad, good, unknown; the same of unknown scope."""
    return f"""{judged(rule)}
SELECT count(*) FILTER (in_scope_ AND is_bad_),
       count(*) FILTER (in_scope_ AND NOT is_bad_),
       count(*) FILTER (in_scope_ AND is_bad_ IS NULL),
       count(*) FILTER (in_scope_ IS NULL AND is_bad_),
       count(*) FILTER (in_scope_ IS NULL AND NOT is_bad_),
       count(*) FILTER (in_scope_ IS NULL AND is_bad_ IS NULL)
FROM judged"""


def select_hits(rule: Rule, expressions: Mapping[str, str]) -> str:
    """Return the statement that reads expressions, by name, from the hit rows."""
    listed = ",\n".join(f'(\n{sql}\n) AS "{name}"' for name, sql in expressions.items())
    return f"{judged(rule)}SELECT {listed} FROM hits"


def count_nulls(rule: Rule, columns: tuple[str, ...]) -> str:
    """Return the statement that counts, per column, the NULLs in the undecided rows."""
    counts = ", ".join(f'count(*) FILTER ("{column}" IS NULL)' for column in columns)
    return f"""{judged(rule)}SELECT count(*), {counts or "NULL"} FROM judged
WHERE in_scope_ IS NULL OR (in_scope_ AND is_bad_ IS NULL)"""
