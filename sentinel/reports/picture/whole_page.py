"""The page itself: everything about one run in one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sentinel.reports.charts.theme import DARK, LIGHT, css_variables
from sentinel.reports.picture.content import SECTIONS, content_of
from sentinel.reports.picture.templates import PAGE_FILES, environment, page_file
from sentinel.reports.picture.told import Told
from sentinel.rules.rule import Rule

GENERATOR = "sentinel report"
"""What the page calls its maker; by it a former report is known again."""


def report_page(
    run: Told,
    rules: Mapping[str, Rule],
    *,
    version: str,
    made_at: datetime,
    options: Sequence[str] = (),
) -> str:
    """Return the page. ``rules`` are those by id, whose pages explain the findings.

    ``options`` are what commands need to find the run's state (`--state DIR`). Raises ConfigError
    when the extra `report` is not installed.
    """
    script = page_file("script.js")
    page = (
        environment(PAGE_FILES)
        .get_template("report.html")
        .render(
            content_of(run, rules, options),
            sections=SECTIONS,
            rules_at="",
            generator=GENERATOR,
            version=version,
            made_at=made_at,
            policy=_policy(script),
            style=page_file("style.css"),
            light=css_variables(LIGHT),
            dark=css_variables(DARK),
            script=script,
        )
    )
    return str(page)


def is_report(path: Path) -> bool:
    """Tell whether a file is a report of ours, by its beginning."""
    with path.open("rb") as file:
        return f'<meta name="generator" content="{GENERATOR}'.encode() in file.read(2048)


def _policy(script: str) -> str:
    """Return the content security policy: nothing is loaded, no script runs but the page's own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
