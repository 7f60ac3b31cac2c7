from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest

from sentinel.reports.timeline import line_for, render_log


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_looks_as_agreed_on_a_terminal(samples, make_console, golden, width):
    """Attempts are set apart, plans and actions stand between the verdicts."""
    console = make_console(width)

    render_log(
        samples.CHECKPOINT_ROWS, samples.EVENT_ROWS, console, base_dir=samples.BASE, zone=UTC
    )

    golden(f"log-{width}.txt", console.file.getvalue())


def test_a_run_looks_as_agreed_in_a_pipe(samples, make_console, golden):
    """In a pipe every moment is one whole line with its attempt and date."""
    console = make_console(terminal=False)

    render_log(
        samples.CHECKPOINT_ROWS, samples.EVENT_ROWS, console, base_dir=samples.BASE, zone=UTC
    )

    golden("log-pipe.txt", console.file.getvalue())


def test_verdicts_keep_the_order_of_steps(samples, make_console):
    """A checkpoint judged late still stands at its step, whatever the clock said."""
    first, second, *_ = samples.CHECKPOINT_ROWS
    console = make_console(terminal=False)

    render_log((replace(second, judged_at=samples.at(1)), first), (), console, zone=UTC)

    told = [line.split("step ")[1][:2] for line in console.file.getvalue().splitlines()]
    assert told == ["20", "40"]


def test_an_empty_run_is_said_to_be_empty(make_console):
    """No rows: a sentence, not an empty screen."""
    console = make_console()

    render_log((), (), console)

    assert console.file.getvalue() == "the health log holds nothing of this run\n"


def test_one_line_for_what_just_happened(samples):
    """Time, word, step, path and sentence of a verdict; rule and sentence of a finding."""
    verdict = line_for(samples.CHECKPOINT_ROWS[1], base_dir=samples.BASE, zone=UTC)
    finding = line_for(samples.EVENT_ROWS[1], zone=UTC)

    expected = "02:20:00  faulty      step 40  loss 2.6447  checkpoint-40  all 264 lora_up"
    assert verdict.plain.startswith(expected)
    assert finding.plain.startswith("02:20:00  finding     dead-lora-up: all 264 lora_up")


def test_an_event_cannot_steer_the_terminal(samples):
    """Control characters in a message are shown, and a line stays one line."""
    event = replace(samples.EVENT_ROWS[0], message="a\x1b[2J\nb")

    line = line_for(event, zone=UTC)

    assert line.plain.endswith("a\\x1b[2J\\nb")


@pytest.mark.parametrize(
    ("loss", "told"),
    [(2.64487, "loss 2.6449"), (1.5e-6, "loss 1.5e-06"), ("nan", "loss nan"), (0.0, "loss 0")],
)
def test_a_loss_is_told_as_a_person_reads_it(samples, loss, told):
    """Usual losses have four decimals, tiny and huge ones an exponent, NaN its name."""
    row = replace(samples.CHECKPOINT_ROWS[0], settings={"metrics.loss": loss})

    assert f"{told}  " in line_for(row, zone=UTC).plain
