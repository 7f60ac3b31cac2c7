"""A judgement as Markdown, for a comment on a change or a job's summary page.

GitHub's flavour (https://github.github.com/gfm/); GitLab reads the same. Names come from files, so
every character that means something in it is escaped, and no name can call a person or an issue.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sentinel.reports.subjects import Subject, not_whole, sentence
from sentinel.reports.words import path_words, shown
from sentinel.verdict import Level

MAX_CHARS = 60_000
"""A comment on GitHub holds 65,536 characters; a longer one is refused as a whole."""

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")
_CALLS = re.compile(r"(@|\\#)(?=\w)")
_ORDER: tuple[Level, ...] = ("faulty", "unreadable", "suspect", "healthy")
_HEAD = "| verdict | what | says |\n|---|---|---|\n"


def to_markdown(subjects: Sequence[Subject], base_dir: Path) -> str:
    """Return a table of all that is not healthy, then, folded, what is and what was not asked.

    Rows beyond MAX_CHARS are only counted; the gravest stand first.
    """
    ordered = sorted(subjects, key=lambda one: _ORDER.index(one.verdict.level))
    bad = [one for one in ordered if one.verdict.findings]
    good = [one for one in ordered if not one.verdict.findings]
    parts = [f"### Sentinel: {_summary(subjects)}\n"]
    partly = not_whole(subjects)
    if partly:
        parts.append(f"{_escaped(partly)}\n")
    if bad:
        parts.append(_HEAD + _fitting([_row(one, base_dir) for one in bad], MAX_CHARS * 2 // 3))
    if good:
        names = [f"- {_path(one, base_dir)} ({_escaped(one.origin)})\n" for one in good]
        title = f"nothing found in {len(good)}"
        parts.append(_folded(title, _fitting(names, MAX_CHARS // 6)))
    reasons = list(_reasons(subjects))
    if reasons:
        parts.append(_folded("not evaluated", _fitting(reasons, MAX_CHARS // 6)))
    return "\n".join(parts)


def _summary(subjects: Sequence[Subject]) -> str:
    if not subjects:
        return "no checkpoint was found, so nothing is known to be good"
    counts = Counter(one.verdict.level for one in subjects)
    return ", ".join(f"{counts[level]} {level}" for level in _ORDER if counts[level])


def _row(subject: Subject, base_dir: Path) -> str:
    level = subject.verdict.level
    told = "<br>".join(
        f"**{_escaped(found.rule)}** ({found.severity}): {_escaped(sentence(found))}"
        for found in sorted(
            subject.verdict.findings, key=lambda found: _SEVERITIES.index(found.severity)
        )
    )
    verdict = f"**{level}**" if level in {"faulty", "unreadable"} else level
    where = f"{_path(subject, base_dir)}<br>{_escaped(subject.origin)}"
    return f"| {verdict} | {where} | {told} |\n"


_SEVERITIES = ("critical", "unreadable", "warning", "info")


def _path(subject: Subject, base_dir: Path) -> str:
    return f"<code>{_escaped(path_words(subject.path, base_dir))}</code>"


def _reasons(subjects: Sequence[Subject]) -> Iterator[str]:
    """Yield why rules could not be asked, each reason once, the most frequent first."""
    rules: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for subject in subjects:
        for missed in subject.verdict.not_evaluated:
            rules.setdefault(missed.reason, set()).add(missed.rule)
            counts[missed.reason] += 1
    for reason, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        yield f"- {_escaped(reason)}: {', '.join(map(_escaped, sorted(rules[reason])))}\n"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n</details>\n"


def _fitting(lines: Sequence[str], room: int) -> str:
    """Return the first lines that fit into so many characters, and how many do not."""
    kept: list[str] = []
    for line in lines:
        room -= len(line)
        if room < 0:
            return "".join(kept) + f"\n... and {len(lines) - len(kept)} more\n"
        kept.append(line)
    return "".join(kept)


def _escaped(text: str) -> str:
    """Return text that a reader of the rendered page sees as it stands."""
    safe = _SPECIAL.sub(r"\\\1", shown(text)).replace(r"\&", "&amp;").replace(r"\<", "&lt;")
    # An empty comment between the sign and the name: nobody is notified by a file's name.
    return _CALLS.sub(r"\1<!-- -->", safe)
