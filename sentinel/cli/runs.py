"""Which run of a health log a word on the command line means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.daemon.places import Places
    from sentinel.reports.table import Rows

_PLACES_OF_RUNS = "SELECT DISTINCT run_id, path FROM checkpoints ORDER BY run_id"
_NEWEST = "SELECT run_id FROM checkpoints ORDER BY judged_at DESC, run_id LIMIT 1"


def ask(places: Places, query: str) -> Rows:
    """Return the answer of the health log to a query."""
    from sentinel.health.query import sql
    from sentinel.reports.table import rows_of

    return rows_of(sql(places.log, query))


def newest_run(places: Places) -> str:
    """Return the run whose checkpoint was judged last."""
    found = ask(places, _NEWEST).rows
    if not found:
        raise ConfigError(
            "health log",
            where=f"'{places.log}'",
            fact="holds no run yet",
            todo="`sentinel scan DIR --log DIR`, `sentinel watch` or `sentinel run` writes one",
        )
    return str(found[0][0])


def run_named(name: str, places: Places) -> str:
    """Return the run that an id, the beginning of one, or a directory stands for.

    The journal knows where a run writes, also before its first checkpoint; a log written by
    `sentinel scan` has none, there the paths of the checkpoints tell.
    """
    logged = [(str(run_id), Path(str(path))) for run_id, path in ask(places, _PLACES_OF_RUNS).rows]
    roots = [*_journal_roots(places.journal), *((run_id, path.parent) for run_id, path in logged)]
    place = Path(name).absolute()
    ways = (
        {run_id for run_id, root in roots if root in {place, place.resolve()}},
        {run_id for run_id, _ in [*roots, *logged] if run_id.startswith(name)},
        {run_id for run_id, path in logged if path in {place, place.resolve()}},
    )
    found = next((one for one in ways if one), set())
    if len(found) == 1:
        return found.pop()
    raise ConfigError(
        f"run '{name}'",
        fact=f"{len(found)} runs are called so" if found else "is not in the health log",
        todo="see `sentinel log` for all runs",
    )


def _journal_roots(path: Path) -> list[tuple[str, Path]]:
    from sentinel.daemon.journal import Journal

    if not path.exists():
        return []
    journal = Journal(path)
    try:
        return [(run_id, root) for run_id, roots in journal.runs().items() for root in roots]
    finally:
        journal.close()
