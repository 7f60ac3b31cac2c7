"""The records in files of every format, each with its place for messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import RefusedError
from ..sections.data import Data
from .files import HUB_PREFIX

Record = dict[str, Any]


def read_records(
    files: Sequence[Path], names: Sequence[str], split: str, data: Data
) -> Iterator[tuple[str, Record]]:
    """Yield every record; ``names`` and ``split`` count for format dataset, ``files`` else.

    A text file is one record under `text_key`. Raises RefusedError for what can't be read.
    """
    if data.format == "dataset":
        for name in names:
            yield from _of_dataset(name, split)
        return
    for file in files:
        try:
            yield from _of_file(file, data)
        except OSError as error:
            raise RefusedError(f"data file '{file}'", f"can't be read ({error})") from error


def _of_file(file: Path, data: Data) -> Iterator[tuple[str, Record]]:
    if data.format == "text":
        text = file.read_text(encoding="utf-8", errors="replace")
        yield f"data file '{file}'", {data.text_key: text}
    elif data.format == "jsonl":
        yield from _of_lines(file)
    else:
        yield from _of_parquet(file)


def _of_lines(file: Path) -> Iterator[tuple[str, Record]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"data file '{file}:{number}'"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RefusedError(place, f"not JSON ({error})") from error
            if not isinstance(record, dict):
                raise RefusedError(place, "not a JSON object", "write one object a line")
            yield place, record


def _of_parquet(file: Path) -> Iterator[tuple[str, Record]]:
    import pyarrow as pa  # noqa: PLC0415 - only for this format
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        table = pq.ParquetFile(file)
        rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
        for number, row in enumerate(rows):
            yield f"data file '{file}', row {number}", row
    except (pa.ArrowException, ValueError) as error:
        fact = f"can't be read as Parquet ({' '.join(str(error).split())})"
        raise RefusedError(f"data file '{file}'", fact) from error


def _of_dataset(name: str, split: str) -> Iterator[tuple[str, Record]]:
    """Yield the rows of a directory of `save_to_disk`, or of what `load_dataset` finds."""
    import datasets  # noqa: PLC0415 - only for this format

    what = f"dataset '{name}'"
    try:
        if (Path(name) / "state.json").is_file() or (Path(name) / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name.removeprefix(HUB_PREFIX))
        if isinstance(found, dict):
            found = found[split]
    except KeyError as error:
        raise RefusedError(what, f"has no split {error}", "set data.split") from error
    # What fails here is the hub, a script or a file; the library has no root for its errors.
    except Exception as error:
        raise RefusedError(what, f"can't be loaded ({' '.join(str(error).split())})") from error
    for number, row in enumerate(found):
        yield f"{what}, row {number}", row
