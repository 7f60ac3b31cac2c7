"""Reading a dataset the way people do who never heard of sentinel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds

Rows = list[dict[str, object]]


def by_pyarrow(root: Path, dataset: str) -> Rows:
    return ds.dataset(root / dataset, partitioning="hive").to_table().to_pylist()


def by_duckdb(root: Path, dataset: str) -> Rows:
    pattern = f"{(root / dataset).as_posix()}/*/*.parquet"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(
            "SELECT * FROM read_parquet(?, hive_partitioning = true, union_by_name = true)",
            params=[pattern],
        )
        return found.to_arrow_table().to_pylist()


def by_polars(root: Path, dataset: str) -> Rows:
    scanned = pl.scan_parquet(
        root / dataset, hive_partitioning=True, missing_columns="insert", extra_columns="ignore"
    )
    return scanned.collect().to_dicts()


READERS: dict[str, Callable[[Path, str], Rows]] = {
    "pyarrow": by_pyarrow,
    "duckdb": by_duckdb,
    "polars": by_polars,
}
