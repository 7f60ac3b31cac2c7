"""What whole trainings by real trainers came to under `sentinel run` (`make trainers-supervised`).

The facts are sentinel's own log of them; what it changed for whom is said in `docs/trainers.md`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from laying import FACTS

DOCS = FACTS.parents[2] / "docs" / "trainers.md"
NAMES = ("ai_toolkit", "axolotl", "llama_factory", "onetrainer", "simpletuner")
FOUND = {
    name: json.loads((FACTS / f"supervised_{name}.json").read_text(encoding="utf-8"))
    for name in NAMES
}
CASES = [(name, case) for name in NAMES for case in FOUND[name]["cases"]]
ATTEMPTS = 4


def attempts_of(name: str, case: str) -> list[dict[str, Any]]:
    return FOUND[name]["cases"][case]["attempts"]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_fault_is_found_repaired_and_proved(name: str, case: str) -> None:
    """Each fault has a finding and a plan; the last attempt ends by itself, good and proved.

    OneTrainer logs the loss of one step, here of random latents: it may be called worse.
    """
    first, *_, last = attempts = attempts_of(name, case)

    assert FOUND[name]["cases"][case]["exit_code"] == 0
    assert 1 < len(attempts) <= ATTEMPTS
    assert first["found"]
    assert all("plan" in one for one in attempts[:-1])
    assert set(last["proofs"]) <= ({"fixed", "worse"} if name == "onetrainer" else {"fixed"})
    assert "stopped" not in last
    assert not {"faulty", "unreadable"} & set(last["verdicts"])


@pytest.mark.parametrize(("name", "case"), CASES)
def test_each_start_is_the_users_but_for_what_was_planned(name: str, case: str) -> None:
    """No more is changed in the copy than settings, precision, directory and where it begins."""
    for before, after in zip(attempts_of(name, case), attempts_of(name, case)[1:], strict=False):
        told = [line for line in after["changed"] if line.startswith("+")]
        planned = before["plan"]
        # A resume names a directory, and most of them a checkpoint; the bracket that JSON moves.
        most = 1 + len(planned.get("settings", {})) + 2 * ("precision" in planned) + 2
        assert len(told) <= most, told
        assert any("-resumed/" in line for line in told)


@pytest.mark.parametrize("name", NAMES)
def test_an_unreadable_checkpoint_is_nobodys_prepared_directory(name: str) -> None:
    """No trainer's own way of beginning is taken for a torn save."""
    for case in FOUND[name]["cases"]:
        assert all("unreadable" not in one["verdicts"] for one in attempts_of(name, case))


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_documentation_says_what_was_seen(name: str, case: str) -> None:
    """A row for each training, with the commit of the trainer."""
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    commit = FOUND[name]["commit"][:8]

    assert any(case in row and commit in row for row in rows)
