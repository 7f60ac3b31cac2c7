# ruff: noqa: S608 - names and types come from tables.py
"""The database the rules run in: DuckDB in memory, shut on all sides.

No file, network, extension or setting can be reached from a rule's SQL, and the tables cannot
be written: https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import duckdb

from sentinel.rules.query_error import QueryError
from sentinel.rules.tables import GIVEN, HISTORY, HISTORY_KEYS, PAST_TABLES

if TYPE_CHECKING:
    import pyarrow as pa

Row: TypeAlias = tuple[object, ...]

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": "2GB",
    "allow_community_extensions": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# In this order: without external access the temporary directory can no longer be taken away.
_SHUT = (
    "SET temp_directory = ''",  # a large query fails instead of spilling to the disk
    "SET enable_external_access = false",
    "SET python_enable_replacements = false",  # else a name can mean a Python variable
)


class Database:
    """The tables of one checkpoint, for reading; each is filled when a statement first names it."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._filled: set[str] = set()

    def rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one SELECT; raise QueryError for anything else, and for one that fails."""
        with self._selected(sql, parameters):
            return self._connection.fetchall()

    def columns(self, sql: str, parameters: Mapping[str, object]) -> dict[str, str]:
        """Return the columns of one SELECT and their DuckDB types; raises as `rows`."""
        with self._selected(sql, parameters):
            return {column[0]: str(column[1]) for column in self._connection.description or ()}

    @contextmanager
    def _selected(self, sql: str, parameters: Mapping[str, object]) -> Iterator[None]:
        try:
            statements = self._connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise QueryError("a rule's SQL must be one SELECT")
            self._fill(sql)
            # Read-only, because a WITH in a SELECT can hold an INSERT.
            self._connection.execute("BEGIN TRANSACTION READ ONLY")
            try:
                self._connection.execute(statements[0], dict(parameters))
                yield
            finally:
                self._connection.execute("ROLLBACK")
        except duckdb.Error as error:
            raise QueryError(str(error)) from error

    def _fill(self, sql: str) -> None:
        """Fill the tables whose names occur in a statement, wherever they stand in it."""
        text = sql.lower()
        for name in (*GIVEN, *PAST_TABLES):
            if name in text and name not in self._filled:
                self._filled.add(name)
                before = self._tables.get(f"prev_{name}") if name in GIVEN else None
                _fill(self._connection, name, self._tables.get(name), before)


@contextmanager
def open_database(tables: Mapping[str, pa.Table]) -> Iterator[Database]:
    """Open a database that holds the given tables in their declared columns and types.

    A column that is absent, or whose value does not fit the declared type, is NULL; columns
    nobody declared are left out.
    """
    connection = duckdb.connect(":memory:", config=_CONFIG)
    try:
        for setting in _SHUT:
            connection.execute(setting)
        connection.execute("SET lock_configuration = true")
        yield Database(connection, tables)
    finally:
        connection.close()


def _fill(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    now: pa.Table | None,
    was: pa.Table | None,
) -> None:
    given = {alias: table for alias, table in (("now_", now), ("was_", was)) if table is not None}
    for alias, table in given.items():
        connection.register(alias, table)
    connection.execute(_creation(name, now, was))
    for alias in given:
        connection.unregister(alias)


def _creation(name: str, now: pa.Table | None, was: pa.Table | None) -> str:
    history = HISTORY.get(name, {})
    now_sql = _conformed(name, "now_", now)
    if was is None:
        added = [f'NULL::{kind} AS "{column}"' for column, (_, kind) in history.items()]
        return f"CREATE TABLE {name} AS SELECT {', '.join(['*', *added])} FROM ({now_sql})"
    added = [f'({sql}) AS "{column}"' for column, (sql, _) in history.items()]
    keys = HISTORY_KEYS[name]
    matching = " AND ".join(f"now.{key} IS NOT DISTINCT FROM was.{key}" for key in keys)
    # A name that is there twice has no one history.
    alone = f"QUALIFY count(*) OVER (PARTITION BY {', '.join(keys)}) = 1" if keys else ""
    return f"""
CREATE TABLE {name} AS
SELECT {", ".join(["now.* EXCLUDE (place_)", *added])}
FROM (SELECT *, row_number() OVER () AS place_ FROM ({now_sql})) AS now
LEFT JOIN (SELECT * FROM ({_conformed(name, "was_", was)}) {alone}) AS was ON {matching or "true"}
ORDER BY now.place_"""


def _conformed(name: str, relation: str, table: pa.Table | None) -> str:
    """Return the SELECT of exactly the declared columns."""
    present: Sequence[str] = table.column_names if table is not None else ()
    columns = [
        f'TRY_CAST("{column}" AS {kind}) AS "{column}"'
        if column in present
        else f'NULL::{kind} AS "{column}"'
        for column, kind in (GIVEN.get(name) or PAST_TABLES[name]).items()
    ]
    origin = f"FROM {relation}" if table is not None else "WHERE false"
    return f"SELECT {', '.join(columns)} {origin}"
