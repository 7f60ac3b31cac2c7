"""The templates of the pages, by Jinja2: everything put into them is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.errors import ConfigError
from sentinel.reports.charts.drawing import EXTRA

if TYPE_CHECKING:
    import jinja2

PAGE_FILES = Path(__file__).parent / "page_files"
"""Where the report's templates, its style and its script lie."""


def environment(*directories: Path) -> jinja2.Environment:
    """Return what finds templates in some directories, the first that has one.

    Raises ConfigError when the extra `report` is not installed.
    """
    try:
        import jinja2  # noqa: PLC0415 - an extra, only needed when a page is made
    except ImportError:
        raise ConfigError(
            "report", fact="its template library is not installed", todo=f"run `{EXTRA}`"
        ) from None
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(directories),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_file(name: str) -> str:
    """Return the text of one of the report's files."""
    return (PAGE_FILES / name).read_text(encoding="utf-8")
