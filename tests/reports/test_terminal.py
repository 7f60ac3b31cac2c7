from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sentinel.reports.entries import ScanEntry
from sentinel.reports.terminal import render_scan
from sentinel.reports.words import shown
from sentinel.verdict import Finding, Verdict


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verbose", [False, True], ids=["plain", "verbose"])
def test_looks_as_agreed_on_a_terminal(samples, make_console, golden, width, verbose):
    """The layout at both usual widths is what was looked at and found good."""
    console = make_console(width)

    render_scan(samples.ENTRIES, console, samples.BASE, verbose=verbose)

    name = f"scan-{width}{'-verbose' if verbose else ''}.txt"
    golden(name, console.file.getvalue())


def test_looks_as_agreed_in_a_pipe(samples, make_console, golden):
    """In a pipe each checkpoint is one whole line."""
    console = make_console(terminal=False)

    render_scan(samples.ENTRIES, console, samples.BASE)

    golden("scan-pipe.txt", console.file.getvalue())


def test_a_pipe_can_be_searched_by_line(samples, make_console):
    """`grep faulty` finds each faulty checkpoint once, with path, rule and remedy."""
    console = make_console(terminal=False)

    render_scan(samples.ENTRIES, console, samples.BASE)

    lines = console.file.getvalue().splitlines()
    faulty = [line for line in lines if line.startswith("faulty")]
    assert len(faulty) == 2
    assert "checkpoint-40" in faulty[0]
    assert "dead-lora-up" in faulty[0]
    assert "fp32" in faulty[0]


def test_no_line_is_wider_than_the_terminal(samples, make_console):
    """Nothing is left to the terminal's own wrapping, even when it is narrow."""
    console = make_console(50)

    render_scan(samples.ENTRIES, console, samples.BASE, verbose=True)

    *blocks, _summary, _gap = console.file.getvalue().rsplit("\n", 2)
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 50


def test_colour_only_repeats_what_words_say(samples, make_console):
    """Without its escape codes the coloured text is the plain one."""
    plain, coloured = make_console(), make_console(colour=True)
    render_scan(samples.ENTRIES, plain, samples.BASE)

    render_scan(samples.ENTRIES, coloured, samples.BASE)

    assert "\x1b[" in coloured.file.getvalue()
    assert plain.file.getvalue() == re.sub(r"\x1b\[[\d;]*m", "", coloured.file.getvalue())


def test_a_checkpoint_asked_for_by_name_keeps_it(samples, make_console):
    """`sentinel scan checkpoint-40` says checkpoint-40, not '.'."""
    console = make_console(terminal=False)

    render_scan(samples.ENTRIES[1:2], console, samples.BASE / "checkpoint-40")

    assert console.file.getvalue().startswith("faulty      checkpoint-40 |")


def test_nothing_found_is_said(make_console):
    """An empty scan has a summary too."""
    console = make_console()

    render_scan((), console, Path("/runs"))

    assert console.file.getvalue().startswith("0 checkpoints: 0 healthy")


HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\r\n\u202etxt.exe\x9b31m\u2028[link=http://a]"


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_names_from_files_cannot_steer_the_terminal(samples, make_console, terminal):
    """Escape sequences, line breaks, direction marks and markup in names are only shown."""
    console = make_console(400, terminal=terminal)
    finding = Finding("r", "critical", HOSTILE, tensors=(HOSTILE,), remedy={"resume": HOSTILE})
    entry = ScanEntry(
        replace(samples.checkpoint(Path("/runs") / HOSTILE), layout=HOSTILE, trainer=HOSTILE),
        Verdict("faulty", (), (finding,)),
    )

    render_scan((entry,), console, Path("/runs"), verbose=True)

    text = console.file.getvalue()
    assert not set(text) & set("\x1b\x07\r\u202e\x9b\u2028")
    assert "\\x1b]0;owned\\x07" in text
    assert "[red]x[/red]" in text


def test_what_the_terminal_cannot_say_is_escaped(samples):
    """A console of another encoding gets backslashes, not an exception."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    entry = replace(samples.ENTRIES[0], checkpoint=samples.checkpoint(Path("/runs/\u732b-lora")))

    render_scan((entry,), Console(file=file), Path("/runs"))

    file.flush()
    assert b"\\u732b-lora" in file.buffer.getvalue()


@given(st.text(st.characters(codec=None)))
def test_shown_text_is_printable_and_settled(text):
    """Whatever comes in, what comes out encodes, holds no control, and stays as it is."""
    once = shown(text)

    once.encode("utf-8")
    assert all(char == " " or char.isprintable() or not char.isascii() for char in once)
    assert shown(once) == once
