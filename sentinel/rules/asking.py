"""Asking about one checkpoint: directly where a rule's SQL is plain, else in the database.

The database is opened when it is first needed, and most checkpoints are judged without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self, cast

from sentinel.rules import sql
from sentinel.rules.counts import Counts
from sentinel.rules.direct.answers import Direct

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.rules.database import Database, Row
    from sentinel.rules.direct.answers import Answer
    from sentinel.rules.rule import Rule


class Asking:
    """The tables of one checkpoint, asked about by one rule after another.

    ``direct`` False asks everything in the database: the two ways are held to be alike. All
    methods raise QueryError for SQL that DuckDB refuses.
    """

    def __init__(self, tables: Mapping[str, pa.Table], *, direct: bool = True) -> None:
        self._tables = dict(tables)
        self._direct = Direct(tables) if direct else None
        self._stack = ExitStack()
        self._database: Database | None = None
        self._answers: dict[str, Answer | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self._stack.close()

    def add(self, name: str, table: pa.Table) -> None:
        """Put rows into a table that nobody has named so far."""
        self._tables[name] = table
        self._stack.close()
        self._database = None
        if self._direct is not None:
            self._direct.add(name, table)

    def counts(self, rule: Rule) -> tuple[Counts, list[str] | None]:
        """Return what a rule counts, and the columns that are unknown where it is undecided.

        None stands for columns that were not looked at.
        """
        answer = self._direct.answer(rule) if self._direct is not None else None
        self._answers[rule.id] = answer
        if answer is not None:
            named = sql.words(f"{rule.where}\n{rule.when}")
            undecided = answer.counts.decide(rule.match) is None
            return answer.counts, answer.unknown_columns(named) if undecided else None
        (row,) = self.rows(rule, sql.count_rows(rule))
        return Counts(*cast("tuple[int, int, int, int, int, int]", row)), None

    def unknown_columns(self, rule: Rule) -> list[str]:
        """Return the columns named in the predicate that are NULL in a row it cannot decide."""
        known = self._columns(rule)
        named = sql.words(f"{rule.where}\n{rule.when}")
        columns = tuple(column for column in known if column in named)
        (row,) = self.rows(rule, sql.count_nulls(rule, columns))
        _rows, *nulls = cast("tuple[int, ...]", row)
        return [column for column, count in zip(columns, nulls, strict=False) if count]

    def hits(self, rule: Rule, expressions: Mapping[str, str]) -> dict[str, object]:
        """Return what aggregates say of the bad rows, by name."""
        if not expressions:
            return {}
        answer = self._answers.get(rule.id)
        found = answer.hits(expressions) if answer is not None else None
        if found is None:
            (row,) = self.rows(rule, sql.select_hits(rule, expressions))
            found = dict(zip(expressions, row, strict=True))
        return found

    def listed(self, rule: Rule) -> list[tuple[object, object]]:
        """Return the tensor and the part of each bad row, in their order."""
        answer = self._answers.get(rule.id)
        found = answer.listed(rule.names) if answer is not None else None
        if found is not None:
            return found
        known = self._columns(rule)
        expressions = {
            "name_": rule.names or ("tensor" if "tensor" in known else "NULL"),
            "part_": "part" if "part" in known else "NULL",
        }
        hits = self.rows(rule, sql.select_hits(rule, expressions))
        return [(name, part) for name, part in hits]

    def _columns(self, rule: Rule) -> dict[str, str]:
        """Return the columns of the rows a rule judges, and their DuckDB types."""
        source = sql.source_of(rule)
        return self._opened().columns(source, sql.bound(rule, source))

    def rows(self, rule: Rule, statement: str) -> list[Row]:
        """Run one statement of a rule in the database."""
        return self._opened().rows(statement, sql.bound(rule, statement))

    def _opened(self) -> Database:
        if self._database is None:
            # Most checkpoints are judged without it.
            from sentinel.rules.database import open_database  # noqa: PLC0415

            self._database = self._stack.enter_context(open_database(self._tables))
        return self._database
