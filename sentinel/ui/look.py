"""What every page is made from: the log, the rules, and how much of the machine it may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentinel.health.query import Limits, fetch, read
from sentinel.rules.rule import Rule
from sentinel.ui.drawings import Drawings

if TYPE_CHECKING:
    import duckdb
    import jinja2

LIMITS = Limits(memory="512MB", threads=2)
"""What one question to the log may take beside a training."""


Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Look:
    """The health log at ``log`` and what is needed to tell of it.

    ``journal`` need not be there. ``rules`` are those by id, ``options`` what commands need to
    find the state (`--state DIR`).
    """

    log: Path
    journal: Path
    rules: Mapping[str, Rule]
    options: Sequence[str]
    templates: jinja2.Environment
    drawings: Drawings

    def ask(self, query: str, *parameters: object, run_id: str | None = None) -> Rows:
        """Return the rows of an answer, over the files of one run alone where that is enough.

        Raises duckdb.OutOfMemoryException beyond `LIMITS`.
        """

        def rows(connection: duckdb.DuckDBPyConnection) -> Rows:
            found: Rows = fetch(connection, query, parameters).to_pylist()
            return found

        return read(self.log, rows, run_id, limits=LIMITS)

    def render(self, template: str, **values: object) -> str:
        """Return a template of the pages, filled in."""
        return self.templates.get_template(template).render(values)
