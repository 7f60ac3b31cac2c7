"""What must hold of the daemon's metrics: a real process, scraped over HTTP or read as a file."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import contextmanager

import pytest

from scraped import OPENMETRICS, from_file, scrape, scraped_when

posix = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")
JUDGED = "sentinel_checkpoints_judged_total"
CONVENTIONAL = ("_total", "_seconds", "_bytes", "_info", "_step", "_loss", "_length", "_state",
                "_verdict")  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def watched(bench, *options: str):
    """A watch of the bench that serves metrics: its process and port."""
    port = free_port()
    (bench.place / "sentinel.yaml").write_text("settle_s: 0.2\n", encoding="utf-8")
    process = bench.start(
        *("watch", str(bench.out), "--state", str(bench.state)),
        *("--metrics-port", str(port), *options),
    )
    try:
        yield process, port
    finally:
        process.send_signal(signal.SIGKILL)  # as bad as an end can be
        process.communicate()


def judged(count: int):
    return lambda seen: sum(seen.values(JUDGED)) == count


def test_what_was_judged_is_counted_once_whatever_is_killed(bench, saves):
    """Verdicts, findings, steps and sizes; after SIGKILL and a new start the same, and one more."""
    saves.folder(bench.out / "checkpoint-10", 10)
    faulty = saves.folder(bench.out / "checkpoint-20", 20, nan=True)
    with watched(bench) as (process, port):
        first = scraped_when(process, port, judged(2))
        opened = scrape(port, accept=OPENMETRICS)

    assert first.value(JUDGED, verdict="healthy") == 1
    assert first.value(JUDGED, verdict="faulty") == 1
    assert first.value("sentinel_findings_total", rule="nan-values", severity="critical") == 1
    assert first.value("sentinel_last_checkpoint_step") == 20
    assert first.value("sentinel_last_verdict", sentinel_last_verdict="faulty") == 1
    assert first.value("sentinel_last_verdict", sentinel_last_verdict="healthy") == 0
    written_s = max(entry.stat().st_mtime for entry in faulty.iterdir())
    assert first.value("sentinel_last_checkpoint_timestamp_seconds") == pytest.approx(written_s)
    size = first.value("sentinel_last_checkpoint_size_bytes")
    assert size == sum(entry.stat().st_size for entry in faulty.iterdir())
    assert first.value("sentinel_judge_duration_seconds_count") == 2
    assert first.label("sentinel_run_info", "name") == ["bench/out"]
    assert opened.is_openmetrics
    assert opened.value(JUDGED, verdict="faulty") == 1

    with watched(bench) as (process, port):
        again = scraped_when(process, port, judged(2))
        saves.folder(bench.out / "checkpoint-30", 30)
        more = scraped_when(process, port, judged(3))

    for name in (JUDGED, "sentinel_findings_total", "sentinel_attempts_total",
                 "sentinel_last_verdict", "sentinel_last_checkpoint_step"):  # fmt: skip
        assert again.values(name) == first.values(name), name
    assert more.value(JUDGED, verdict="healthy") == 2
    assert more.value("sentinel_last_verdict", sentinel_last_verdict="healthy") == 1


def test_labels_stay_few_and_a_run_that_is_gone_is_not_told_of(bench, saves):
    """Neither a path nor a tensor is a label, and a run goes with its directory."""
    saves.folder(bench.out / "a" / "checkpoint-10", 10, nan=True)
    saves.folder(bench.out / "b" / "checkpoint-10", 10)
    with watched(bench) as (process, port):
        both = scraped_when(process, port, judged(2))
        shutil.rmtree(bench.out / "a")
        left = scraped_when(
            process, port, lambda seen: seen.values(JUDGED, verdict="faulty") != [1, 0]
        )

    assert sorted(both.label("sentinel_run_info", "name")) == ["out/a", "out/b"]
    assert left.label("sentinel_run_info", "name") == ["out/b"]
    assert "lora" not in both.text
    assert str(bench.place) not in both.text
    assert {name for _, has, _ in both.samples() for name in has} == {
        *("run", "name", "verdict", "rule", "severity", "outcome", "le"),
        *("sentinel_last_verdict", "version", "python"),
    }
    ours = [name for name, _, _ in both.samples() if name.startswith("sentinel_")]
    ends = (*CONVENTIONAL, "_bucket", "_sum", "_count", "_created")
    assert [name for name in ours if not name.endswith(ends)] == []


def test_a_port_in_use_costs_the_metrics_and_nothing_else(bench, saves):
    """One sentence that says what to do, and every checkpoint has its verdict."""
    saves.folder(bench.out / "checkpoint-10", 10, nan=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        ran = bench.run(
            *("watch", str(bench.out), "--once", "--state", str(bench.state)),
            *("--metrics-port", port),
        )

    assert ran.code == 1
    (said,) = [line for line in ran.err.splitlines() if "metrics" in line]
    assert f"127.0.0.1:{port}: cannot be served (Address already in use)" in said
    assert "give another --metrics-port" in said


def test_a_file_that_cannot_be_written_costs_nothing_else(bench, saves):
    """Said once, though it is tried at every verdict."""
    saves.folder(bench.out / "checkpoint-10", 10)
    saves.folder(bench.out / "checkpoint-20", 20)

    ran = bench.run(
        *("watch", str(bench.out), "--once", "--state", str(bench.state)),
        *("--metrics-file", str(bench.place / "gone" / "sentinel.prom")),
    )

    assert ran.code == 0
    assert ran.err.count("cannot be written (No such file or directory)") == 1


@posix
def test_a_file_tells_how_a_run_ended_that_is_over(bench):
    """A repaired run: two starts, one repair that helped; a later start counts on from there."""
    file = bench.place / "sentinel.prom"
    trainer = bench.trainer("--fault", "zero", "--linger-s", "60", "--steps", "30")
    options = ("--metrics-file", str(file))

    ran = bench.run(*bench.arguments(*options, trainer=trainer))

    assert ran.code == 0, ran.err
    seen = from_file(file)
    assert seen.value("sentinel_attempts_total") == 2
    assert seen.value("sentinel_repairs_begun_total") == 1
    assert seen.value("sentinel_repairs_total", outcome="fixed") == 1
    assert seen.value("sentinel_run_state", sentinel_run_state="ended") == 1
    assert seen.value(JUDGED, verdict="faulty") == 1

    bench.run(*bench.arguments(*options, trainer=bench.trainer("--precision", "fp32")))

    again = from_file(file)
    assert again.value("sentinel_repairs_total", outcome="fixed") == 1
    assert again.value("sentinel_repairs_begun_total") == 1
    assert again.value("sentinel_attempts_total") == 3
    assert again.value(JUDGED, verdict="faulty") == 1


@posix
def test_a_run_that_was_given_up_says_so(bench):
    """The state an alert waits for stays in the file after the process is gone."""
    file = bench.place / "sentinel.prom"
    trainer = bench.trainer("--fault", "nan", "--fault-from", "10", "--always", "--steps", "20")

    ran = bench.run(
        *bench.arguments("--max-attempts", "2", "--metrics-file", str(file), trainer=trainer)
    )

    assert ran.code == 75
    seen = from_file(file)
    assert seen.value("sentinel_run_state", sentinel_run_state="gave_up") == 1
    assert seen.value("sentinel_run_state", sentinel_run_state="training") == 0
    assert seen.value("sentinel_repairs_total", outcome="not_fixed") == 1
