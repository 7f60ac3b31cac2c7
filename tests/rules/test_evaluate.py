"""What a rule says of tables: three-valued logic, history, updates, severity, names."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from sentinel.rules.evaluate import LISTED, evaluate
from sentinel.rules.examples import rows_to_table
from sentinel.rules.past import DEPTH, Before, Past, grown
from sentinel.verdict import NotEvaluated

DEAD = {"tensor": "dead", "numel": 4, "zero_count": 4}
ALIVE = {"tensor": "alive", "numel": 4, "zero_count": 1}
UNKNOWN = {"tensor": "unknown", "numel": 4}


@pytest.mark.parametrize(
    ("match", "rows", "wanted"),
    [
        ("any", [DEAD, ALIVE], True),
        ("any", [ALIVE], False),
        ("any", [], False),
        ("any", [DEAD, UNKNOWN], True),
        ("any", [ALIVE, UNKNOWN], None),
        ("all", [DEAD, DEAD], True),
        ("all", [DEAD, ALIVE], False),
        ("all", [], False),
        ("all", [DEAD, UNKNOWN], None),
        ("all", [ALIVE, UNKNOWN], False),
        ({"at_least": 0.5}, [DEAD, ALIVE], True),
        ({"at_least": 0.5}, [DEAD, ALIVE, ALIVE], False),
        ({"at_least": 0.5}, [DEAD, ALIVE, UNKNOWN], None),
        ({"at_least": 0.5}, [DEAD, DEAD, ALIVE, UNKNOWN], True),
        ({"at_least": 0.9}, [DEAD, ALIVE, ALIVE, UNKNOWN], False),
    ],
)
def test_match_and_unknown_rows(ask, match, rows, wanted) -> None:
    """A rule fires, stays quiet, or is not evaluated when an unknown row could turn it."""
    answer = ask({"tensors": rows}, match=match)

    said = None if answer.not_evaluated else bool(answer.findings)
    assert wanted == said


def test_rows_of_unknown_scope_are_unknown(ask) -> None:
    """A NULL in `where` leaves open whether the row counts."""
    answer = ask({"tensors": [{**DEAD, "role": None}]}, where="role = 'lora_up'")

    (missing,) = answer.not_evaluated
    assert missing.reason == "column 'role' of 'tensors' is unknown in 1 of 1 rows"


def test_the_reason_names_the_column(ask) -> None:
    """A reader learns what would have to be known."""
    answer = ask({"tensors": [ALIVE, UNKNOWN, UNKNOWN]})

    (missing,) = answer.not_evaluated
    assert missing == NotEvaluated(
        "a-rule", "column 'zero_count' of 'tensors' is unknown in 2 of 3 rows"
    )


def test_a_missing_table_is_not_evaluated(ask) -> None:
    """No table is no answer, also inside a query."""
    by_table = ask({})
    by_query = ask({"tensors": []}, query="SELECT * FROM tensors, base", when="true")

    assert by_table.not_evaluated[0].reason == "table 'tensors' is not known"
    assert by_query.not_evaluated[0].reason == "table 'base' is not known"


def test_an_empty_log_says_nothing(ask) -> None:
    """A trainer that logged nothing is unknown; an adapter without pairs has none."""
    log = ask({"metrics": []}, table="metrics", when="value = 0")
    pairs = ask({"pairs": []}, table="pairs", when="rank = 0")

    assert log.not_evaluated[0].reason == "table 'metrics' is empty"
    assert (pairs.findings, pairs.not_evaluated) == ((), ())


def test_an_optional_table_may_be_missing(ask) -> None:
    """`optional` tables are empty when unknown."""
    answer = ask(
        {"tensors": [DEAD]},
        query="SELECT tensor, (SELECT count(*) FROM base) AS n FROM tensors",
        optional=["base"],
        when="n = 0",
    )

    assert [*answer.findings[0].tensors] == ["dead"]


@pytest.mark.parametrize(
    ("updates", "unknown_updates", "wanted"),
    [
        (0, "warning", []),
        (4, "warning", []),
        (5, "warning", ["critical"]),
        (None, "warning", ["warning"]),
        (None, None, "column 'updates_done' of 'checkpoint' is unknown"),
    ],
)
def test_after_updates(ask, updates, unknown_updates, wanted) -> None:
    """Before so many updates a rule is quiet; with an unknown number it is milder or open."""
    tables = {"tensors": [DEAD], "checkpoint": [{"updates_done": updates}]}
    answer = ask(tables, after_updates=5, unknown_updates=unknown_updates)

    severities = [found.severity for found in answer.findings]
    assert wanted == (answer.not_evaluated[0].reason if answer.not_evaluated else severities)


def test_unknown_updates_matter_only_to_a_rule_that_would_fire(ask) -> None:
    """A healthy file is not called unknown for a number that could not change the answer."""
    answer = ask({"tensors": [ALIVE], "checkpoint": [{}]}, after_updates=5)

    assert (answer.findings, answer.not_evaluated) == ((), ())


def test_history_is_joined_by_name(ask) -> None:
    """The previous checkpoint's row of the same tensor becomes the prev_ columns."""
    tables = {
        "tensors": [
            {"tensor": "same", "part": "weights", "member": "b-2.safetensors", "digest": "1"},
            {"tensor": "moved", "part": "weights", "member": "b-2.safetensors", "digest": "2"},
            {"tensor": "new", "part": "weights", "member": "b-2.safetensors", "digest": "3"},
        ],
        "prev_tensors": [
            {"tensor": "moved", "part": "weights", "member": "b-1.safetensors", "digest": "9"},
            {"tensor": "same", "part": "weights", "member": "b-1.safetensors", "digest": "1"},
            {"tensor": "new", "part": "optimizer", "member": "b-1.safetensors", "digest": "3"},
        ],
    }
    unchanged = ask(tables, when="unchanged")
    changed = ask(tables, when="NOT unchanged")
    unknown = ask(tables, when="unchanged IS NULL")

    names = [answer.findings[0].tensors for answer in (unchanged, changed, unknown)]
    assert names == [("same",), ("moved",), ("new",)]


def test_a_name_that_was_there_twice_has_no_history(ask) -> None:
    """Two members with one tensor name: which one it was is not known, and no row doubles."""
    row = {"tensor": "t", "part": "weights", "digest": "1"}
    answer = ask({"tensors": [row], "prev_tensors": [row, row]}, when="unchanged IS NULL")

    assert answer.findings[0].message == "1 of 1"


def test_updates_between_checkpoints(ask) -> None:
    """`updates_since_prev` is the difference, and NULL when either end is unknown."""
    now = [{"updates_done": 70, "step": 100}]
    known = ask(
        {"checkpoint": now, "prev_checkpoint": [{"updates_done": 50, "step": 80}]},
        table="checkpoint",
        when="updates_since_prev = 20 AND prev_step = 80",
    )
    unknown = ask({"checkpoint": now}, table="checkpoint", when="updates_since_prev > 0")

    assert known.findings[0].severity == "critical"
    assert "column 'updates_since_prev' of 'checkpoint'" in unknown.not_evaluated[0].reason


def test_columns_nobody_declared_are_dropped_and_absent_ones_null(make_rule) -> None:
    """Tables of another version of sentinel still load."""
    rule = make_rule(when="numel = 3 AND nan_count IS NULL", message="{hits}")
    table = pa.table({"tensor": ["a"], "numel": pa.array([3], pa.int32()), "novel": ["x"]})

    assert evaluate((rule,), {"tensors": table}).findings[0].message == "1"


def test_a_setting_of_another_kind_is_unknown(make_rule) -> None:
    """A learning rate of 'auto' is no number: NULL, and the rule is not evaluated."""
    rule = make_rule(table="checkpoint", when="optimizer_learning_rate = 0")
    table = pa.table({"optimizer_learning_rate": ["auto"]})

    reason = evaluate((rule,), {"checkpoint": table}).not_evaluated[0].reason
    assert reason == "column 'optimizer_learning_rate' of 'checkpoint' is unknown in 1 of 1 rows"


def test_parameters_are_bound(ask) -> None:
    """A parameter is a value, never SQL text."""
    tables = {"tensors": [{"tensor": "a", "dtype": "F32' OR true --", "numel": 1}]}
    answer = ask(tables, when="dtype = $d", parameters={"d": "F32' OR true --"}, message="{d}")

    assert answer.findings[0].message == "F32' OR true --"


def test_a_comment_at_the_end_of_a_predicate_is_harmless(ask) -> None:
    """Fragments stand on lines of their own."""
    answer = ask({"tensors": [DEAD]}, when="numel > 0 -- not empty", where="true -- all")

    assert len(answer.findings) == 1


def test_nan_is_not_small(ask) -> None:
    """DuckDB holds NaN for the greatest number: a rule that means finite must say so."""
    rows = {"tensors": [{"tensor": "a", "abs_max": float("nan")}]}

    assert ask(rows, when="abs_max > 3").findings
    assert not ask(rows, when="isfinite(abs_max) AND abs_max > 3").findings


def test_names_and_parts(ask) -> None:
    """At most twenty names in the file's order, the count of all, and the parts they are of."""
    rows = [
        {"tensor": f"layers.{i}.w", "part": "weights", "numel": 1, "zero_count": 1}
        for i in range(30)
    ]
    optimizer = {"tensor": "m", "part": "optimizer", "numel": 1, "zero_count": 1}
    (found,) = ask({"tensors": [optimizer, *rows]}, message="{names}; first {first}").findings

    assert ("m", *(f"layers.{i}.w" for i in range(19))) == found.tensors
    assert len(found.tensors) == LISTED
    assert (found.tensor_count, found.parts) == (31, ("weights", "optimizer"))
    assert found.message == "30 like 'layers.*.w', 1 like 'm'; first m"


def test_a_run_rule_spoils_no_part(ask) -> None:
    """Settings and logs say nothing about the bytes."""
    (found,) = ask({"tensors": [DEAD]}, scope="run").findings

    assert (found.scope, found.parts) == ("run", ())


def test_a_rule_without_a_part_column_judges_the_weights(ask) -> None:
    """Pairs have no part of their own."""
    (found,) = ask({"pairs": [{"rank": 0}]}, table="pairs", when="rank = 0").findings

    assert found.parts == ("weights",)


def test_softer_severity(ask) -> None:
    """Hits that are less sure are milder."""
    softer = {"when": "count(*) < 2", "severity": "warning"}
    one = ask({"tensors": [DEAD]}, softer=softer)
    two = ask({"tensors": [DEAD, DEAD]}, softer=softer)

    assert [a.findings[0].severity for a in (one, two)] == ["warning", "critical"]


def test_findings_come_gravest_first(make_rule) -> None:
    """Critical, then unreadable, then warning; equal ones in the order of the rules."""
    severities = ("warning", "critical", "unreadable", "critical")
    rules = [make_rule(id=f"r-{n}", severity=s) for n, s in enumerate(severities)]
    answer = evaluate(rules, {"tensors": rows_to_table("tensors", [DEAD])})

    assert [found.rule for found in answer.findings] == ["r-1", "r-3", "r-2", "r-0"]


def test_rules_that_want_a_second_reading_are_named(make_rule) -> None:
    """Zeros may be preallocated: whoever judges reads again before acting."""
    rules = [make_rule(id="sure"), make_rule(id="zeros", confirm=True)]
    answer = evaluate(rules, {"tensors": rows_to_table("tensors", [DEAD])})

    assert answer.unconfirmed == ("zeros",)


def test_a_rule_that_fails_is_a_finding(make_rule) -> None:
    """Neither a crash nor a pass: a warning names it, and the other rules are asked."""
    broken = make_rule(id="broken", when="error('no such luck')")
    answer = evaluate(
        [broken, make_rule(id="works")], {"tensors": rows_to_table("tensors", [DEAD])}
    )

    works, failed = answer.findings
    assert works.rule == "works"
    assert (failed.rule, failed.severity, failed.parts) == ("rule-error", "warning", ())
    assert "rule 'broken' failed: " in failed.message
    assert "no such luck" in failed.message


def test_a_fact_that_fails_is_a_finding_too(ask) -> None:
    """Also the sentence of a rule can't crash a scan."""
    answer = ask({"tensors": [DEAD]}, facts={"n": "error('odd')"}, message="{n}")

    assert [found.rule for found in answer.findings] == ["rule-error"]


# -- several checkpoints in a row, and the tables of the past --


def test_for_waits_until_it_holds_in_a_row(make_rule) -> None:
    """A rule that wants three checkpoints in a row says what it waits for, then fires."""
    rule = make_rule(**{"for": 3})
    tables = {"tensors": rows_to_table("tensors", [DEAD])}
    past: Past = ()
    said = []
    for _ in range(4):
        answer = evaluate((rule,), tables, past)
        said.append([one.reason for one in answer.not_evaluated] or len(answer.findings))
        past = grown(Before(tables, answer.holding), past)

    assert said == [
        ["holds in 1 of the 3 checkpoints in a row that it wants"],
        ["holds in 2 of the 3 checkpoints in a row that it wants"],
        1,
        1,
    ]


def test_a_good_checkpoint_ends_the_row(make_rule) -> None:
    """In a row means without a good one between."""
    rule = make_rule(**{"for": 2})
    bad, good = ({"tensors": rows_to_table("tensors", [row])} for row in (DEAD, ALIVE))
    past: Past = ()
    fired = []
    for tables in (bad, good, bad, bad):
        answer = evaluate((rule,), tables, past)
        fired.append(bool(answer.findings))
        past = grown(Before(tables, answer.holding), past)

    assert fired == [False, False, False, True]


def test_a_query_looks_back_at_every_checkpoint(make_rule) -> None:
    """`past_tensors` numbers the checkpoints before: 1 is the one just before."""
    rule = make_rule(
        query="SELECT back, tensor, l2 FROM past_tensors",
        when="l2 > 5",
        facts={"backs": "list(back ORDER BY back)"},
        message="{hits} of {rows}: {backs}",
    )
    past: Past = ()
    for l2 in (9.0, 1.0, 7.0):
        row = {"tensor": "a", "l2": l2}
        past = grown(Before({"tensors": rows_to_table("tensors", [row])}), past)

    (found,) = evaluate((rule,), {}, past).findings
    assert found.message == "2 of 3: 1, 3"
    (missing,) = evaluate((rule,), {}).not_evaluated
    assert missing.reason == "table 'past_tensors' is not known"


def test_a_rule_may_ask_what_the_others_found(make_rule) -> None:
    """`findings` holds those of every rule that does not name it, wherever it stands itself."""
    curious = make_rule(
        id="curious",
        query="SELECT * FROM findings",
        when="severity = 'critical' AND scope = 'content' AND safety = 'certain'",
        facts={"rules": "string_agg(rule, ', ' ORDER BY rule)"},
        message="{rules}",
        severity="info",
    )
    too = replace(curious, id="curious-too")
    rules = (curious, make_rule(id="one"), too, make_rule(id="two"))

    answer = evaluate(rules, {"tensors": rows_to_table("tensors", [DEAD])})
    quiet = evaluate(rules, {"tensors": rows_to_table("tensors", [ALIVE])})

    said = {found.rule: found.message for found in answer.findings}
    assert said.keys() == {"one", "two", "curious", "curious-too"}
    assert said["curious"] == said["curious-too"] == "one, two"
    assert quiet.findings == quiet.not_evaluated == ()


def test_the_past_is_bounded() -> None:
    """However long a run is, what is kept of it is not."""
    past: Past = ()
    for _ in range(3 * DEPTH):
        past = grown(Before({}), past)

    assert len(past) == DEPTH


def test_settings_are_a_table_by_name(ask) -> None:
    """`config` holds every setting, also those that nobody declared as a column."""
    rows = [{"name": "optimizer.arguments.d_coef", "value": "2.0", "number": 2.0}]

    answer = ask({"config": rows}, table="config", when="name LIKE '%d_coef' AND number > 1")

    assert [found.rule for found in answer.findings] == ["a-rule"]
    (missing,) = ask({"config": []}, table="config", when="number > 1").not_evaluated
    assert missing.reason == "table 'config' is empty"
