"""Laws of the forms for pipelines: whatever a file, a tensor or a rule is called."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.reports.github import to_github
from sentinel.reports.junit import to_junit
from sentinel.reports.markdown import MAX_CHARS, to_markdown
from sentinel.reports.sarif import MAX_RESULTS, to_sarif
from sentinel.reports.subjects import Subject
from sentinel.reports.words import shown
from sentinel.verdict import Finding, NotEvaluated, Verdict

junitparser = pytest.importorskip("junitparser")
markdown_it = pytest.importorskip("markdown_it")

HERE = Path("/runs")
TEXT = st.text(min_size=1, max_size=60)
MEANT = st.text(st.sampled_from("|`*_<>[]()#@&!~$\\:%,;-+={}'\" \n\ra1"), min_size=1, max_size=30)
WORDS = TEXT | MEANT
NAMES = (
    st.binary(min_size=1, max_size=40)
    .map(os.fsdecode)
    .filter(lambda name: "/" not in name and "\0" not in name and name not in {".", ".."})
)


def subject(name: str, message: str, *, tensor: str = "t", count: int = 1) -> Subject:
    findings = [
        Finding("nan-values", "critical", message, tensors=(tensor,), tensor_count=1)
    ] * count
    verdict = Verdict("faulty", (), tuple(findings), (NotEvaluated("odd-rule", message),))
    return Subject(HERE / name, "step 3, peft", 3, verdict, HERE)


class Cells(HTMLParser):
    """The text of each cell of a rendered table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self._open = False
        reader = markdown_it.MarkdownIt("commonmark", {"html": True})
        self.feed(reader.enable(["table", "strikethrough"]).render(text))

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - what HTMLParser calls it
        if tag == "td":
            self.cells.append("")
            self._open = True
        elif tag == "br" and self._open:
            self.cells[-1] += "\n"

    def handle_endtag(self, tag):
        self._open = self._open and tag != "td"

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


def squeezed(text: str) -> str:
    """Text without its blanks: a page shows many as one, or none at an end."""
    return re.sub(r"\s+", "", text)


@settings(max_examples=300)
@given(NAMES, WORDS)
def test_markdown_shows_every_name(name, message):
    """Three cells a finding; rendered, path and message read as `shown` says them."""
    cells = Cells(to_markdown([subject(name, message)], HERE)).cells

    assert len(cells) == 3
    assert squeezed(cells[1]) == squeezed(f"{shown(name)}step 3, peft")
    assert squeezed(cells[2]) == squeezed(f"nan-values (critical): {shown(message)}")


@given(NAMES, WORDS, WORDS)
def test_sarif_names_every_byte(name, message, tensor):
    """The text is ASCII and JSON; the URI, taken apart, gives the file's bytes again."""
    text = to_sarif([subject(name, message, tensor=tensor)], (), HERE, exit_code=1)

    assert text.isascii()
    (result,) = json.loads(text)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert unquote_to_bytes(place["uri"]) == os.fsencode(name)
    assert urlsplit(place["uri"])[:2] == ("", "")
    assert place["uriBaseId"] == "%SRCROOT%"


@given(NAMES, WORDS)
def test_junit_is_read_whatever_is_said(name, message):
    """A reader finds the failure, the file and the message as they are."""
    text = to_junit([subject(name, message)], (), HERE, fail_on="faulty")

    assert text.isascii()
    report = junitparser.JUnitXml.fromstring(text.encode())
    told = {case.name: case for suite in report for case in suite}
    assert set(told) == {"nan-values", "odd-rule"}
    assert (report.tests, report.failures, report.errors) == (2, 1, 0)
    assert squeezed(told["nan-values"].result[0].message) == squeezed(
        shown(message).replace("\ufffe", r"\ufffe").replace("\uffff", r"\uffff")
    )


@given(NAMES, WORDS)
def test_github_gets_one_command_a_finding(name, message):
    """No name begins a line of its own, or adds a property."""
    text = to_github([subject(name, message)], HERE)

    (line,) = text.splitlines()
    taken = re.fullmatch(r"::error file=([^:,]*),title=nan-values%3A faulty::(.*)", line)
    assert taken is not None


def test_more_than_a_view_takes():
    """Beyond 25,000 results the mildest are left out, and it is said how many."""
    mild = Finding("odd", "warning", "is odd")
    many = Subject(HERE / "b", "", 1, Verdict("faulty", (), (mild,) * (MAX_RESULTS + 5)), HERE)
    grave = subject("a", "is broken", count=2)

    (run,) = json.loads(to_sarif([many, grave], (), HERE, exit_code=1))["runs"]

    assert len(run["results"]) == MAX_RESULTS
    assert [one["level"] for one in run["results"][:3]] == ["error", "error", "warning"]
    said = [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    assert said[0] == f"7 of {MAX_RESULTS + 7} findings are left out, the mildest"
    marks = {one["partialFingerprints"]["primaryLocationLineHash"] for one in run["results"]}
    assert len(marks) == MAX_RESULTS


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=20)
def test_markdown_never_grows_out_of_a_comment(subjects, length):
    """However many and however long: shorter than what is refused."""
    told = [subject(f"{n}-{'x' * length}", "*" * length) for n in range(subjects)]

    assert len(to_markdown(told, HERE)) < MAX_CHARS + 2000
