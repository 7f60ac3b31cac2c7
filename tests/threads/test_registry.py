"""The table of rebuilt threads and the tests say the same."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from sentinel.rules.load import load_rules
from threads.registry import THREADS

HERE = Path(__file__).parent


def rebuilding() -> dict[str, ast.FunctionDef]:
    """Every test of this directory but those of this file."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in HERE.glob("test_*.py"))
    own = {
        node.name
        for node in ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    return {
        node.name: node
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and node.name not in own
    }


def test_each_thread_has_one_test_of_its_name() -> None:
    """And each test a thread: what the page tells is what runs."""
    names = Counter(thread.test for thread in THREADS)

    assert max(names.values()) == 1
    assert set(names) == set(rebuilding())


def test_each_test_asks_for_the_rules_of_its_thread() -> None:
    """The rules that the page names exist, and stand in a `said` of the test."""
    known = {rule.id for rule in load_rules()}
    functions = rebuilding()
    for thread in THREADS:
        asked = {
            call.args[1].value
            for call in ast.walk(functions[thread.test])
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "said"
            and isinstance(call.args[1], ast.Constant)
        }
        assert set(thread.rules) == asked & known, thread.test
        assert ast.get_docstring(functions[thread.test]), thread.test


def test_there_are_at_least_twenty() -> None:
    """As many as were asked for, most of them failures of a real training or saving."""
    real = sum(thread.how in {"trained", "saved"} for thread in THREADS)

    assert len(THREADS) >= 20
    assert real > len(THREADS) / 2
