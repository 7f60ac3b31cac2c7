"""What must hold of pins under the real command: what rotation deletes can still be begun from."""

from __future__ import annotations

import json
import os

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")

PINNED = "state/pins/*/[0-9a-f]*/NAME"
"""The trainer rotates a checkpoint away once it is pinned, and then saves the next one, however
slow this machine is."""


def _rotating(bench, *options: str) -> list[str]:
    return bench.trainer(
        *("--fault", "nan", "--fault-from", "40", "--linger-s", "60"),
        *("--keep", "1", "--delete-after", PINNED),
        *options,
    )


def _pins(bench) -> list[str]:
    return sorted(path.name for path in (bench.state / "pins").glob("*/*/checkpoint-*"))


def test_a_target_that_was_rotated_away_is_begun_from_its_pin(bench):
    """One checkpoint is kept, and it is NaN: the next attempt begins from the pin of the last
    good one, named by its path in the state directory. Nothing is copied back, each pin is an
    event in the log and no line on the terminal, and a good end drops them all."""
    ran = bench.run(*bench.arguments(trainer=_rotating(bench, "--steps", "50")))

    assert ran.code == 0, ran.err
    (plan,) = [event for event in bench.log().events if event.kind == "plan"]
    assert plan.detail["target_step"] == 30
    assert "from its pin, since the original is gone" in plan.message
    second = bench.journal().attempts(bench.run_id)[1]
    resumed = second.command[second.command.index("--resume") + 1]
    assert resumed.startswith(str(bench.state / "pins"))
    assert resumed.endswith("/checkpoint-30")
    rows = [row for row in bench.log().checkpoints if row.attempt == 2]
    assert [(row.step, row.verdict) for row in rows] == [(40, "healthy"), (50, "healthy")]
    assert bench.steps() == [50]
    told = [event for event in bench.log().events if event.message.startswith("pinned ")]
    assert {event.kind for event in told} == {"action"}
    pinned = {event.detail["pin"].rpartition("/")[2] for event in told}
    assert pinned >= {"checkpoint-10", "checkpoint-20", "checkpoint-30"}
    assert "pinned" not in ran.err
    assert _pins(bench) == []


@pytest.mark.slow
def test_a_run_that_gave_up_keeps_its_pins(bench):
    """Whoever comes to look finds the newest good checkpoints, no more than are to be kept."""
    ran = bench.run(*bench.arguments(trainer=_rotating(bench, "--always")))

    assert ran.code == 75
    assert _pins(bench) == ["checkpoint-20", "checkpoint-30"]


def test_watch_pins_only_when_told(bench):
    """`watch` only reports, unless `pin: true` stands in the settings."""
    bench.run_plain(bench.trainer("--steps", "20"))
    config = bench.place / "pinning.yaml"
    config.write_text("pin: true\npin_count: 1\n", encoding="utf-8")
    arguments = ("watch", "--once", "--state", str(bench.state), str(bench.out))

    bench.run(*arguments)
    assert not (bench.state / "pins").exists()

    ran = bench.run(*arguments, "--config", str(config))
    assert ran.code == 0, ran.err
    assert _pins(bench) == ["checkpoint-20"]
    (manifest,) = (bench.state / "pins").glob("*/*/pin.json")
    assert json.loads(manifest.read_text())["step"] == 20


def test_pins_never_lie_where_the_trainer_looks(bench):
    """A pin below the watched directory would be its newest checkpoint: refused."""
    config = bench.place / "below.yaml"
    config.write_text(f"pin_dir: {bench.out}/pins\n", encoding="utf-8")

    ran = bench.run("watch", "--once", "--config", str(config), str(bench.out))

    assert ran.code == 2
    assert "lies below the watched directory" in ran.err
