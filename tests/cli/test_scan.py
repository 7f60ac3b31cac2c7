"""`sentinel scan`: verdicts in words and JSON, exit codes, mistakes in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

import jsonschema
import pytest

pty = pytest.importorskip("pty") if os.name == "posix" else None

SCHEMA = Path(__file__).parents[2] / "docs" / "scan.schema.json"
TIMEOUT_S = 100
LEVELS = {
    "out/checkpoint-20": "healthy",
    "out/checkpoint-40": "faulty",
    "cut/checkpoint-60": "unreadable",
    "who-knows.safetensors": "suspect",
}
posix = pytest.mark.skipif(os.name != "posix", reason="terminals and signals of POSIX")


def test_text_in_a_pipe_is_a_line_a_checkpoint(sentinel, tree):
    """Each line begins with verdict and path, the last sums up, nothing goes to standard error."""
    ran = sentinel("scan", tree)

    *lines, summary, _skipped = ran.out.splitlines()
    assert {line.split()[1]: line.split()[0] for line in lines} == LEVELS
    assert summary == "4 checkpoints: 1 healthy, 1 suspect, 1 faulty, 1 unreadable"
    assert (ran.code, ran.err) == (1, "")


@pytest.mark.usefixtures("tree")
def test_json_keeps_the_contract(sentinel):
    """Standard output is one object that docs/scan.schema.json describes."""
    ran = sentinel("scan", ".", "--format", "json")

    report = json.loads(ran.out)
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert {one["path"]: one["verdict"] for one in report["checkpoints"]} == LEVELS
    assert report["summary"] == {"healthy": 1, "suspect": 1, "faulty": 1, "unreadable": 1}
    assert (ran.code, ran.err) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["out/checkpoint-20"], 0),
        (["who-knows.safetensors"], 0),
        (["who-knows.safetensors", "--fail-on", "suspect"], 1),
        (["out"], 1),
        (["cut"], 2),
        (["cut", "out"], 1),
        (["cut", "who-knows.safetensors", "--fail-on", "suspect"], 1),
        (["nothing-here"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_codes(sentinel, tree, arguments, code):
    """1 is a finding, 2 what could not be read, also when there was nothing to read; 1 wins."""
    (tree / "nothing-here").mkdir()

    assert sentinel("scan", *arguments).code == code


def test_nothing_found_is_said(sentinel, here):
    """An empty directory is no success, and it is told why."""
    (here / "empty").mkdir()

    ran = sentinel("scan", "empty")

    assert ran.out.startswith("0 checkpoints: ")
    assert ran.err.startswith("sentinel: no checkpoint was found there")


def test_the_settings_file_chooses_what_fails(sentinel, tree):
    """`fail_on` of sentinel.yaml counts, the command line wins over it."""
    (tree / "sentinel.yaml").write_text("fail_on: suspect\n")

    assert sentinel("scan", "who-knows.safetensors").code == 1
    assert sentinel("scan", "who-knows.safetensors", "--fail-on", "faulty").code == 0


def test_verbose_tells_what_was_not_asked(sentinel, write):
    """Rules that could not be asked are counted, and named when asked for."""
    write.trainer("checkpoint-20")

    assert "not evaluated somewhere" in sentinel("scan", ".").out
    assert "not evaluated, " in sentinel("scan", ".", "--verbose").out


def test_the_verdict_does_not_depend_on_a_log(sentinel, write):
    """History is compared whether or not it is written down."""
    write.trainer("checkpoint-20")
    second = write.trainer("checkpoint-40") / "adapter_model.safetensors"
    second.write_bytes((write.root / "checkpoint-20/adapter_model.safetensors").read_bytes())

    told = [sentinel("scan", ".", *more).out for more in ([], ["--log", "log"])]

    assert told[0] == told[1]
    assert "unchanged-checkpoint" in told[0]
    assert (write.root / "log" / "checkpoints").is_dir()


OWN_RULE = """\
id: too-few-tensors
title: The adapter is smaller than ours
scope: content
severity: critical
safety: certain
since: 1.0.0
page: {{what: What., why: Why., fix: Fix.}}
query: SELECT {column} FROM checkpoint
when: {column} < 100
message: 'only {{hits}} of what we train; train more'
examples:
  - {{name: few, fires: true, tables: {{checkpoint: [{{tensor_count: 2}}]}}}}
  - {{name: many, fires: false, tables: {{checkpoint: [{{tensor_count: 200}}]}}}}
"""


def test_a_rule_of_ones_own(sentinel, write):
    """A rule file given by --rules is asked beside the catalogue."""
    write.trainer("checkpoint-20")
    (write.root / "own.yaml").write_text(OWN_RULE.format(column="tensor_count"))

    ran = sentinel("scan", ".", "--rules", "own.yaml")

    assert ran.code == 1
    assert "too-few-tensors: only 1 of what we train; train more" in ran.out


@pytest.mark.parametrize(
    ("text", "line", "near"),
    [
        (OWN_RULE.format(column="tensor_cuont"), 8, "tensor_count"),
        (OWN_RULE.format(column="tensor_count").replace("severity", "severty"), 4, "severity"),
    ],
    ids=["a column", "a key"],
)
def test_a_mistake_in_a_rule(sentinel, write, text, line, near):
    """One line names the file, the line and the nearest name."""
    write.trainer("checkpoint-20")
    (write.root / "own.yaml").write_text(text)

    ran = sentinel("scan", ".", "--rules", "own.yaml")

    assert (ran.code, ran.out) == (2, "")
    assert re.search(rf"own\.yaml:{line}\b.*'{near}'", ran.err), ran.err
    assert ran.err.count("\n") == 1


# -- wrong calls --

WRONG = {
    "no path": (["scan"], "missing argument 'PATHS...'"),
    "path": (["scan", "nothing"], "path 'nothing': does not exist; check its spelling"),
    "option": (["scan", ".", "--fial-on", "faulty"], "--fail-on"),
    "value": (["scan", ".", "--fail-on", "bad"], "'bad' is not one of"),
    "number": (["scan", ".", "--jobs", "0"], "--jobs"),
    "rules": (["scan", ".", "--rules", "nothing"], "'nothing' does not exist"),
    "base": (["scan", ".", "--base", "nothing"], "'nothing' does not exist"),
    "command": (["scam", "."], "no such command 'scam'"),
    "run": (["run"], "missing argument"),
    "rate": (["watch", ".", "--max-read-rate", "fast"], "'fast' is no amount of bytes"),
    "log": (["log", "nobody", "--log", "x"], "run 'nobody': is not in the health log"),
    "rule": (["rules", "show", "dead-lora"], "did you mean 'dead-lora-"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_call_is_one_line(sentinel, arguments, says):
    """What was wrong stands on one line of standard error; the exit code is 2."""
    ran = sentinel(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.startswith("sentinel: ")
    assert ran.err.count("\n") == 1


def test_a_mistake_in_the_settings(sentinel, tree):
    """So is a setting that does not exist, with its file and line."""
    (tree / "sentinel.yaml").write_text("policy: report\nfail_no: suspect\n")

    ran = sentinel("scan", ".")

    assert (ran.code, ran.out) == (2, "")
    assert re.search(r"sentinel\.yaml:2.*'fail_on'", ran.err)


# -- names that mean harm --

HOSTILE = "a\x1b[2J\x1b]0;owned\x07\nb\u202e"


@posix
@pytest.mark.parametrize("form", ["text", "json"])
def test_odd_names_never_reach_the_terminal_raw(sentinel, write, form):
    """Neither a file's name nor a tensor's steers the terminal; both can be recognised."""
    write.plain(f"{HOSTILE}.safetensors", f"t{HOSTILE}", float("nan"))

    ran = sentinel("scan", ".", "--format", form, "--verbose")

    assert not set(ran.out + ran.err) & set("\x1b\x07\u202e")
    assert "owned" in ran.out
    assert (ran.code, ran.err) == (1, "")


@posix
def test_an_error_about_an_odd_name_is_one_line(sentinel):
    """What the user or a shell's pattern passed on is shown harmless too."""
    ran = sentinel("scan", HOSTILE)

    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert not set(ran.err) & set("\x1b\x07\u202e")


@pytest.mark.skipif(sys.platform != "linux", reason="only here any bytes are a file name")
def test_undecodable_bytes_of_a_name_are_escaped(sentinel, write):
    """JSON and text say them with backslashes."""
    write.plain("x.safetensors").rename(write.root / os.fsdecode(b"\xff\xfe.safetensors"))

    report = json.loads(sentinel("scan", ".", "--format", "json").out)

    assert report["checkpoints"][0]["path"] == "\\xff\\xfe.safetensors"
    assert "\\xff\\xfe.safetensors" in sentinel("scan", ".").out


# -- a process of its own --


@pytest.mark.usefixtures("tree")
def test_the_process_ends_with_the_code(start):
    """0, 1 and 2 are what the shell sees."""
    paths = ("out/checkpoint-20", "out/checkpoint-40", "cut", "nothing")

    processes = [start("scan", path, stdout=DEVNULL, stderr=DEVNULL) for path in paths]

    assert [process.wait(TIMEOUT_S) for process in processes] == [0, 1, 2, 2]


@posix
@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_that_goes_away_changes_nothing(start, form):
    """`sentinel scan . | head -1` says nothing on standard error and keeps its code."""
    reader, writer = os.pipe()
    os.close(reader)

    process = start("scan", ".", "--format", form, stdout=writer, stderr=PIPE)
    os.close(writer)

    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (1, b"")


@posix
def test_a_reader_that_goes_away_ends_what_has_no_verdict(start):
    """`sentinel rules list | head -1` is quiet too and ends as SIGPIPE would have ended it."""
    reader, writer = os.pipe()
    os.close(reader)

    process = start("rules", "list", stdout=writer, stderr=PIPE)
    os.close(writer)

    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (141, b"")


@posix
@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("no_color", [False, True], ids=["colour", "NO_COLOR"])
def test_colour_only_where_it_is_wanted(start, no_color):
    """On a terminal verdicts have colours, with NO_COLOR only the words are left."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    if no_color:
        environment["NO_COLOR"] = "1"

    said = seen_on_terminal(start, "scan", ".", env=environment)

    assert re.search(rb"\x1b\[[\d;]*3[0-9]", said) is None if no_color else b"\x1b[1;31m" in said
    assert b"faulty" in said


def seen_on_terminal(start, *arguments: str, **options: object) -> bytes:
    """Return what a command shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = start(*arguments, stdout=theirs, stderr=theirs, stdin=theirs, **options)
    os.close(theirs)
    said = b"".join(chunks(ours))
    process.wait(TIMEOUT_S)
    os.close(ours)
    return said


def chunks(descriptor: int):
    """Yield what comes through a terminal until its other side is closed (EIO on Linux)."""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:
            return
        if not chunk:
            return
        yield chunk


@posix
def test_ctrl_c_ends_a_scan_in_the_middle_of_a_file(start, here):
    """While 256 GB are read SIGINT ends the scan at once, with one line and code 130."""
    size = 256 * 1024**3
    text = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    path = here / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    try:
        os.truncate(path, 8 + len(text) + size)  # a hole: it takes no room
    except OSError:
        pytest.skip("this file system holds no file of 256 GB")
    os.utime(path, (0, 0))
    ours, theirs = pty.openpty()

    process = start("scan", path.name, "--jobs", "2", stdout=DEVNULL, stderr=theirs, stdin=theirs)
    os.close(theirs)
    said = b""
    for chunk in chunks(ours):
        said += chunk
        if b"reading" in said:
            break
    process.send_signal(signal.SIGINT)
    said += b"".join(chunks(ours))

    assert process.wait(TIMEOUT_S) == 130
    assert b"sentinel: interrupted" in said
    assert b"Traceback" not in said


@pytest.mark.usefixtures("tree")
def test_a_quick_scan_says_what_it_skipped(sentinel):
    """In words, in the sum, and in JSON within the contract; a NaN is found all the same."""
    ran = sentinel("scan", "out", "--quick")
    told = sentinel("scan", "out", "--quick", "--format", "json")

    first, *_, summary, _skipped = ran.out.splitlines()
    assert "| quick: " in first
    assert summary.startswith("2 checkpoints, quickly: ")
    report = json.loads(told.out)
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert {one["path"]: one["verdict"] for one in report["checkpoints"]} == {
        name: level for name, level in LEVELS.items() if name.startswith("out/")
    }
    for one in report["checkpoints"]:
        assert one["skipped"]["screened_count"] > 0
        assert "rank-collapse" in {missed["rule"] for missed in one["not_evaluated"]}
    assert (ran.code, told.code) == (1, 1)


@pytest.mark.usefixtures("tree")
def test_a_quick_scan_is_not_logged(sentinel):
    """Whoever reads the log later would take its verdicts for whole ones."""
    ran = sentinel("scan", "out", "--quick", "--log", "log")

    assert (ran.code, ran.out) == (2, "")
    assert "--quick cannot go into a log" in ran.err
