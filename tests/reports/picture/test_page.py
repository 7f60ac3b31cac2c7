"""What the page says is what the log says, in one file that needs nothing else."""

from __future__ import annotations

import re
import shlex
import sys
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from sentinel.reports.picture.told import told
from sentinel.reports.picture.whole_page import GENERATOR, is_report

SECTIONS = ["verdicts", "loss", "findings", "repairs", "modules", "ranges", "run"]
LABELS = ("aria-label", "data-tip")


def drawings(section):
    """The drawings in a section, the wide ones."""
    return [one.one("svg") for one in section.all("div") if one.attributes.get("class") == "wide"]


def labels(element) -> list[str]:
    """What a pointer shows or a screen reader says of the marks below."""
    found = (one.attributes.get(name) for one in element.all() for name in LABELS)
    return [one for one in found if one]


def cells(section, summary: str) -> list[list[str]]:
    """The rows of the table behind a summary."""
    (found,) = [one for one in section.all("details") if one.one("summary").text == summary]
    return [[cell.text for cell in row.all("td")] for row in found.one("tbody").all("tr")]


def test_the_page_is_well_formed_and_has_its_sections(tree):
    """Every tag is closed where it was opened, headings go down step by step."""
    assert [one.attributes["id"] for one in tree.all("section")] == SECTIONS
    assert tree.one("html").attributes["lang"] == "en"
    headings = [int(one.tag[1]) for one in tree.all() if re.fullmatch("h[1-6]", one.tag)]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    ids = [one.attributes["id"] for one in tree.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))


def test_every_link_inside_leads_somewhere(tree):
    """Links of the navigation, and what drawings refer to."""
    ids = {one.attributes.get("id") for one in tree.all()}
    anchors = {one.attributes["href"] for one in tree.all("a")}
    used = {
        name
        for one in tree.all()
        for value in one.attributes.values()
        for name in re.findall(r"url\(#([^)]+)\)", value)
    }

    assert {one[1:] for one in anchors if one.startswith("#")} <= ids
    assert used <= ids


def test_nothing_is_loaded(tree, repaired_page):
    """No source, style sheet, font or script from elsewhere; only links to sources to click on."""
    assert not [one for one in tree.all() if {"src", "srcset", "xlink:href"} & set(one.attributes)]
    assert not list(tree.all("link"))
    assert not re.search(r"@import|url\((?!#)", repaired_page)
    policy = tree.one("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"].startswith("default-src 'none'; ")
    assert len(list(tree.all("script"))) == 1
    outside = [a for a in tree.all("a") if not a.attributes["href"].startswith("#")]
    assert all(one.attributes["rel"] == "noreferrer" for one in outside)


def test_every_drawing_is_valid_and_has_a_name(tree, repaired_page):
    """Each is XML by itself; each says what it is."""
    for text in re.findall(r'<svg [^>]*class="marks".*?</svg>', repaired_page, re.DOTALL):
        ET.fromstring(text)

    drawn = [one for one in tree.all("svg") if one.attributes.get("class") == "marks"]
    assert len(drawn) >= 10
    assert all(one.attributes["aria-label"] for one in drawn)


def test_the_state_in_one_sentence(tree):
    """What happened, what was done, and how it stands."""
    state = next(one for one in tree.all("p") if "state" in one.attributes.get("class", ""))

    assert state.text == (
        "Repaired. nan-values stopped attempt 1; attempt 2 went on from step 20 in bf16;"
        " the last checkpoint (step 40) is healthy."
    )
    assert tree.one("title").text == "Repaired: out · Sentinel report"


def test_the_verdicts_are_those_of_the_log(tree, repaired):
    """Marks and table: attempt, step, verdict, what was done with it, and the way back."""
    section = tree.one("section", id="verdicts")
    rows = told(repaired.log.root, repaired.run_id).rows

    assert [row[:4] for row in cells(section, "The verdicts as a table")] == [
        ["1", "10", "healthy", ""],
        ["1", "20", "healthy", "pinned"],
        ["1", "30", "faulty", "quarantined"],
        ["2", "30", "healthy", ""],
        ["2", "40", "healthy", ""],
    ]
    said = "\n".join(labels(drawings(section)[0]))
    for row in rows:
        assert f"Attempt {row.attempt}, step {row.step}: {row.verdict}" in said
    assert "Attempt 2 went back from step 30 to step 20: in bf16, fixed" in said


def test_the_losses_are_those_that_the_trainer_logged(tree):
    """Each step once in each attempt; one that is no number is said to be none."""
    section = tree.one("section", id="loss")
    rows = cells(section, "The loss as a table")

    assert [row[:2] for row in rows] == [
        *(["1", str(step)] for step in range(1, 31)),
        *(["2", str(step)] for step in range(21, 41)),
    ]
    assert rows[4] == ["1", "5", "1.995"]
    assert rows[29] == ["1", "30", "not finite"]
    said = labels(drawings(section)[0])
    assert "Fault at step 30 of attempt 1: nan-values" in said
    assert "The loss of attempt 1 at step 30 is not finite" in said


def test_a_finding_is_explained(tree, repaired):
    """Rule, gravity, sentence, tensors, why, and that the repair took it away."""
    section = tree.one("section", id="findings")
    found = next(one for one in section.all("article") if "nan-values" in one.one("h3").text)
    events = told(repaired.log.root, repaired.run_id).events
    (event,) = [one for one in events if one.rule == "nan-values" and one.kind == "finding"]

    assert found.one("h3").text == "nan-values critical repaired"
    assert event.message in found.text
    assert all(name in found.text for name in event.tensors)
    assert "Why:" in found.text
    assert "attempt 1: 1 checkpoint, step 30" in found.text


def test_a_repair_tells_what_it_cost_and_what_was_proved(tree, repaired):
    """Reason, proof, steps, losses, and the way to take the quarantine back."""
    section = tree.one("section", id="repairs")
    facts = {
        one.one("dt").text: one.one("dd").text
        for one in section.one("article").one("dl").all("div")
    }

    assert facts == {
        "begun from": "step 20",
        "saved": "20 steps of training kept",
        "lost": "10 steps",
        "trained in": "bf16",
        "optimizer state": "left out",
        "quarantined": "1 checkpoint",
        "since then": "2 checkpoints, 2 healthy",
        "loss": "1.98 to 1.96",
    }
    assert "is gone from 2 checkpoints" in section.text
    undo = next(one.text for one in section.all("code") if one.text.startswith("sentinel undo"))
    place = shlex.split(undo)[2]
    assert place.startswith(str(repaired.root / ".sentinel-quarantine"))


def test_the_modules_are_those_of_the_log(tree, repaired):
    """Norms of scale·B·A as measured, what is not finite, and names without their beginning."""
    section = tree.one("section", id="modules")
    panels = [one for one in section.all("div") if one.attributes.get("class") == "panel"]
    norms = {
        row["module"]: row["norm"]
        for row in repaired.last[2].measured.pairs.select(["module", "norm"]).to_pylist()
    }
    rows = {row[0]: row for row in cells(section, "Size of the change as a table")}

    assert [one.one("h3").text for one in panels] == ["Size of the change", "Not finite"]
    assert set(rows) == {"0.q_proj", "0.v_proj", "1.q_proj"}
    for module, norm in norms.items():
        name = module.removeprefix("layers.")
        assert rows[name][3] == f"norm {norm:.3g}"
        assert rows[name][4] == "1"
    assert "0.q_proj, attempt 1, step 30: not finite" in labels(section)


def test_without_script_everything_is_there(tree, repaired_page):
    """The script adds hover texts and copying, and is the only one that the policy lets run."""
    (script,) = tree.all("script")
    bare = repaired_page.replace(script.text, "")

    assert not list(tree.all("button"))
    assert "onclick" not in bare
    assert "onload" not in bare


def test_a_former_report_is_known_again(repaired_page, tmp_path):
    """By what it says of its maker; anything else is not ours."""
    ours, theirs = tmp_path / "a.html", tmp_path / "b.html"
    ours.write_text(repaired_page, encoding="utf-8")
    theirs.write_text(f"<p>{GENERATOR}</p>", encoding="utf-8")

    assert is_report(ours)
    assert not is_report(theirs)


# -- runs of other kinds --


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
    assert len(drawings(page.one("section", id="verdicts"))) == 1


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
    import numpy as np  # noqa: PLC0415
    from safetensors.numpy import save_file  # noqa: PLC0415

    for name in ("a", "b"):
        path = run.out / f"{name}.safetensors"
        save_file({"w": np.ones((4, 4), "f4")}, path)
        run.judge(path)

    page = parse(run.page())

    section = page.one("section", id="verdicts")
    assert [row[:3] for row in cells(section, "The verdicts as a table")] == [
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
