"""A rule says the same whether its SQL is computed directly or asked in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.rules import sql
from sentinel.rules.direct.answers import Direct
from sentinel.rules.evaluate import evaluate
from sentinel.rules.examples import example_tables, rows_to_table
from sentinel.rules.load import load_rules
from sentinel.rules.past import Before, history_tables
from sentinel.rules.rule import Example, Rule
from sentinel.rules.tables import PAST

if TYPE_CHECKING:
    import pyarrow as pa

RULES = load_rules()
EXAMPLES = [(rule, example) for rule in RULES for example in rule.examples]


def _asked(rules: tuple[Rule, ...], tables: Mapping[str, pa.Table], held: int = 0) -> None:
    before = {name: tables[f"prev_{name}"] for name in PAST if f"prev_{name}" in tables}
    holding = frozenset(rule.id for rule in rules) if held else frozenset()
    past = (Before(before, holding),) if before or held else ()

    directly = evaluate(rules, tables, past)
    assert directly == evaluate(rules, tables, past, direct=False)


@pytest.mark.parametrize("part", range(4))
def test_examples(part) -> None:
    """Every example of the catalogue: findings, messages, tensors, and why a rule is not asked."""
    for rule, example in EXAMPLES[part::4]:
        _asked((rule,), example_tables(example), example.held)


def test_few_examples_need_the_database() -> None:
    """What the direct way is there for: nearly all of the catalogue is answered without DuckDB."""
    left = []
    for rule, example in EXAMPLES:
        tables = example_tables(example)
        before = {name: tables[f"prev_{name}"] for name in PAST if f"prev_{name}" in tables}
        past = (Before(before),) if before else ()
        known = {**tables, **history_tables(past, sql.named_tables(rule))}
        if Direct(known).answer(rule) is None:
            left.append(rule.id)

    assert len(left) <= 0.08 * len(EXAMPLES), left


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(EXAMPLES), min_size=1, max_size=3))
def test_all_rules_on_mixed_tables(chosen: list[tuple[Rule, Example]]) -> None:
    """All rules at once, on the rows of several rules' examples together."""
    tables: dict[str, list[dict]] = {}
    for _, example in chosen:
        for name, rows in example.tables.items():
            single = name.removeprefix("prev_") == "checkpoint"
            tables[name] = rows if single else [*tables.get(name, []), *rows]

    _asked(RULES, {name: rows_to_table(name, rows) for name, rows in tables.items()})


NUMBERS = st.none() | st.sampled_from([0, 1, 2, 3, 7, 1000])
REALS = st.none() | st.sampled_from([0.0, -1.0, 0.5, 1e-12, 3.25, float("nan"), float("inf")])
TEXTS = st.none() | st.sampled_from(["", "a", "A", "a.1", "a.12", "b_2", "B%", "ä"])
TRUTHS = st.none() | st.booleans()
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "tensor": TEXTS,
            "module": TEXTS,
            "role": TEXTS,
            "numel": NUMBERS,
            "zero_count": NUMBERS,
            "l2": REALS,
            "mean": REALS,
            "zero_at_init": TRUTHS,
        }
    ),
    max_size=6,
)
PREDICATES = [
    "l2 > mean", "l2 = mean", "l2 <> 0.5 OR numel > 2", "NOT (l2 <= mean AND zero_at_init)",
    "numel = zero_count", "numel + zero_count * 2 >= 7", "numel > 0.5 * zero_count",
    "l2 - mean < 0", "numel BETWEEN 1 AND 3", "numel NOT IN (1, zero_count, NULL)",
    "tensor IN ('a', module)", "tensor < module", "lower(tensor) = 'a'", "tensor LIKE 'a%'",
    "tensor LIKE '%\\%' ESCAPE '\\'", "regexp_matches(tensor, '^[ab][._][0-9]+$')",
    "regexp_extract(tensor, '([a-z])[._]([0-9]*)', 2) <> ''",
    "regexp_replace(tensor, '[0-9]+', '*', 'g') = 'a.*'", "contains(tensor, '1')",
    "starts_with(tensor, 'a')", "tensor || module = 'aa'", "concat_ws(',', tensor, module) = 'a,a'",
    "coalesce(zero_at_init, numel > 1)", "coalesce(l2, mean, 0) > 0", "nullif(numel, 1) IS NULL",
    "greatest(numel, zero_count) > 2", "least(l2, mean) < 1", "abs(mean) > 0.75",
    "isfinite(l2)", "isnan(l2)", "l2 IS DISTINCT FROM mean", "l2 IS NOT DISTINCT FROM mean",
    "CASE WHEN zero_at_init THEN l2 > 1 WHEN numel > 1 THEN NULL ELSE mean > 0 END",
    "if(zero_at_init, numel, zero_count) > 1", "zero_at_init::INT + numel > 2",
    "numel / nullif(zero_count, 0) > 1", "sqrt(numel) > 1.5", "replace(tensor, '1', '2') = 'a.2'",
    "EXISTS (FROM tensors AS t WHERE t.numel > 3)", "numel IN (SELECT zero_count FROM tensors)",
    "numel > (SELECT max(zero_count) FROM tensors)", "numel = (SELECT count(*) FROM tensors)",
    "(SELECT bool_or(zero_at_init) FROM tensors)", "true", "NULL",
]  # fmt: skip
QUERIES = [
    "SELECT * FROM tensors",
    "SELECT DISTINCT * FROM tensors",
    "SELECT t.* FROM tensors AS t WHERE numel > 1 OR t.l2 > 0",
    "SELECT *, count(*) OVER (PARTITION BY module) AS n FROM tensors",
    """
    SELECT module AS tensor, any_value(module) AS module, sum(numel) AS numel,
           count(DISTINCT zero_count) AS zero_count, avg(numel) AS l2, min(numel) / 2 AS mean,
           bool_and(zero_at_init) AS zero_at_init
    FROM tensors GROUP BY ALL HAVING count(*) > 1
    """,
    """
    WITH one AS (SELECT tensor, max(numel) AS most FROM tensors GROUP BY tensor)
    SELECT t.* FROM tensors AS t JOIN one ON one.tensor = t.module AND one.most > 1
    """,
    """
    WITH one AS (
      SELECT tensor, count(numel) FILTER (numel > 1) AS many FROM tensors GROUP BY tensor
    )
    SELECT tensors.tensor, module, role, many AS numel, zero_count, l2, mean,
           many > 0 AS zero_at_init
    FROM tensors LEFT JOIN one ON one.tensor = tensors.module
    """,
    "SELECT * FROM tensors WHERE numel > 1 UNION ALL SELECT * FROM tensors",
]


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from(QUERIES), st.data())
def test_sql(rows, query, data) -> None:
    """Every construct, over unknown values, NaN, and texts that are not ASCII."""
    template = replace(
        RULES[0], table=None, query=query, names=None, facts={}, softer=None,
        message="{hits} of {rows}: {names}", parameters={}, optional=[],
        match=data.draw(st.sampled_from(["any", "all"])),
    )  # fmt: skip
    chosen = data.draw(st.lists(st.sampled_from(PREDICATES), min_size=6, max_size=6))
    rules = tuple(
        replace(template, id=f"rule-{at}", where=where, when=when)
        for at, (where, when) in enumerate(zip(chosen[::2], chosen[1::2], strict=True))
    )
    _asked(rules, {"tensors": rows_to_table("tensors", rows)})
