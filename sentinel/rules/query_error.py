"""The error of a rule's SQL, for those who do not open the database."""

from __future__ import annotations


class QueryError(Exception):
    """A statement that DuckDB refused, or that is no SELECT; in DuckDB's words."""
