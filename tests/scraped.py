"""A scrape of a real daemon, as Prometheus makes it, parsed by its client's own parsers."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

DEADLINE_S = 60
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Labels = dict[str, str]


@dataclass(frozen=True)
class Scrape:
    """What a daemon answered."""

    text: str
    is_openmetrics: bool = False

    def families(self) -> dict[str, str]:
        """Every family's name and type, those without a sample too."""
        return {family.name: family.type for family in self._parsed()}

    def samples(self) -> list[tuple[str, Labels, float]]:
        return [(s.name, s.labels, s.value) for family in self._parsed() for s in family.samples]

    def values(self, name: str, **labels: str) -> list[float]:
        wanted = labels.items()
        return [v for one, has, v in self.samples() if one == name and wanted <= has.items()]

    def value(self, name: str, **labels: str) -> float:
        (value,) = self.values(name, **labels)
        return value

    def label(self, name: str, label: str) -> list[str]:
        return [has[label] for one, has, _ in self.samples() if one == name]

    def _parsed(self):
        parse = openmetrics.text_string_to_metric_families if self.is_openmetrics else parse_text
        return list(parse(self.text))


def scrape(port: int, *, accept: str = "*/*") -> Scrape:
    """Ask over HTTP; raises OSError where nothing answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        kind = answer.headers["Content-Type"]
        return Scrape(answer.read().decode(), kind.startswith("application/openmetrics-text"))


def scraped_when(
    process: subprocess.Popen[str], port: int, holds: Callable[[Scrape], bool]
) -> Scrape:
    """The first scrape for which it holds; what has not come by the deadline fails."""
    deadline = time.monotonic() + DEADLINE_S
    last: object = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            last = scrape(port)
        except OSError as error:
            last = error
        else:
            if holds(last):
                return last
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    return pytest.fail(f"it never came to that; exit code {process.poll()}, last: {last}")


def from_file(path: Path) -> Scrape:
    """What was written for node_exporter."""
    return Scrape(path.read_text(encoding="utf-8"))
