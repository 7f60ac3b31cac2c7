"""Reading the health log: one locked DuckDB connection, three views.

The views stand on Arrow datasets, not on DuckDB's own file functions: the engine's access to
files is switched off altogether, so a query can neither write nor read anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from sentinel.errors import ConfigError, StateError
from sentinel.health.identity import require_run_id
from sentinel.health.locks import unmerged
from sentinel.health.schema import CHECKPOINTS, DATASETS, EVENTS, TENSORS, Dataset

_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # Python variables of the caller are no tables
    "temp_directory": "",  # a large sort would otherwise spill into the working directory
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the machine a query may take: ``memory`` in DuckDB's words ("512MB")."""

    memory: str
    threads: int


_RUN = pa.field("run_id", pa.string())
_MERGE_RETRIES = 6
_PATIENCE = 3
"""After so many readings that were in vain, merging has to wait for the next."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The parts that were there at one moment.

    Checkpoints are listed before tensors and events, the reverse of the order of writing: the
    tensors and events of every checkpoint in a snapshot are in it too.
    """

    datasets: tuple[ds.FileSystemDataset, ...]

    @classmethod
    def of(cls, root: Path, run_id: str | None = None) -> Snapshot:
        """List the parts below ``root``, of one run or all; what does not exist yet has none."""
        return cls(tuple(_open(root, dataset, run_id) for dataset in DATASETS))

    def is_intact(self) -> bool:
        """Tell whether every part is still there: merging parts removes the merged ones."""
        return all(Path(file).exists() for dataset in self.datasets for file in dataset.files)


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection with the views ``checkpoints``, ``tensors`` and ``events``.

    It sees the parts that were there when it was made; a part merged away later makes a query
    fail, which `read` and `sql` handle by asking again. Each view holds one row a key (the
    newest), and ``tensors`` only those whose checkpoint is in the log, since its row is the
    commit mark. A log without any part has empty views. Times are shown in UTC.
    """
    return _connect(Snapshot.of(root))


def read(
    root: Path,
    ask: Callable[[duckdb.DuckDBPyConnection], _Answer],
    run_id: str | None = None,
    *,
    limits: Limits | None = None,
) -> _Answer:
    """Return ``ask(connection)``, asked again when parts were merged away meanwhile.

    With ``run_id`` the views hold that run alone: the files of no other are looked at.
    Beyond ``limits`` a query raises duckdb.OutOfMemoryException.
    """
    for number in range(_MERGE_RETRIES):
        runs = () if number < _PATIENCE else _runs(root, run_id)
        with unmerged(root, runs):
            try:
                snapshot = Snapshot.of(root, run_id)
            except FileNotFoundError:
                continue  # merged away between listing and opening
            with _connect(snapshot, limits) as connection:
                try:
                    return ask(connection)
                except (duckdb.Error, OSError):
                    if snapshot.is_intact():
                        raise
    raise StateError(
        "health log",
        where=f"in '{root}'",
        fact="its parts were merged again and again while it was read",
        todo="ask again",
    )


def fetch(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: tuple[object, ...] = ()
) -> pa.Table:
    """Return the answer to one query, or raise ConfigError when the statement has none."""
    relation = connection.sql(query, params=list(parameters) or None)
    if relation is None:
        raise ConfigError(
            "query", fact="the statement answers nothing", todo="the log is read only: use SELECT"
        )
    return relation.to_arrow_table()


def fetch_from(
    tables: Mapping[str, pa.Table],
    query: str,
    parameters: tuple[object, ...] = (),
    *,
    limits: Limits | None = None,
) -> pa.Table:
    """Return the answer to a query over some tables, by a connection as locked as the log's."""
    with duckdb.connect(config=_LOCKED | _budget(limits)) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return fetch(connection, query, parameters)


def sql(root: Path, query: str) -> pa.Table:
    """Return the answer to a query over the three views.

    Raises ConfigError when the query cannot be answered, with DuckDB's reason on one line.
    """
    try:
        return read(root, lambda connection: fetch(connection, query))
    except duckdb.Error as error:
        raise ConfigError(
            "query", where="in --sql", fact=_first_line(error), todo=_hint(query)
        ) from error


def _open(root: Path, dataset: Dataset, run_id: str | None) -> ds.FileSystemDataset:
    schema = dataset.schema if _RUN in dataset.schema else dataset.schema.append(_RUN)
    parts = _parts(root, dataset, run_id)
    # A listing that merging changes halfway may show neither the sources nor the merged part.
    while (again := _parts(root, dataset, run_id)) != parts:
        parts = again
    partitioning = ds.partitioning(pa.schema([_RUN]), flavor="hive")
    return ds.dataset(parts, schema=schema, format="parquet", partitioning=partitioning)


def _runs(root: Path, run_id: str | None) -> list[str]:
    if run_id is not None:
        return [run_id]
    found = (root / CHECKPOINTS.name).glob("run_id=*")
    return sorted(partition.name.removeprefix("run_id=") for partition in found)


def _parts(root: Path, dataset: Dataset, run_id: str | None) -> list[str]:
    try:
        runs = "*" if run_id is None else require_run_id(run_id)
    except StateError:
        return []  # no run has such a name
    return sorted(str(path) for path in (root / dataset.name).glob(f"run_id={runs}/*.parquet"))


def _connect(snapshot: Snapshot, limits: Limits | None = None) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config=_LOCKED | _budget(limits))
    connection.execute("SET TimeZone = 'UTC'")
    for dataset, parts in zip(DATASETS, snapshot.datasets, strict=True):
        connection.register(f"{dataset.name}_parts", parts)
    connection.execute(_view(CHECKPOINTS))
    connection.execute(_view(EVENTS))
    connection.execute(
        _view(TENSORS, "WHERE checkpoint_id IN (SELECT checkpoint_id FROM checkpoints_parts)")
    )
    connection.execute("SET lock_configuration = true")
    return connection


def _budget(limits: Limits | None) -> dict[str, str | bool | int | float | list[str]]:
    return {} if limits is None else {"memory_limit": limits.memory, "threads": limits.threads}


def _view(dataset: Dataset, where: str = "") -> str:
    # run_id follows from the key; naming it lets a filter on it reach the partitions.
    key = ", ".join(("run_id", *dataset.key))
    order = f"ORDER BY {dataset.name}_parts.{dataset.newest_by} DESC" if dataset.newest_by else ""
    return (
        f"CREATE VIEW {dataset.name} AS SELECT * FROM {dataset.name}_parts {where} "  # noqa: S608 - names are ours
        f"QUALIFY row_number() OVER (PARTITION BY {key} {order}) = 1"
    )


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0].rstrip(" :;.")


def _hint(query: str) -> str:
    words = {word.strip("(),;").lower() for word in query.split()}
    if "at" in words:
        return 'at is a word of SQL: write the column as "at" or events.at'
    return "`DESCRIBE checkpoints`, `tensors` or `events` lists the columns"
