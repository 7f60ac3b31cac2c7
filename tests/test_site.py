"""What is written for readers holds: its commands are the real ones, its pages are in the site."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
import yaml

from sentinel.cli.main import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = {"cli.md"}
"""Made from the command line itself, whose own examples have a test of their own."""

PAGES = [
    ROOT / "README.md",
    *(page for page in sorted(DOCS.glob("*.md")) if page.name not in GENERATED),
]


def commands() -> list[str]:
    """Every line of an indented block that calls sentinel, without what follows a comment."""
    found = []
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            told = re.fullmatch(r" {4}(sentinel .+)", line)
            if told:
                found.append(f"{page.name}: {told[1]}")
    return found


@pytest.mark.parametrize("line", commands())
def test_a_command_in_the_docs_is_taken(line):
    """As click parses it: no option that is gone, no value that is no more, no word too many."""
    words = shlex.split(line.partition(": ")[2].partition(" > ")[0], comments=True)[1:]
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    told, rest, _ = command.make_parser(context).parse_args(words)
    assert rest == []
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice) and parameter.name in told:
            parameter.type_cast_value(context, told[parameter.name])


class _Loads(HTMLParser):
    """Collects what a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag in {"script", "img", "iframe", "source"} and told.get("src"):
            self.found.append(told["src"])
        if tag == "link" and told.get("rel") in {"stylesheet", "preload", "preconnect", "icon"}:
            self.found.append(told["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make site` does; a link to nowhere fails the build."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_in_the_navigation():
    """A page that nobody finds was written for nobody."""
    told = re.sub(r"!!\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = {
        page
        for room in yaml.safe_load(told)["nav"]
        for one in next(iter(room.values()))
        for page in one.values()
    }

    assert {page.name for page in DOCS.glob("*.md")} <= listed


def test_the_site_loads_nothing_from_elsewhere(site):
    """It is read where no network is, and tells nobody who reads it."""
    pages = list(site.glob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))
    for page in pages:
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert [url for url in loads.found if "//" in url] == [], page.name


def test_what_pages_name_outside_of_docs_is_taken_along(site):
    """The links of the README and of the deploy page lead somewhere within the site."""
    text = (site / "deploy.html").read_text(encoding="utf-8")

    assert (site / "deploy" / "slurm" / "train.sbatch").is_file()
    assert 'href="deploy/slurm/train.sbatch"' in text
    assert "docs/" not in {url[:5] for url in re.findall(r'href="([^"]+)"', text)}
