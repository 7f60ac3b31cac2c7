"""What must hold where several findings want settings: one answer, in the stated order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.formats.setting_names import is_known
from sentinel.repairs.wishes import same, settle, shown
from sentinel.rules.load import load_rules
from sentinel.verdict import Finding

RATE = "optimizer.learning_rate"


def wanting(wish, rule="one", severity="critical", name=RATE) -> Finding:
    remedy = {"resume": {"settings": {name: wish}}}
    return Finding(rule=rule, severity=severity, message="text", remedy=remedy)


def settled(*findings, **now):
    return settle(findings, {name.replace("__", "."): value for name, value in now.items()})


@pytest.mark.parametrize(
    ("wishes", "now", "value"),
    [
        ([1.0], 1e-4, 1.0),
        ([{"times": 0.5}], 1e-3, 5e-4),
        ([{"times": 0.5}, {"times": 0.1}, {"times": 0.5}], 1e-3, 1e-4),
        ([{"between": [1e-4, 3e-4]}], 1.0, 3e-4),
        ([{"between": [1e-4, 3e-4]}], 1e-6, 1e-4),
        ([{"between": [1e-4, 3e-4]}], None, 1e-4),
        ([{"times": 0.5}, {"between": [1e-4, 3e-4]}], 2e-4, 1e-4),
        ([1.0, {"times": 0.5}], 1e-4, 0.5),
        ([{"between": [1e-4, 3e-4]}], 2e-4, None),
    ],
    ids=[
        *("value", "factor", "smallest-factor-once", "above", "below", "unknown-gets-the-low-end"),
        *("factor-then-range", "value-then-factor", "already-within"),
    ],
)
def test_the_order_of_wishes(wishes, now, value):
    """Value, then the smallest factor once, then the range; what is so already is no change."""
    told = {} if now is None else {RATE: now}
    found = settle([wanting(wish) for wish in wishes], told).settings

    assert found == ({} if value is None else {RATE: pytest.approx(value)})


def test_the_graver_finding_wins_and_the_other_is_said():
    """Two values for one setting: the critical rule's, and what the other wanted is said."""
    found = settled(wanting(2.0, "mild", "warning"), wanting(1.0, "grave"))

    assert found.settings == {RATE: 1.0}
    assert found.said == ("mild would have optimizer.learning_rate 2",)


COEFFICIENT = "optimizer.args.d_coef"


@pytest.mark.parametrize("name", ["PRODIGY", "prodigyopt.prodigy.Prodigy", "ProdigyPlus"])
@pytest.mark.parametrize(("told", "lower"), [(None, 0.1), (0.5, 0.05)])
def test_prodigy_keeps_its_rate_and_gets_a_lower_coefficient(name, told, lower):
    """Its rate must stay 1.0; `d_coef`, 1.0 where nobody told it, makes its steps smaller."""
    now = {"optimizer.name": name, RATE: 1.0} | ({} if told is None else {COEFFICIENT: told})

    found = settle([wanting({"times": 0.1})], now).settings

    assert found == {COEFFICIENT: pytest.approx(lower)}


def test_a_value_for_prodigys_rate_stays_one():
    """Stuck at AdamW's rate and grown: the rate becomes what it wants, the factor goes beside."""
    now = {"optimizer.name": "prodigy", RATE: 1e-4}

    found = settle([wanting(1.0, "stuck"), wanting({"times": 0.1}, "grown")], now).settings

    assert found == {RATE: 1.0, COEFFICIENT: pytest.approx(0.1)}


def test_d_adaptation_has_no_coefficient():
    """Its authors say to lower the rate."""
    now = {"optimizer.name": "DAdaptAdam", RATE: 1.0}

    assert settle([wanting({"times": 0.1})], now).settings == {RATE: pytest.approx(0.1)}


def test_a_factor_of_something_unknown_is_said():
    """Half of a rate that nobody knows is not guessed."""
    found = settled(wanting({"times": 0.5}))

    assert found.settings == {}
    assert found.said == (
        "optimizer.learning_rate is not known, so it cannot be multiplied by 0.5",
    )


@pytest.mark.parametrize(("now", "changes"), [("ADAFACTOR", True), ("cosine", False)])
def test_instead_of_one_value_only(now, changes):
    """Adafactor's own schedule is replaced, any other stays."""
    wish = {"instead_of": "adafactor", "use": "constant"}

    found = settled(wanting(wish, name="scheduler.name"), scheduler__name=now)

    assert found.settings == ({"scheduler.name": "constant"} if changes else {})


def test_findings_without_settings_change_nothing():
    """A remedy that asks for a precision only, or for nothing."""
    bare = Finding("bare", "critical", "text")
    other = Finding("other", "critical", "text", remedy={"resume": {"precision": "fp32"}})

    assert settle([bare, other], {}).settings == {}


@given(st.lists(st.floats(1e-3, 10)), st.floats(1e-6, 1))
def test_the_order_of_equal_findings_is_no_matter_for_factors(factors, now):
    """However many ask for less, the rate falls once, by the smallest factor."""
    found = settle([wanting({"times": factor}) for factor in factors], {RATE: now}).settings

    least = now * min(factors, default=1.0)
    assert found.get(RATE, now) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (False, "False", True),
        (1, True, False),
        (1e-4, 0.0001, True),
        (1e-4, 2e-4, False),
        ("constant", "CONSTANT", True),
        (0.5, "0.5", True),
        (1.0, None, False),
    ],
)
def test_the_same_value_however_it_is_spelled(one, other, equal):
    """Trainers keep switches as text and names in capitals."""
    assert same(one, other) is equal


def test_values_are_shown_as_people_write_them():
    """Switches in small letters, numbers short."""
    assert [shown(value) for value in (False, 1e-4, 20, "x")] == ["false", "0.0001", "20", "x"]


def test_the_catalogues_own_wishes_can_be_settled():
    """Every setting a bundled rule asks for comes to a value where it is known."""
    for rule in load_rules():
        remedy = dict(rule.remedy)
        finding = Finding(rule.id, rule.severity, "text", remedy=remedy)
        wishes = remedy.get("resume", {}).get("settings", {})
        assert [name for name in wishes if not is_known(name)] == []
        now = {name: 7.0 if name == RATE else "unlike any" for name in wishes}
        settled_now = settle([finding], now)
        asked = {name for name, wish in wishes.items() if "instead_of" not in str(wish)}
        assert asked == settled_now.settings.keys(), rule.id
        assert settled_now.said == ()
