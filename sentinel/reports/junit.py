"""A judgement as JUnit XML, the form in which Jenkins, GitLab and others take test results.

A suite is a directory, a case is one rule asked about one checkpoint: passed, failed when what it
found is at or above ``fail_on``, in error when something could not be read, and skipped, with the
reason, when it could not be asked. So a rule that is mended shows as fixed, and what is unknown is
never shown as passed. There is no official schema; what is written here lies within that of
Jenkins' plugin (https://github.com/jenkinsci/xunit-plugin) but for GitLab's ``file``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree as ET

from sentinel.reports.subjects import Subject, alarms, not_whole, sentence
from sentinel.reports.words import path_words, shown
from sentinel.rules.rule import Rule
from sentinel.verdict import LEVEL_OF, LEVELS, Finding

_NONCHARACTERS = str.maketrans({"\ufffe": r"\ufffe", "\uffff": r"\uffff"})
"""Besides control characters, which `shown` escapes, all that XML 1.0 cannot hold."""


def to_junit(
    subjects: Sequence[Subject], rules: Sequence[Rule], base_dir: Path, *, fail_on: str
) -> str:
    """Return the XML text, ASCII only; names are relative to ``base_dir``."""
    top = ET.Element("testsuites", name="sentinel")
    whole: Counter[str] = Counter()
    by_directory = sorted(subjects, key=lambda one: str(one.path.parent))
    for directory, group in groupby(by_directory, key=lambda one: one.path.parent):
        suite = ET.SubElement(top, "testsuite", name=_text(_directory_words(directory, base_dir)))
        told = list(group)
        for subject in told:
            suite.extend(_cases(subject, rules, base_dir, fail_on))
        whole += _counted(suite)
        partly = not_whole(told)
        if partly:
            ET.SubElement(suite, "system-out").text = _text(partly)
    if not subjects:
        suite = ET.SubElement(top, "testsuite", name="sentinel")
        case = ET.SubElement(suite, "testcase", classname="sentinel", name="checkpoints")
        said = "no checkpoint was found, so nothing is known to be good"
        ET.SubElement(case, "error", type="nothing-found", message=said)
        whole += _counted(suite)
    _set_counts(top, whole)
    ET.indent(top)
    body = ET.tostring(top, encoding="unicode")
    declared = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
    return declared.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _cases(
    subject: Subject, rules: Sequence[Rule], base_dir: Path, fail_on: str
) -> Iterator[ET.Element]:
    """Yield a case a rule, in the order of their names; a rule may find several things."""
    found: dict[str, list[Finding]] = {}
    for one in subject.verdict.findings:
        found.setdefault(one.rule, []).append(one)
    skipped = {one.rule: one.reason for one in subject.verdict.not_evaluated}
    path = path_words(subject.path, base_dir)
    for rule in sorted({*(one.id for one in rules), *found, *skipped}):
        # A class's name is taken apart at its dots.
        case = ET.Element("testcase", classname=_text(path.replace(".", "_")), name=_text(rule))
        if rule in found:
            gravest = max(found[rule], key=_gravity)
            case.set("file", _text(path_words(subject.place(gravest), base_dir)))
            _tell(case, subject, found[rule], fail_on)
        elif rule in skipped:
            ET.SubElement(case, "skipped", message=_text(skipped[rule]))
        yield case


def _tell(case: ET.Element, subject: Subject, found: Sequence[Finding], fail_on: str) -> None:
    gravest = max(found, key=_gravity)
    level = LEVEL_OF[gravest.severity]
    lines = "\n".join(_text(f"{one.severity}: {sentence(one)}") for one in found)
    if alarms(level, fail_on):
        kind = "error" if level == "unreadable" else "failure"
        told = ET.SubElement(case, kind, type=level, message=_text(sentence(gravest)))
        told.text = f"{lines}\n{_text(str(subject.path))} | {_text(subject.origin)}"
    else:
        ET.SubElement(case, "system-out").text = lines


def _gravity(found: Finding) -> int:
    return LEVELS.index(LEVEL_OF[found.severity])


def _counted(suite: ET.Element) -> Counter[str]:
    kinds = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = Counter({name: len(suite.findall(f"*/{tag}")) for name, tag in kinds.items()})
    counts["tests"] = len(suite)
    _set_counts(suite, counts)
    return counts


def _set_counts(element: ET.Element, counts: Counter[str]) -> None:
    for name in ("tests", "failures", "errors", "skipped"):
        # Jenkins' schema knows how many are skipped in a suite, not in all of them.
        if name != "skipped" or element.tag == "testsuite":
            element.set(name, str(counts[name]))


def _directory_words(directory: Path, base_dir: Path) -> str:
    return "." if directory == base_dir else path_words(directory, base_dir)


def _text(text: str) -> str:
    return shown(text).translate(_NONCHARACTERS)
