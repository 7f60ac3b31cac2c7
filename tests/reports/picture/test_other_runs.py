"""Runs that have hardly begun, or lack what others have; and what strangers' files say."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from safetensors.numpy import save_file


def test_a_run_without_a_checkpoint(run, parse):
    """What is known is told; nothing is called healthy."""
    run.teller.tell("attempt", "attempt 1 started: train it", attempt=1, about=("start",))

    page = parse(run.page())

    assert "Nothing judged" in page.one("title").text
    assert [one.attributes["id"] for one in page.all("section")] == ["findings", "run"]
    assert "attempt 1 started: train it" in page.one("section", id="run").text


def test_one_checkpoint(run, parse):
    """A run that has just begun."""
    run.judge(run.save(10))

    page = parse(run.page())

    assert page.one("title").text == "Healthy: out · Sentinel report"
    assert "1 checkpoint judged up to step 10" in page.text
    assert len(page.one("section", id="verdicts").drawings) == 1


def test_a_run_without_losses(run, parse):
    """It says so and draws none."""
    run.logged = False
    run.judge(run.save(10))
    run.judge(run.save(20))

    section = parse(run.page()).one("section", id="loss")

    assert "so there is none to draw" in section.text
    assert not list(section.all("svg"))


def test_an_unknown_layout(run, parse):
    """Files of no known layout have no step: they stand in the order seen, and are suspect."""
    for name in ("a", "b"):
        path = run.out / f"{name}.safetensors"
        save_file({"w": np.ones((4, 4), "f4")}, path)
        run.judge(path)

    page = parse(run.page())

    section = page.one("section", id="verdicts")
    assert [row[:3] for row in section.table("The verdicts as a table")] == [
        ["1", "unknown", "suspect"],
        ["1", "unknown", "suspect"],
    ]
    assert "No checkpoint tells its step" in section.text
    assert "unknown" in page.one("section", id="run").text


def test_an_unreadable_checkpoint(run, parse):
    """It is counted as such, and has no modules to draw."""
    path = run.save(10)
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    run.judge(path)

    page = parse(run.page())

    assert page.one("title").text.startswith("Unreadable: ")
    assert not [one for one in page.all("section") if one.attributes["id"] == "modules"]


def test_an_open_fault_comes_with_its_command(run, parse):
    """Of a run that sentinel started: the resume, first as a dry run, with the state it needs."""
    run.teller.tell("attempt", "attempt 1 started: train it", attempt=1, about=("start",))
    run.judge(run.save(10))
    run.judge(run.save(20, up=float("nan")))

    page = parse(run.page(options=("--state", "/some where/state")))

    section = page.one("section", id="findings")
    first = next(section.all("article"))
    assert first.one("h3").text == "nan-values critical open"
    name = run.run_id[:8]
    lines = [one.text for one in first.all("code") if one.text.startswith("sentinel ")]
    assert lines == [
        f"sentinel resume {name} --dry-run --state '/some where/state'",
        f"sentinel resume {name} --state '/some where/state'",
    ]


def test_an_open_fault_of_a_run_that_was_only_looked_at(run, parse):
    """The training is started under sentinel, or by hand from a copy of the last good one."""
    good = run.save(10)
    run.judge(good)
    run.judge(run.save(20, up=float("nan")))

    first = next(parse(run.page()).one("section", id="findings").all("article"))

    lines = [one.text for one in first.all("code") if one.text.startswith("sentinel ")]
    assert lines == [
        "sentinel run -- YOUR USUAL COMMAND",
        f"sentinel repair {good} --cast fp32 --optimizer drop --apply",
    ]


# -- what strangers' files say --

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
NAMES = ('layers.0."><script>alert(3)</script>', "layers.1.\x1b[2J\u202e\x00", "layers.2.{{7*7}}")


def test_names_from_files_stay_text(new_run, write_repair, parse, tmp_path):
    """Tags, quotes, escapes, templates in tensor names and paths are shown and do nothing."""
    run = new_run(tmp_path, layers=NAMES, directory=EVIL.replace("/", "\u2044"))
    write_repair(run)
    message = f"weights of '{EVIL}' are bad"
    run.teller.tell("finding", message, attempt=2, about=(EVIL,), rule=f"rule-{EVIL}")

    text = run.page()
    page = parse(text)

    assert len(list(page.all("script"))) == 1
    assert not list(page.all("img"))
    assert not [one for one in page.all() for name in one.attributes if name.startswith("on")]
    assert message in page.one("section", id="findings").text
    modules = page.one("section", id="modules").text
    assert '0."><script>alert(3)</script>' in modules
    assert "{{7*7}}" in modules
    assert "\\x1b[2J\\u202e" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)
    for drawing in re.findall(r'<svg [^>]*class="marks".*?</svg>', text, re.DOTALL):
        ET.fromstring(drawing)
    run.journal.close()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text need a POSIX system")
def test_a_path_that_is_no_text(new_run, parse, tmp_path):
    """Undecodable bytes appear with backslashes."""
    run = new_run(tmp_path, directory="out-\udcff")
    run.judge(run.save(10))

    page = parse(run.page())

    assert page.one("h1").text == "out-\\xff"
    page.text.encode()
    run.journal.close()
