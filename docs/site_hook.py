"""What `mkdocs` needs to make a site of pages that are written to be read as plain files.

The first page is the README, and what the pages name outside of this directory (deploy files,
benchmarks, the changelog) is taken into the site, so that no link leads out of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
BESIDE = ("deploy", "benchmarks", "rules/recipes")
"""Directories whose files pages link to."""

INSTEAD = {"deploy": "deploy.md", "rules/recipes": "trainers.md", "rules": "rules.md"}
"""The page that tells of a directory: a site shows no listings."""

_LINK = re.compile(r"(?<=\]\()(?!https?:)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that lie elsewhere in the repository."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    linked = {target for page in files.documentation_pages() for target in _targets(page)}
    for target in sorted(linked):
        path = ROOT / target
        if (
            target.startswith(BESIDE)
            and path.is_file()
            and files.get_file_from_path(target) is None
        ):
            files.append(File.generated(config, target, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let every link be counted from the site's root, where all pages lie."""
    return _LINK.sub(lambda found: _in_site(found[0], page.file.src_uri), markdown)


def _targets(page: File) -> set[str]:
    return {_in_site(found, page.src_uri) for found in _LINK.findall(page.content_string)}


def _in_site(target: str, page: str) -> str:
    """Return where a link of a page leads, as a path within the site."""
    if page in PAGES:
        inside = target.removeprefix("docs/")
    elif target.startswith("../"):
        inside = target.removeprefix("../")
    else:
        inside = target
    inside = inside.rstrip("/")
    by_source = {source: name for name, source in PAGES.items()}
    return INSTEAD.get(inside, by_source.get(inside, inside))
