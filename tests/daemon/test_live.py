"""The table of `sentinel watch` on a real terminal, beside a real (small) trainer."""

from __future__ import annotations

import io
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sentinel.reports.live import LiveTable, Standing, age_words
from sentinel.verdict import LEVELS

if os.name != "posix":
    pytest.skip("terminals of POSIX", allow_module_level=True)
pytest.importorskip("pyte")

from screens import DEADLINE_S, Terminal, sentinel

SETTINGS = "settle_s: 0.3\ntorn_after_s: 0.6\n"
COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-7][0-9;]*m")
HEAD = re.compile(r"run +step +verdict +judged +age +now")


@pytest.fixture
def words(bench) -> list[str]:
    """`sentinel watch` of a bench's output."""
    settings = bench.place / "patience.yaml"
    settings.write_text(SETTINGS)
    return sentinel("watch", "out", "--config", settings, "--state", bench.state)


def row(lines: list[str], name: str) -> list[str]:
    """The cells of a run in the table, [] where it is not shown."""
    heads = [number for number, line in enumerate(lines) if HEAD.match(line)]
    below = lines[heads[-1] :] if heads else []
    return next((re.split("  +", line) for line in below if line.startswith(name)), [])


def test_a_trainer_and_its_table(bench, words):
    """The last step, the verdict and the counts stand below the lines, which scroll above."""
    trainer = bench.trainer("--steps", "60", "--fault", "nan", "--fault-from", "50")
    with Terminal(words, cwd=bench.place, rows=16) as terminal:
        terminal.until_shown("nothing was judged yet")
        bench.run_plain([*trainer, "--precision", "fp16"])
        lines = terminal.until(lambda lines: row(lines, "out")[1:2] == ["60"])
        terminal.press_ctrl_c()
        code = terminal.end()

        name, step, verdict, judged, age, doing = row(lines, "out")
        assert (name, step, verdict, judged, doing) == ("out", "60", "faulty", "6, 2 bad", "waits")
        assert re.fullmatch(r"\d+s", age)
        told = "\n".join(terminal.scrolled)
        assert [told.count(f"step {step} ") for step in range(10, 61, 10)] == [1] * 6
        assert len(HEAD.findall(told)) == 1
        assert code == 0
        assert not terminal.screen.cursor.hidden
        assert terminal.raw.count(b"\x1b[?25l") == terminal.raw.count(b"\x1b[?25h") == 1


def test_a_window_that_changes_its_size(bench, words, saves):
    """What is drawn next fits into the new width, and no line that was said is lost."""
    with Terminal(words, cwd=bench.place, columns=120) as terminal:
        saves.folder(bench.out / "checkpoint-10", 10)
        terminal.until(lambda lines: row(lines, "out")[1:2] == ["10"])
        for columns, step in ((50, 20), (100, 30)):
            terminal.resize(columns, 24)
            saves.folder(bench.out / f"checkpoint-{step}", step)
            lines = terminal.until(lambda lines, step=step: row(lines, "out")[1:2] == [str(step)])
            assert row(lines, "out")[2] == "healthy"
        terminal.press_ctrl_c()
        assert terminal.end() == 0
        told = "\n".join(terminal.scrolled)
        assert all(told.count(f"step {step} ") == 1 for step in (10, 20, 30))


def test_runs_of_yesterday_are_still_there(bench, words, saves):
    """A restart shows how each run stood; the age of what it did not see is not guessed."""
    saves.folder(bench.out / "checkpoint-10", 10, nan=True)
    done = subprocess.run(
        [*words, "--once"], cwd=bench.place, capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 1, done.stderr
    with Terminal(words, cwd=bench.place) as terminal:
        lines = terminal.until(lambda lines: bool(row(lines, "out")))
        assert row(lines, "out")[1:5] == ["10", "faulty", "1, 1 bad", "-"]


def test_without_colour(bench, words, saves):
    """NO_COLOR leaves the table and takes the colours."""
    saves.folder(bench.out / "checkpoint-10", 10, nan=True)
    for environment, coloured in (({"NO_COLOR": "1"}, False), ({}, True)):
        with Terminal(words, cwd=bench.place, **environment) as terminal:
            terminal.until(lambda lines: row(lines, "out")[2:3] == ["faulty"])
            assert bool(COLOUR.search(terminal.raw)) == coloured


def test_a_dumb_terminal_gets_lines(bench, words, saves):
    """Where nothing can be drawn anew there is no table and no escape sequence."""
    with Terminal(words, cwd=bench.place, TERM="dumb") as terminal:
        saves.folder(bench.out / "checkpoint-10", 10)
        lines = terminal.until_shown("healthy     step 10  ")
        terminal.press_ctrl_c()
        assert terminal.end() == 0
        assert not any(map(HEAD.match, lines))
        assert b"\x1b" not in terminal.raw


def test_notes_go_above_the_table(bench, words, saves):
    """What is said on standard error does not tear the table apart; elsewhere it stays there."""
    with Terminal(words, cwd=bench.place) as terminal:
        saves.folder(bench.out / "checkpoint-10", 10)
        terminal.until(lambda lines: row(lines, "out")[1:2] == ["10"])
        (bench.state / "health").rename(bench.place / "health")
        (bench.state / "health").write_text("in the way")
        saves.folder(bench.out / "checkpoint-20", 20)
        lines = terminal.until_shown("sentinel: health log")
        assert row(lines, "out")[1:2] == ["10"]


@pytest.mark.parametrize("command", ["watch", "scan"])
def test_quiet_says_only_what_matters(bench, words, saves, command):
    """A healthy checkpoint is not mentioned, a faulty one is; on a terminal there is no table."""
    saves.folder(bench.out / "checkpoint-10", 10)
    saves.folder(bench.out / "checkpoint-20", 20, nan=True)
    if command == "watch":
        with Terminal([*words, "--quiet"], cwd=bench.place) as terminal:
            lines = terminal.until_shown("faulty")
            terminal.press_ctrl_c()
            assert terminal.end() == 0
    else:
        with Terminal(sentinel("scan", "out", "--quiet"), cwd=bench.place) as terminal:
            assert terminal.end() == 1
            lines = terminal.lines

    told = "\n".join(lines)
    assert "checkpoint-20" in told
    assert "checkpoint-10" not in told
    assert not any(map(HEAD.match, lines))
    assert "checkpoints:" not in told


def test_a_quiet_run_tells_what_it_does(bench):
    """Of a repair the verdict, the plan and the outcome are said; what is healthy is not."""
    trainer = bench.trainer("--steps", "40", "--fault", "zero")

    ran = bench.run(*bench.arguments("--quiet", trainer=trainer))

    assert ran.code == 0, ran.err
    words = {line.split()[1] for line in ran.err.splitlines() if re.match(r"\d\d:", line)}
    assert words == {"faulty", "plan", "action", "outcome"}


def test_forced_colours_leave_lines_in_a_pipe(bench, saves):
    """FORCE_COLOR colours what goes into a pipe; a checkpoint stays one line."""
    saves.folder(bench.out / "checkpoint-10", 10, nan=True)
    for environment, coloured in (({"FORCE_COLOR": "1"}, True), ({}, False)):
        bare = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}}
        done = subprocess.run(
            sentinel("scan", "out"),
            cwd=bench.place,
            env=bare | environment,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert bool(COLOUR.search(done.stdout)) == coloured
        first, *_ = re.sub(rb"\x1b\[[0-9;]*m", b"", done.stdout).splitlines()
        assert first.startswith(b"faulty      out/checkpoint-10 | ")
        assert b"nan-values" in first


# -- the table alone --

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def drawn(standings: list[Standing], *, width: int, height: int = 24, **how: object) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, legacy_windows=False)
    reading = how.get("reading")
    table = LiveTable(
        Path("/runs"),
        reading=lambda: reading,
        pending=lambda: how.get("pending", 0),
        now=lambda: NOW,
    )
    for number, one in enumerate(standings):
        table.known(f"run-{number}", one)
    console.print(table)
    return out.getvalue().splitlines()


@given(
    st.lists(
        st.builds(
            Standing,
            place=st.text(st.characters(exclude_characters="/\0")).map(lambda s: Path("/runs") / s),
            step=st.none() | st.integers(0, 10**12),
            level=st.sampled_from(LEVELS),
            at=st.none() | st.integers(0, 10**9).map(lambda s: NOW - timedelta(seconds=s)),
            count=st.integers(1, 10**6),
            bad=st.integers(0, 10**6),
            did=st.text(),
        ),
        max_size=30,
    ),
    st.integers(20, 200),
    st.integers(4, 60),
)
def test_the_table_fits(standings, width, height):
    """Whatever runs are called and do: no line as wide as the screen, no more than half as high."""
    lines = drawn(standings, width=width, height=height)

    assert max(map(cell_len, lines)) < width
    assert len(lines) <= max(4, height // 2 + 1)


def test_it_tells_what_goes_on():
    """What is read now, what waits, what was done, and how many runs do not fit."""
    runs = [
        Standing(Path(f"/runs/{n}"), n, "healthy", NOW - timedelta(minutes=n)) for n in range(30)
    ]
    runs.append(Standing(Path("/runs/x"), 7, "faulty", NOW, 3, 1, "action: stopped the trainer"))

    lines = drawn(runs, width=100, height=20, reading=Path("/runs/29/c-5"), pending=3)

    assert lines[-1] == "23 older runs not shown, reading 29/c-5, 2 wait until written, Ctrl-C ends"
    assert re.split("  +", lines[-2]) == [
        *("x", "7", "faulty", "3, 1 bad", "0s", "action: stopped the trainer")
    ]
    assert re.split("  +", lines[-3]) == ["29", "29", "healthy", "1", "29m", "reads c-5"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (86_399, "23h"), (1e9, "999d")],
)
def test_ages(seconds, words):
    """Rounded down, and never longer than four characters; a clock set back is no age below 0."""
    assert age_words(seconds) == words
