"""Merging the many small parts of a run, without ever losing a row."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.health.log import Writer, write_part
from sentinel.health.schema import Dataset


def compact_parts(dataset: Dataset, partition: Path, writer: Writer) -> None:
    """Merge all parts in ``partition`` into one, then unlink what was merged.

    Killed in between, both lie there and the next call merges them again, keeping the newest
    row of each key: the merged part is named after its sources, so it never takes the name of
    one of them.
    """
    sources = sorted(partition.glob("*.parquet"))
    if len(sources) <= 1:
        return
    names = "\n".join(path.name for path in sources)
    digest = hashlib.blake2b(names.encode(), digest_size=16).hexdigest()
    # Promoting unites by name: columns that a newer sentinel added are kept, not dropped.
    merged = pa.concat_tables(
        [pq.ParquetFile(path).read() for path in sources], promote_options="default"
    )
    write_part(newest_rows(dataset, merged), partition / f"merged-{digest}.parquet", writer)
    for path in sources:
        path.unlink(missing_ok=True)


def newest_rows(dataset: Dataset, table: pa.Table) -> pa.Table:
    """Return one row a key, in order of time where the dataset has one."""
    if dataset.newest_by is not None:
        table = table.sort_by(dataset.newest_by)
    numbered = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    last = numbered.group_by(list(dataset.key)).aggregate([("row", "max")])
    return table.take(last["row_max"].sort())
