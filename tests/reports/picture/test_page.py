"""What the page says is what the log says, in one file that needs nothing else."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from xml.etree import ElementTree as ET

from sentinel.reports.picture.told import told
from sentinel.reports.picture.whole_page import GENERATOR, is_report

SECTIONS = ["verdicts", "loss", "findings", "repairs", "modules", "ranges", "run"]


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

    assert [row[:4] for row in section.table("The verdicts as a table")] == [
        ["1", "10", "healthy", ""],
        ["1", "20", "healthy", "pinned"],
        ["1", "30", "faulty", "quarantined"],
        ["2", "30", "healthy", ""],
        ["2", "40", "healthy", ""],
    ]
    said = "\n".join(section.drawings[0].labels)
    for row in rows:
        assert f"Attempt {row.attempt}, step {row.step}: {row.verdict}" in said
    assert "Attempt 2 went back from step 30 to step 20: in bf16, fixed" in said


def test_the_losses_are_those_that_the_trainer_logged(tree):
    """Each step once in each attempt; one that is no number is said to be none."""
    section = tree.one("section", id="loss")
    rows = section.table("The loss as a table")

    assert [row[:2] for row in rows] == [
        *(["1", str(step)] for step in range(1, 31)),
        *(["2", str(step)] for step in range(21, 41)),
    ]
    assert rows[4] == ["1", "5", "1.995"]
    assert rows[29] == ["1", "30", "not finite"]
    said = section.drawings[0].labels
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
    rows = {row[0]: row for row in section.table("Size of the change as a table")}

    assert [one.one("h3").text for one in panels] == ["Size of the change", "Not finite"]
    assert set(rows) == {"0.q_proj", "0.v_proj", "1.q_proj"}
    for module, norm in norms.items():
        name = module.removeprefix("layers.")
        assert rows[name][3] == f"norm {norm:.3g}"
        assert rows[name][4] == "1"
    assert "0.q_proj, attempt 1, step 30: not finite" in section.labels


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
