from __future__ import annotations

import re
from pathlib import Path

import pytest

from sentinel.health.query import sql
from sentinel.health.schema import DATASETS

PAGE = (Path(__file__).parents[2] / "docs" / "health-log.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def columns(dataset: str) -> list[tuple[str, str]]:
    section = PAGE.split(f"### {dataset}\n")[1].split("\n#")[0]
    return re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_the_page_lists_the_columns_as_they_are(dataset):
    """Names, order and types of the table in docs/health-log.md are those of the schema."""
    actual = [(field.name, type_words(str(field.type))) for field in dataset.schema]

    assert columns(dataset.name) == actual


def type_words(name: str) -> str:
    return re.sub(r"list<\w+: (\w+)>", r"list<\1>", name).replace("tz=UTC", "UTC")


def test_the_page_answers_ten_questions():
    """Not one more or less than its heading says."""
    assert len(QUERIES) == 10


@pytest.mark.parametrize("query", QUERIES, ids=range(1, 11))
def test_every_query_of_the_page_finds_something(story, tmp_path, query):
    """Each runs as printed on a real log and has an answer there."""
    story.write_story(tmp_path)

    assert sql(tmp_path, query).num_rows > 0
