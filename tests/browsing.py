"""A real Chromium for the tests of pages, and what axe-core says of a page in it.

Tests that use it are skipped where Playwright or Chromium is not there; `CHROMIUM` names one that
is not in the path.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)

IN_A_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; CHROMIUM=PATH names one"),
]
"""The marks of a module whose tests look at pages."""

SIZES = {"desk": (1280, 900), "telephone": (360, 740)}
OPEN_ALL = "document.querySelectorAll('details').forEach(one => { one.open = true })"


@contextmanager
def chromium() -> Iterator[object]:
    """A browser that is started once for many pages."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def violations(page: object) -> list[str]:
    """What axe-core finds wrong, the first place of each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]
