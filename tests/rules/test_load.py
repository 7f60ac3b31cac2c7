"""A mistake in a rule file is an error with file, line and the nearest name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel.config import RuleSettings, parse_config
from sentinel.errors import ConfigError, RuleError
from sentinel.rules.files import bundled_files, catalogue
from sentinel.rules.load import load_rules
from sentinel.rules.rule import rule_of
from sentinel.rules.schema import read_rule
from sentinel.rules.yaml_lines import read_yaml
from sentinel.settled import Settled

MISTAKES = {
    "unknown column": (
        "zero_side_zero_count\n",
        "zero_cuont\n",
        (
            "rule 'my-rule' in '{file}:14': no column 'zero_cuont' in table 'pairs'; "
            "did you mean 'zero_side_zero_count'?"
        ),
    ),
    "unknown column on the second line of a predicate": (
        "* zero_side_numel",
        "* zero_side_nunel",
        (
            "rule 'my-rule' in '{file}:15': no column 'zero_side_nunel' in table 'pairs'; "
            "did you mean 'zero_side_numel'?"
        ),
    ),
    "unknown key": (
        "severity: warning",
        "severty: warning",
        "rule 'my-rule' in '{file}:4': there is no key 'severty'; did you mean 'severity'?",
    ),
    "unknown key in the page": (
        "  why: Why.",
        "  wy: Why.",
        "rule 'my-rule' in '{file}:9': there is no key 'wy' in 'page'; did you mean 'why'?",
    ),
    "unknown value": (
        "severity: warning",
        "severity: warnin",
        "rule 'my-rule' in '{file}:4': 'severity' is 'warnin'; did you mean 'warning'?",
    ),
    "unknown table": (
        "table: pairs",
        "table: pair",
        "rule 'my-rule' in '{file}:11': 'table' is 'pair'; did you mean 'pairs'?",
    ),
    "unknown table in a query": (
        "table: pairs",
        "query: SELECT * FROM piars",
        "rule 'my-rule' in '{file}:11': no table 'piars'; did you mean 'pairs'?",
    ),
    "unknown name": (
        "names: zero_side",
        "names: zero_sid",
        (
            "rule 'my-rule' in '{file}:16': no column 'zero_sid' in table 'pairs'; "
            "did you mean 'zero_side'?"
        ),
    ),
    "unknown column in a fact": (
        "max(rank)",
        "max(rnk)",
        "rule 'my-rule' in '{file}:20': no column 'rnk' in table 'pairs'; did you mean 'rank'?",
    ),
    "undeclared parameter": (
        "$share",
        "$sahre",
        "rule 'my-rule' in '{file}:15': no parameter 'sahre' is declared; did you mean 'share'?",
    ),
    "unused parameter": (
        "  share: 5e-1",
        "  share: 5e-1\n  ratio: 2",
        (
            "rule 'my-rule' in '{file}:19': no SQL uses the parameter 'ratio'; "
            "write $ratio, or remove it"
        ),
    ),
    "unknown fact": (
        "of rank {rank}",
        "of rank {rnak}",
        (
            "rule 'my-rule' in '{file}:21': the message asks for {rnak}, which is no fact; "
            "did you mean 'rank'?"
        ),
    ),
    "a predicate that is no truth value": (
        "where: zero_side_numel > 0",
        "where: zero_side_numel",
        "rule 'my-rule' in '{file}:12': 'where' is of type ",
    ),
    "no quiet example": (
        "    fires: false",
        "    fires: true",
        "rule 'my-rule' in '{file}:22': has no example that stays quiet; add one",
    ),
    "no firing example": (
        "    fires: true",
        "    fires: false",
        "rule 'my-rule' in '{file}:22': has no example that fires; add one",
    ),
    "unknown column in an example": (
        "zero_side_zero_count: 0",
        "zero_count: 0",
        (
            "rule 'my-rule' in '{file}:30': no column 'zero_count' in table 'pairs'; "
            "did you mean 'zero_side_zero_count'?"
        ),
    ),
    "a missing key": (
        "title: Many zeros\n",
        "",
        "rule 'my-rule' in '{file}:1': the key 'title' is missing; add it",
    ),
    "a key that stands twice": (
        "title: Many zeros\n",
        "title: Many zeros\ntitle: Again\n",
        "rule file in '{file}:3': the key 'title' stands twice; keep one",
    ),
    "the id of a bundled rule": (
        "id: my-rule",
        "id: nan-values",
        "rule 'nan-values' in '{file}:1': the id is taken by",
    ),
    "table and query": (
        "table: pairs",
        "table: pairs\nquery: SELECT 1",
        "rule 'my-rule' in '{file}:11': has both a table and a query; give one of the two",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(write_rule, old, new, message) -> None:
    """The one sentence says file, line, fact and what to do."""
    path = write_rule(old, new)

    with pytest.raises(RuleError) as caught:
        load_rules([path])
    assert str(caught.value).startswith(message.replace("{file}", str(path)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "is no mapping of keys"),
        ("id: [", ":2'"),
        ("id: &a [*a]\n", "nested too deep"),
        ("id: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("just text", "is no mapping of keys"),
    ],
)
def test_a_file_that_is_no_rule(tmp_path, text, said) -> None:
    """Anything that is no rule is a RuleError, and nothing in it is run."""
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(RuleError, match=path.name) as caught:
        load_rules([path])
    assert said in str(caught.value)


def test_bytes_that_are_no_text(tmp_path) -> None:
    """A binary file under a YAML name is told in one sentence."""
    path = tmp_path / "odd.yaml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(RuleError, match="cannot be read"):
        load_rules([path])


def test_own_rules_follow_the_bundled(write_rule, tmp_path) -> None:
    """A file, or every file below a directory, is added; `5e-1` is a number."""
    write_rule()
    bundled = load_rules()
    rules = load_rules([tmp_path])

    assert [*bundled, rules[-1]] == [*rules]
    assert rules[-1].parameters == {"share": 0.5}


def test_paths_of_the_settings_count_too(write_rule) -> None:
    """`rules: paths:` in sentinel.yaml is the same as `--rules`."""
    settings = RuleSettings(paths=(write_rule(),))

    assert load_rules(overrides=settings)[-1].id == "my-rule"


def test_a_path_that_is_not_there(tmp_path) -> None:
    """A wrong path is the caller's mistake."""
    with pytest.raises(ConfigError, match="no such file or directory"):
        load_rules([tmp_path / "gone"])


def test_a_rule_is_the_same_with_and_without_its_shape_checked() -> None:
    """A wheel takes the catalogue's data as they stand: defaults, types and nested parts agree."""
    for path in bundled_files(catalogue()):
        data, _ = read_yaml(path)

        assert repr(rule_of(data)) == repr(read_rule(data)), path


def test_what_holds_without_a_file_is_what_an_empty_one_says() -> None:
    """The settings of a scan do not depend on whether a file was there to read."""
    said = parse_config("", Path("sentinel.yaml")).of_verdicts()

    assert replace(said, rules=None) == Settled()
    assert load_rules(overrides=said.rules) == load_rules()


def test_the_bundled_rules_need_no_database() -> None:
    """Whatever only lists rules starts without DuckDB and Arrow."""
    code = (
        "import sys; from sentinel.rules.load import load_rules; load_rules();"
        "print(sorted({'duckdb', 'pyarrow', 'numpy'} & sys.modules.keys()))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"
