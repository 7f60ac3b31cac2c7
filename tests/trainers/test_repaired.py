"""Copies by `sentinel repair` are taken by the trainers' own code: what they did with them."""

from __future__ import annotations

from typing import Any

import pytest
from laying import facts_of

ONETRAINER = facts_of("onetrainer_repaired")["resuming"]
SIMPLETUNER = facts_of("simpletuner_repaired")["resuming"]
SD_SCRIPTS = facts_of("sd_scripts_repaired")["runs"]


def asked(one: dict[str, Any]) -> str:
    return " ".join([one.get("of", ""), one["asked"], *map(str, one.get("given", ()))])


@pytest.mark.parametrize("resume", ONETRAINER, ids=asked)
def test_onetrainer_resumes_where_the_backup_was(resume):
    """At its step, with the moments in the precision it trains in, or with new ones and then with
    the configuration's settings.
    """
    dropped = "drop" in resume["asked"]
    given = "bfloat16" if "lora_weight_dtype=BFLOAT_16" in resume["given"] else "float32"

    assert "raises" not in resume
    assert (resume["step"], resume["lora_dtype"], resume["alphas"]) == (4, given, [2.0])
    assert resume["knows_parameters"] is not dropped
    assert resume["eps"] == (1e-4 if dropped else 1e-8)
    if not dropped:
        assert resume["state"]["exp_avg"]["$tensor"][0] == given
        assert resume["state"]["step"]["$tensor"] == ["float32", [], 4.0]


@pytest.mark.parametrize("resume", SIMPLETUNER, ids=asked)
def test_simpletuner_resumes_or_begins_with_the_weights(resume):
    """At its step with its state, in the precision of the copy; without optimizer at step 0 with
    the adapter's values, in the precision that SimpleTuner then chooses itself.
    """
    dropped = "drop" in resume["asked"]

    assert not {"raises", "step_raises"} & resume.keys()
    assert resume["step"] == (0 if dropped else 3)
    assert resume["lora_dtype"] == ("bfloat16" if dropped else "float32")
    assert resume["knows_parameters"] is not dropped
    assert resume["adapter_is_zero"] is False


@pytest.mark.parametrize("run", SD_SCRIPTS, ids=asked)
def test_sd_scripts_goes_on_from_states_and_saves(run):
    """Nothing is raised, no tensor is back at the zero it starts from, the run saves to its end."""
    assert run["error"] == ""
    assert run["zero_at_start"] == []
    assert any(name.endswith("-state/random_states_0.pkl") for name in run["files"])


def test_every_way_was_tried():
    """Each trainer with its optimizer's state kept, cast and dropped."""
    for facts in (ONETRAINER, SIMPLETUNER, SD_SCRIPTS):
        wishes = {one["asked"].partition("--optimizer ")[2].split(" ")[0] for one in facts}
        assert wishes == {"", "cast", "drop"}
