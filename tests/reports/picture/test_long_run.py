"""A run of ten thousand checkpoints: a page of a few megabytes, which says what it leaves out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.health.schema import CHECKPOINTS, TENSORS
from sentinel.reports.picture.same_in_words import MOST_ROWS

MANY = 10_000
LAYERS = tuple(f"layers.{number}.q_proj" for number in range(42))


def repeat(run, dataset, rename) -> None:
    """Write the parts of the one checkpoint that was judged again, as a merged part would hold."""
    partition = run.log.partition(dataset, run.run_id)
    (part,) = partition.glob("*.parquet")
    table = pq.ParquetFile(part).read()
    each = np.repeat(np.arange(MANY), table.num_rows)
    tiled = table.take(pa.array(np.tile(np.arange(table.num_rows), MANY)))
    for name, values in rename(each).items():
        place = tiled.schema.get_field_index(name)
        tiled = tiled.set_column(place, dataset.schema.field(name), pa.array(values))
    pq.write_table(tiled.cast(dataset.schema), partition / f"merged-1-{0:032x}.parquet")
    part.unlink()


def ids(each) -> list[str]:
    return [f"{number:032x}" for number in each]


@pytest.fixture
def long_run(new_run, tmp_path):
    run = new_run(tmp_path, layers=LAYERS)
    run.judge(run.save(10))
    repeat(run, TENSORS, lambda each: {"checkpoint_id": ids(each)})
    repeat(
        run,
        CHECKPOINTS,
        lambda each: {
            "checkpoint_id": ids(each),
            "step": 10 * (each + 1),
            "seq": each,
            "verdict": ["faulty" if number == 7777 else "healthy" for number in each],
            "loss_steps": [[10 * number + 5, 10 * number + 10] for number in each.tolist()],
            "losses": [[2.0, 1.0 + 1 / (1 + number)] for number in each.tolist()],
        },
    )
    yield run
    run.journal.close()


def test_ten_thousand_checkpoints(long_run, parse):
    """Small enough to send; the one faulty checkpoint is on it; pictures say what they lack."""
    text = long_run.page()

    page = parse(text)

    assert len(text.encode()) < 2_500_000
    verdicts = page.one("section", id="verdicts")
    assert "10,000 checkpoints are drawn as" in verdicts.text
    assert "step 77780: faulty" in text
    rows = [row for table in verdicts.all("tbody") for row in table.all("tr")]
    assert len(rows) <= MOST_ROWS
    assert any("faulty" in row.text for row in rows)
    assert "Of 20,000 values" in page.one("section", id="loss").text
    modules = page.one("section", id="modules").text
    assert "40 of 42 modules are shown" in modules
    assert "60 of 10,000 checkpoints are shown" in modules
