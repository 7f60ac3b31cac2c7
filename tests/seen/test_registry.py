"""Every rule was seen on a real file, by a test that names it, or there is a reason why not."""

from __future__ import annotations

import ast
from pathlib import Path

from seen.page import lines
from seen.registry import SEEN, UNSEEN
from sentinel.rules.load import load_rules

HERE = Path(__file__).parent
OWN = Path(__file__).name


def functions() -> dict[str, ast.FunctionDef]:
    """The tests beside this file, by name."""
    files = (path for path in HERE.glob("test_*.py") if path.name != OWN)
    return {
        node.name: node
        for path in files
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def calls(function: ast.FunctionDef) -> set[str]:
    """The names of what a test calls."""
    return {
        node.func.id
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_each_rule_was_seen() -> None:
    """In the corpus, in a rebuilt thread, or here; what was not is listed with the reason."""
    assert set(lines()) == {rule.id for rule in load_rules()}


def test_nothing_that_was_seen_is_excused() -> None:
    """An exception that has become none is taken off the list."""
    excused = {one.rule for one in UNSEEN}

    assert excused.isdisjoint({one.rule for one in SEEN})
    assert all(lines()[rule].startswith("nowhere, ") for rule in excused)


def test_each_rule_seen_here_has_one_test_that_names_it() -> None:
    """It asks for the rule's words, and that a healthy twin is quiet."""
    tests = functions()

    assert {one.test for one in SEEN} == set(tests)
    for one in SEEN:
        words = {node.value for node in ast.walk(tests[one.test]) if isinstance(node, ast.Constant)}
        assert one.rule in words
        assert "said" in calls(tests[one.test])
        assert {"healthy", "silent"} & calls(tests[one.test])
