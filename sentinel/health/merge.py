"""Making one Parquet part of several: each row once, in the order of the sources, in blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentinel.health.parts import INDEX, SOURCES, Part
from sentinel.health.schema import Dataset

ROWS_A_GROUP = 65_536
"""Rows of a row group: what is held in memory, and the least that is read for one row."""

_ROWS_A_BATCH = 16_384


def write_merged(dataset: Dataset, sources: Sequence[Part], file: BinaryIO) -> None:
    """Write the rows of all sources as one part, of each key only the newest.

    The rows of a checkpoint's tensors are one key here, since they are written together. Columns
    that a newer sentinel added are kept. Memory is one row group and the keys.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(pq.ParquetFile(part.path)) for part in sources]
        # United by name: an older sentinel does not drop what it does not know.
        schema = pa.unify_schemas([one.schema_arrow.remove_metadata() for one in files])
        key = dataset.key[0]
        index: list[tuple[str, int, int]] = []
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in _groups(_newest_rows(dataset, files, schema)):
                if key == "checkpoint_id":
                    _extend(index, rows[key])
                writer.write_table(rows, row_group_size=ROWS_A_GROUP)
            told = {INDEX: index, SOURCES: [part.mark() for part in sources]}
            writer.add_key_value_metadata(
                {name: json.dumps(value, separators=(",", ":")) for name, value in told.items()}
            )


def _newest_rows(
    dataset: Dataset, files: Sequence[pq.ParquetFile], schema: pa.Schema
) -> Iterator[pa.Table]:
    key = dataset.key[0]
    empty = schema.empty_table()
    for file, kept in zip(files, _holders(dataset, files), strict=True):
        for batch in file.iter_batches(_ROWS_A_BATCH, use_threads=False):
            rows = pa.Table.from_batches([batch]).replace_schema_metadata()
            if kept is not None:
                rows = rows.filter(pc.is_in(rows[key], kept))
            yield pa.concat_tables([empty, rows], promote_options="default")


def _holders(dataset: Dataset, files: Sequence[pq.ParquetFile]) -> list[pa.Array | None]:
    """Return of each source the keys of which it holds the newest rows, None when it is all.

    A later source wins where there is no time, or the same.
    """
    newest: dict[str, tuple[int, int]] = {}
    keys_of: list[set[str]] = []
    for number, file in enumerate(files):
        times = _times(dataset, file)
        keys_of.append(set(times))
        for key, at in times.items():
            newest[key] = max(newest.get(key, (at, number)), (at, number))
    holders: list[pa.Array | None] = []
    for number, keys in enumerate(keys_of):
        ours = [key for key in keys if newest[key][1] == number]
        holders.append(None if len(ours) == len(keys) else pa.array(ours, pa.string()))
    return holders


def _times(dataset: Dataset, file: pq.ParquetFile) -> dict[str, int]:
    """Return the time of the newest row of each key in a part, 0 where it has none."""
    key, newest_by = dataset.key[0], dataset.newest_by
    if newest_by is None:
        table = file.read(columns=[key], use_threads=False)
        return dict.fromkeys(table[key].unique().to_pylist(), 0)
    table = file.read(columns=[key, newest_by], use_threads=False)
    moments = pc.fill_null(table[newest_by].cast(pa.int64()), 0).to_pylist()
    times: dict[str, int] = {}
    for name, at in zip(table[key].to_pylist(), moments, strict=True):
        times[name] = max(times.get(name, at), at)
    return times


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in tables of one row group each."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        if count >= ROWS_A_GROUP:
            whole = pa.concat_tables(held)
            yield whole.slice(0, ROWS_A_GROUP)
            held = [whole.slice(ROWS_A_GROUP)]
            count -= ROWS_A_GROUP
    if count:
        yield pa.concat_tables(held)


def _extend(index: list[tuple[str, int, int]], ids: pa.ChunkedArray) -> None:
    """Add where the rows of each checkpoint lie, given the ids of the rows that come next."""
    written = index[-1][1] + index[-1][2] if index else 0
    runs = pc.run_end_encode(ids.combine_chunks())
    start = 0
    for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        index.append((name, written + start, end - start))
        start = end
