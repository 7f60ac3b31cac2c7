"""A judgement as SARIF 2.1.0, the form that code-scanning views open.

The format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html. What GitHub makes of
it, and how much it takes:
https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from sentinel import __version__
from sentinel.health.plain import plain
from sentinel.reports.subjects import Subject, gravest_first, not_whole, sentence
from sentinel.reports.words import path_words, shown
from sentinel.rules.rule import Rule
from sentinel.verdict import Finding, NotEvaluated, Severity

SCHEMA_URI = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
MAX_RESULTS = 25_000
"""A run with more is refused by GitHub, which shows the gravest 5,000."""

MAX_LOCATIONS = 10
"""How many checkpoints a notification names, and how many tensors a result."""

_MAX_TEXT = 1024
"""GitHub takes no longer descriptions."""

_BASE_ID = "%SRCROOT%"
_LEVELS: Mapping[Severity, str] = MappingProxyType(
    {"critical": "error", "unreadable": "error", "warning": "warning", "info": "note"}
)
_PROBLEMS = MappingProxyType({"error": "error", "warning": "warning", "note": "recommendation"})
_PRECISIONS = MappingProxyType({"certain": "very-high", "likely": "high"})


def to_sarif(
    subjects: Sequence[Subject], rules: Sequence[Rule], base_dir: Path, *, exit_code: int
) -> str:
    """Return the log of one run as JSON text, ASCII only; the same findings give the same text.

    Files below ``base_dir`` are named relative to it, which has to be the repository's root for a
    view to find them. Beyond MAX_RESULTS the mildest are left out, and it is said.
    """
    descriptors = [_descriptor(rule) for rule in sorted(rules, key=lambda rule: rule.id)]
    index = {str(one["id"]): number for number, one in enumerate(descriptors)}
    results = list(_results(subjects, index, base_dir))
    notes = list(_notifications(subjects, index, base_dir))
    if len(results) > MAX_RESULTS:
        said = f"{len(results) - MAX_RESULTS} of {len(results)} findings are left out, the mildest"
        notes.insert(0, {"level": "warning", "message": {"text": said}})
    partly = not_whole(subjects)
    if partly:
        notes.insert(0, {"level": "warning", "message": {"text": partly}})
    if not subjects:
        said = "no checkpoint was found, so nothing is known to be good"
        notes.insert(0, {"level": "error", "message": {"text": said}})
    run = {
        "tool": {
            "driver": {
                "name": "Sentinel",
                "semanticVersion": __version__,
                "rules": descriptors,
            }
        },
        "invocations": [
            {
                # Also with findings; not when something could not be read.
                "executionSuccessful": exit_code in {0, 1},
                "exitCode": exit_code,
                "toolExecutionNotifications": notes,
            }
        ],
        "originalUriBaseIds": {
            _BASE_ID: {"description": {"text": "The directory in which sentinel was called."}}
        },
        "results": results[:MAX_RESULTS],
    }
    log = {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}
    return json.dumps(plain(log), indent=2, allow_nan=False)


def _descriptor(rule: Rule) -> dict[str, object]:
    level = _LEVELS[rule.severity]
    page = rule.page
    parts = {"What it finds": page.what, "Why that matters": page.why, "What to do": page.fix}
    markdown = "\n\n".join(f"**{title}.** {text.strip()}" for title, text in parts.items())
    if page.sources:
        markdown += "\n\n" + "\n".join(f"- <{source}>" for source in page.sources)
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.id.split("-")),
        "shortDescription": {"text": _cut(rule.title)},
        "fullDescription": {"text": _cut(page.what)},
        "help": {
            "text": "\n\n".join(f"{title}: {text.strip()}" for title, text in parts.items()),
            "markdown": markdown,
        },
        "defaultConfiguration": {"level": level},
        "properties": {
            "tags": ["checkpoint", rule.scope],
            "precision": _PRECISIONS[rule.safety],
            "problem.severity": _PROBLEMS[level],
        },
    }


def _results(
    subjects: Sequence[Subject], index: Mapping[str, int], base_dir: Path
) -> Iterator[dict[str, object]]:
    met: Counter[str] = Counter()
    for subject, found in gravest_first(subjects):
        what = hashlib.sha256(
            f"{found.rule}\0{_uri(subject.path, base_dir)}".encode(), usedforsecurity=False
        ).hexdigest()[:16]
        met[what] += 1
        known = {"ruleIndex": index[found.rule]} if found.rule in index else {}
        yield {
            "ruleId": found.rule,
            **known,
            "level": _LEVELS[found.severity],
            "message": {"text": f"{path_words(subject.path, base_dir)}: {sentence(found)}"},
            "locations": [_location(subject.place(found), base_dir, found)],
            # By rule, checkpoint and how often: what is still wrong tomorrow is the same alert.
            # GitHub would else compute one from the lines of a text file, which a checkpoint
            # does not have.
            "partialFingerprints": {"primaryLocationLineHash": f"{what}:{met[what]}"},
            "properties": {
                "verdict": subject.verdict.level,
                "step": subject.step,
                "origin": subject.origin,
                "safety": found.safety,
                "tensorCount": found.tensor_count,
            },
        }


def _notifications(
    subjects: Sequence[Subject], index: Mapping[str, int], base_dir: Path
) -> Iterator[dict[str, object]]:
    """Yield each rule that could not be asked, with its reason, once for all checkpoints."""
    missed: dict[NotEvaluated, list[Subject]] = {}
    for subject in subjects:
        for one in subject.verdict.not_evaluated:
            missed.setdefault(one, []).append(subject)
    for one, where in sorted(missed.items(), key=lambda item: (item[0].rule, item[0].reason)):
        known = {"index": index[one.rule]} if one.rule in index else {}
        yield {
            "level": "note",
            "associatedRule": {"id": one.rule, **known},
            "message": {
                "text": f"{one.rule} was not evaluated in {len(where)} of {len(subjects)}:"
                f" {shown(one.reason)}"
            },
            "locations": [_location(two.path, base_dir) for two in where[:MAX_LOCATIONS]],
        }


def _location(path: Path, base_dir: Path, found: Finding | None = None) -> dict[str, object]:
    uri = _uri(path, base_dir)
    base = {} if uri.startswith("file:") else {"uriBaseId": _BASE_ID}
    place: dict[str, object] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri, **base},
            # GitHub wants a line, also of a file that has none.
            "region": {"startLine": 1},
        }
    }
    if found is not None and found.tensors:
        place["logicalLocations"] = [
            {"fullyQualifiedName": shown(name), "kind": "tensor"}
            for name in found.tensors[:MAX_LOCATIONS]
        ]
    return place


def _uri(path: Path, base_dir: Path) -> str:
    """Return a path as a URI reference: every byte of a name, decodable or not, percent-encoded."""
    try:
        relative = path.relative_to(base_dir) if path.is_absolute() else path
    except ValueError:
        relative = path
    encoded = quote(os.fsencode(relative.as_posix()), safe="/")
    if not relative.is_absolute():
        return encoded
    return f"file://{'' if encoded.startswith('/') else '/'}{encoded}"


def _cut(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _MAX_TEXT else f"{words[: _MAX_TEXT - 3]}..."
