"""SQL in a rule reads the tables and nothing else: no files, network, settings or writes."""

from __future__ import annotations

import pytest

from sentinel.errors import RuleError
from sentinel.rules.database import open_database
from sentinel.rules.evaluate import evaluate
from sentinel.rules.examples import rows_to_table
from sentinel.rules.load import load_rules

FORBIDDEN = {
    "read_csv": "SELECT * FROM read_csv('{file}')",
    "read_text": "SELECT * FROM read_text('{file}')",
    "read_blob": "SELECT * FROM read_blob('{file}')",
    "read_parquet": "SELECT * FROM read_parquet('{file}')",
    "read_json": "SELECT * FROM read_json('{file}')",
    "file as a table": "SELECT * FROM '{file}'",
    "glob": "SELECT * FROM glob('{file}*')",
    "http": "SELECT * FROM read_csv('https://example.org/a.csv')",
    "dynamic query": "SELECT * FROM query('FROM read_text(''{file}'')')",
    "attach": "ATTACH '{file}.db' AS other",
    "copy": "COPY tensors TO '{file}.csv'",
    "export": "EXPORT DATABASE '{file}.d'",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "set": "SET threads = 8",
    "set external access": "SET enable_external_access = true",
    "pragma": "PRAGMA database_list",
    "call": "CALL pragma_version()",
    "create": "CREATE TABLE mine AS SELECT 1",
    "drop": "DROP TABLE tensors",
    "insert": "INSERT INTO tensors (tensor) VALUES ('x')",
    "insert within a select": (
        "WITH x AS (INSERT INTO tensors (tensor) VALUES ('x') RETURNING *) SELECT * FROM x"
    ),
    "two statements": "SELECT 1; SELECT 2",
    "closing the bracket": "SELECT 1) ; DROP TABLE tensors; SELECT (1",
    "a variable of the caller": "SELECT * FROM outside",
}


@pytest.mark.parametrize("text", FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden_sql(make_rule, write_rule, tmp_path, text) -> None:
    """Refused when a rule file is loaded, a `rule-error` when it is evaluated, and no effect."""
    outside = rows_to_table("tensors", [{"tensor": "secret"}])
    secret = tmp_path / "secret"
    secret.write_text("a,b\n1,2\n", encoding="utf-8")
    query = text.replace("{file}", str(secret))
    quoted = query.replace("'", "''")
    path = write_rule("table: pairs", f"query: '{quoted}'")

    with pytest.raises(RuleError, match="my-rule"):
        load_rules([path])
    rules = [make_rule(id="bad", query=query, when="true"), make_rule(id="good", when="true")]
    answer = evaluate(rules, {"tensors": outside})
    assert [found.rule for found in answer.findings] == ["good", "rule-error"]
    assert answer.findings[0].message == "1 of 1"
    assert {secret, path} == set(tmp_path.iterdir())


def test_predicates_are_shut_in_too(make_rule) -> None:
    """What holds for a query holds for where, when and facts."""
    steal = "(SELECT count(*) FROM read_text('/etc/hostname')) > 0"
    tables = {"tensors": rows_to_table("tensors", [{"tensor": "a"}])}
    for changes in ({"where": steal}, {"when": steal}, {"when": "true", "facts": {"n": steal}}):
        answer = evaluate((make_rule(**changes),), tables)
        assert [found.rule for found in answer.findings] == ["rule-error"]


def test_what_shuts_the_database() -> None:
    """No spilling to the disk, one thread, bounded memory, and none of it can be changed."""
    names = ("temp_directory", "threads", "enable_external_access", "lock_configuration")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    with open_database({}) as database:
        assert database.rows(f"SELECT {asked}", {}) == [("", 1, False, True)]
