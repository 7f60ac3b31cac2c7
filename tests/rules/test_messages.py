"""How values and names read in a message."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sentinel.rules.messages import after_updates, at_step, fill, group_names, say


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (264, "264"),
        (3e-8, "3e-08"),
        (0.123456, "0.123"),
        (5.0, "5"),
        (2.5e9, "2.5e+09"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("1.50"), "1.5"),
        (True, "yes"),
        (["F16", "F32"], "F16, F32"),
        ("{braces}", "{braces}"),
    ],
)
def test_values(value, text) -> None:
    """Three digits are enough, and nothing unknown looks like a number."""
    assert text == say(value)


def test_few_names_are_quoted_many_are_grouped() -> None:
    """264 names are never listed; numbers in a name make a pattern."""
    many = [f"layers.{i}.q.lora_B.weight" for i in range(260)]

    assert group_names(["a", "b"]) == "'a', 'b'"
    assert (
        group_names([*many, "x", "y", "z", "w"])
        == "260 like 'layers.*.q.lora_B.weight', 1 like 'x', 1 like 'y' and 2 more"
    )


def test_steps_and_updates() -> None:
    """One update is no plural, and what is unknown is said so."""
    assert [at_step(5), at_step(None)] == ["at step 5", "in this checkpoint"]
    assert after_updates(1) == "after 1 update"
    assert after_updates(0) == "after 0 updates"
    assert after_updates(None) == "after an unknown number of updates"


def test_a_message_is_one_line() -> None:
    """Terminal, JSON and log take a message for one line, whatever a tensor is called."""
    assert fill("a {name}", {"name": "b\n  c"}) == "a b c"
