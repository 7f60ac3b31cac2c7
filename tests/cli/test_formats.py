"""Forms for pipelines: each read by a real reader of it, none broken by a name from a file."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import jsonschema
import pytest

junitparser = pytest.importorskip("junitparser")
markdown_it = pytest.importorskip("markdown_it")

SARIF = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0.json").read_bytes())
FORMS = ["text", "json", "sarif", "junit", "github", "markdown"]
NASTY = "a|b`c*_d_ <i>x%0A,y: @me #1 [l](h) ]]> &amp; $z$\\~~\x1b[31m\u202e\ufffe"
"""A tensor's name that means something in every one of the forms."""

linux = pytest.mark.skipif(os.name != "posix", reason="names of bytes")


def sarif(text: str) -> dict:
    """The only run of a log that the schema describes."""
    log = json.loads(text)
    kind = jsonschema.validators.validator_for(SARIF)
    kind(SARIF, format_checker=kind.FORMAT_CHECKER).validate(log)
    (run,) = log["runs"]
    return run


class Page(HTMLParser):
    """The text of a rendered page, cell by cell, and the elements in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._in_cell = False
        reader = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(
            ["table", "strikethrough"]
        )
        self.feed(reader.render(text))

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - what HTMLParser calls it
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        self._in_cell = tag in {"td", "th"} or (self._in_cell and tag != "table")

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data


@pytest.fixture
def nasty(write) -> Path:
    """A file whose one tensor is NaN and called so that it breaks what does not escape."""
    return write.plain("odd, 100% `x`|y.safetensors", NASTY, float("nan"))


# -- SARIF --


@pytest.mark.usefixtures("tree")
def test_sarif_is_valid_and_whole(sentinel):
    """The log keeps the schema; each finding is a result with its rule, its level and its file."""
    ran = sentinel("scan", ".", "--format", "sarif")

    run = sarif(ran.out)
    rules = run["tool"]["driver"]["rules"]
    found = {
        (
            one["ruleId"],
            one["level"],
            one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        )
        for one in run["results"]
    }
    assert found == {
        ("nan-values", "error", "out/checkpoint-40/adapter_model.safetensors"),
        ("truncated-file", "error", "cut/checkpoint-60/adapter_model.safetensors"),
        ("unknown-layout", "warning", "who-knows.safetensors"),
    }
    assert [one["level"] for one in run["results"]] == ["error", "error", "warning"]
    for one in run["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        assert one["locations"][0]["physicalLocation"]["region"]["startLine"] == 1
    (called,) = run["invocations"]
    assert (called["exitCode"], called["executionSuccessful"]) == (ran.code, True)
    assert (ran.code, ran.err) == (1, "")


@pytest.mark.usefixtures("tree")
def test_sarif_tells_each_rule_and_what_was_not_asked(sentinel):
    """The catalogue is in it, within the lengths that GitHub takes; so is each rule not asked."""
    run = sarif(sentinel("scan", ".", "--format", "sarif").out)
    told = json.loads(sentinel("scan", ".", "--format", "json").out)

    rules = run["tool"]["driver"]["rules"]
    assert {one["id"] for one in rules} > {"nan-values", "dead-lora-up", "truncated-file"}
    for rule in rules:
        assert 0 < len(rule["shortDescription"]["text"]) <= 1024
        assert 0 < len(rule["fullDescription"]["text"]) <= 1024
        assert "What to do" in rule["help"]["markdown"]
        assert len(rule["properties"]["tags"]) <= 10
    missed = {
        (one["associatedRule"]["id"], one["message"]["text"].partition(": ")[2])
        for one in run["invocations"][0]["toolExecutionNotifications"]
    }
    assert missed == {
        (one["rule"], one["reason"])
        for checkpoint in told["checkpoints"]
        for one in checkpoint["not_evaluated"]
    }


def test_the_same_finding_is_the_same_alert(sentinel, write):
    """A fingerprint stays when others come and go; two findings never share one."""
    write.trainer("out/checkpoint-40", up=float("nan"))
    first = sentinel("scan", ".", "--format", "sarif")
    again = sentinel("scan", ".", "--format", "sarif")
    write.trainer("out/checkpoint-60", up=float("nan"))
    more = sentinel("scan", "out", "--format", "sarif")

    assert first.out == again.out
    (one,) = [result["partialFingerprints"] for result in sarif(first.out)["results"]]
    both = [result["partialFingerprints"] for result in sarif(more.out)["results"]]
    assert one in both
    assert len({json.dumps(mark) for mark in both}) == len(both) == 2


@linux
def test_a_uri_holds_every_byte_of_a_name(sentinel, write):
    """What is no text, a blank, a sign of URIs or of Markdown: decoded it is the name's bytes."""
    raw = b"a b%20#?:\xff\xc3\xa4.safetensors"
    plain = write.plain("x.safetensors", value=float("nan"))
    os.rename(os.fsencode(plain), os.path.join(os.fsencode(write.root), raw))  # noqa: PTH104, PTH118

    run = sarif(sentinel("scan", ".", "--format", "sarif").out)

    (place,) = {
        one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]
    }
    assert re.fullmatch(r"[A-Za-z0-9._~%/-]+", place)
    assert unquote_to_bytes(place) == raw


def test_what_lies_elsewhere_has_a_whole_uri(sentinel, write, tmp_path_factory):
    """A checkpoint outside the working directory is told by an absolute URI, without a base."""
    elsewhere = tmp_path_factory.mktemp("else where") / "x.safetensors"
    write.plain("x.safetensors").rename(elsewhere)

    (one,) = sarif(sentinel("scan", elsewhere, "--format", "sarif").out)["results"]

    place = one["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": elsewhere.as_uri()}


# -- JUnit --


def cases(text: str) -> dict[tuple[str, str], object]:
    """Every case of a report, by its class and name."""
    report = junitparser.JUnitXml.fromstring(text.encode("ascii"))
    assert report.tests == sum(len(suite) for suite in report)
    told = {(case.classname, case.name): case for suite in report for case in suite}
    assert len(told) == report.tests
    return told


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("fail_on", ["faulty", "suspect"])
def test_junit_tells_what_failed_from_what_was_not_asked(sentinel, fail_on):
    """A case a rule and checkpoint: failed as --fail-on asks, in error where unreadable."""
    ran = sentinel("scan", ".", "--format", "junit", "--fail-on", fail_on)

    told = cases(ran.out)
    kinds = {key: [type(one).__name__ for one in case.result] for key, case in told.items()}
    assert kinds["out/checkpoint-40", "nan-values"] == ["Failure"]
    assert kinds["cut/checkpoint-60", "truncated-file"] == ["Error"]
    warned = ["Failure"] if fail_on == "suspect" else []
    assert kinds["who-knows_safetensors", "unknown-layout"] == warned
    assert kinds["out/checkpoint-20", "nan-values"] == []
    assert kinds["cut/checkpoint-60", "nan-values"] == ["Skipped"]
    assert sum("Failure" in one for one in kinds.values()) == 1 + bool(warned)
    for kind in (one for one in told.values() if one.is_skipped):
        assert kind.result[0].message


@pytest.mark.usefixtures("nasty")
def test_junit_of_names_that_xml_cannot_hold(sentinel):
    """Control characters and noncharacters appear escaped, the rest as it is."""
    told = cases(sentinel("scan", ".", "--format", "junit").out)

    (failed,) = [case for case in told.values() if case.name == "nan-values"]
    said = failed.result[0].message
    assert r"\x1b[31m\u202e\ufffe" in said
    assert "<i>x%0A,y: @me #1 [l](h) ]]> &amp; $z$" in said


# -- GitHub --


@pytest.mark.usefixtures("nasty")
def test_github_reads_back_what_was_found(sentinel):
    """A command a finding, taken apart as the runner does it, names the file and the rule."""
    ran = sentinel("scan", ".", "--format", "github")

    told = {}
    for line in ran.out.splitlines():
        command, properties, data = re.fullmatch(r"::(\w+) (.*?)::(.*)", line).groups()
        named = dict(one.split("=", 1) for one in properties.split(","))
        named = {name: _unescaped(value, property_=True) for name, value in named.items()}
        told[named["title"]] = (command, named["file"], _unescaped(data))
    command, file, said = told["nan-values: faulty"]
    assert (command, file) == ("error", "odd, 100% `x`|y.safetensors")
    assert r"<i>x%0A,y: @me" in said
    assert list(told) == ["nan-values: faulty", "unknown-layout: faulty"]


def _unescaped(text: str, *, property_: bool = False) -> str:
    for sign in ("\r", "\n", *(":," if property_ else "")):
        text = text.replace(f"%{ord(sign):02X}", sign)
    return text.replace("%25", "%")


# -- Markdown --


@pytest.mark.usefixtures("nasty")
def test_markdown_shows_names_as_they_are(sentinel):
    """Rendered by a reader of Markdown: three cells a row, no element or mention from a name."""
    text = sentinel("scan", ".", "--format", "markdown").out

    page = Page(text)
    assert [len(row) for row in page.rows] == [3, 3]
    assert page.rows[0] == ["verdict", "what", "says"]
    verdict, what, says = page.rows[1]
    assert verdict == "faulty"
    assert what.startswith("odd, 100% `x`|y.safetensors")
    assert NASTY.partition("\x1b")[0] in says
    assert page.tags.isdisjoint({"i", "em", "a", "s", "img"})
    assert not re.search(r"@me|(?<!\\)#1|\$z\$", text)


def test_markdown_fits_into_a_comment(sentinel, write):
    """However much is found, GitHub takes it, the gravest first and the rest counted."""
    for number in range(160):
        write.plain(f"{'x' * 150}-{number}.safetensors")
    write.plain("zz.safetensors", value=float("nan"))

    text = sentinel("scan", ".", "--format", "markdown").out

    assert len(text) < 65_536
    page = Page(text)
    assert page.rows[1][1].startswith("zz.safetensors")
    counted = int(re.search(r"\.\.\. and (\d+) more", text)[1])
    assert len(page.rows) - 1 + counted == 161


# -- all of them --


@pytest.mark.parametrize("form", FORMS)
def test_the_form_changes_no_exit_code(sentinel, tree, form):
    """Found is 1, unreadable 2, nothing there 2, good 0, whatever it is told in."""
    (tree / "empty").mkdir()
    codes = {"out": 1, "cut": 2, "empty": 2, "out/checkpoint-20": 0, "who-knows.safetensors": 0}

    assert {path: sentinel("scan", path, "--format", form).code for path in codes} == codes


@pytest.mark.parametrize("form", ["sarif", "junit", "github", "markdown"])
def test_nothing_found_is_no_success(sentinel, here, form):
    """An empty directory is told as an error in every form."""
    (here / "empty").mkdir()

    said = sentinel("scan", "empty", "--format", form).out

    assert "no checkpoint was found" in said
    if form == "sarif":
        assert not sarif(said)["invocations"][0]["executionSuccessful"]
    if form == "junit":
        assert junitparser.JUnitXml.fromstring(said.encode()).errors == 1


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("form", FORMS[2:])
def test_a_quick_look_is_told_as_one(sentinel, form):
    """What was not read whole is said, in whichever form; a whole look says nothing of it."""
    quick = sentinel("scan", "out/checkpoint-20", "--quick", "--format", form).out
    whole = sentinel("scan", "out/checkpoint-20", "--format", form).out

    assert "1 of 1 were not read whole" in quick
    assert "were not read whole" not in whole
    if form == "sarif":
        (note, *_) = sarif(quick)["invocations"][0]["toolExecutionNotifications"]
        assert note["level"] == "warning"
    if form == "junit":
        assert junitparser.JUnitXml.fromstring(quick.encode()).tests > 0


@pytest.mark.usefixtures("tree")
def test_one_scan_in_several_forms(sentinel):
    """--also writes to files what --format would print, and leaves what is printed alone."""
    wanted = [f"--also={form}=made/{form}" for form in FORMS[1:]]

    ran = sentinel("scan", ".", *wanted)

    assert ran.out == sentinel("scan", ".").out
    for form in FORMS[1:]:
        written = Path("made", form).read_text(encoding="utf-8")
        assert written == sentinel("scan", ".", "--format", form).out


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("given", ["sarif", "text=x", "=x", "sarif="])
def test_a_wrong_also(sentinel, given):
    """A form that is none, or a file that is missing, is one line and code 2."""
    ran = sentinel("scan", ".", "--also", given)

    assert (ran.code, ran.out) == (2, "")
    assert "is not FORM=FILE" in ran.err


@pytest.mark.usefixtures("tree")
def test_a_report_that_cannot_be_written(sentinel):
    """It is an error: an old file would be taken for this scan's."""
    ran = sentinel("scan", "out", "--also", "sarif=who-knows.safetensors/x")

    assert ran.code == 2
    assert "file 'who-knows.safetensors/x': cannot be written" in ran.err


@pytest.mark.parametrize("form", ["sarif", "junit", "github", "markdown"])
def test_check_speaks_to_pipelines_too(sentinel, here, form):
    """A configuration is the place of what is wrong with it."""
    config = {"lora_weight_dtype": "FLOAT_16", "training_method": "LORA", "train_dtype": "FLOAT_16"}
    config |= {"optimizer": {"optimizer": "PRODIGY"}, "output_model_destination": "out/x"}
    (here / "config.json").write_text(json.dumps(config))

    ran = sentinel("check", "config.json", "--elsewhere", "--format", form)

    assert (ran.code, ran.err) == (1, "")
    assert "fp16-adapter-configured" in ran.out
    if form == "sarif":
        one = next(x for x in sarif(ran.out)["results"] if x["ruleId"] == "fp16-adapter-configured")
        place = one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert place == "config.json"
    if form == "junit":
        assert cases(ran.out)["config_json", "fp16-adapter-configured"].result[0].type == "faulty"
