"""Texts as HTML: escaped first, whatever they hold, then with the little that is added."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_CODE = re.compile(r"`([^`]+)`")


def prose(text: str) -> Markup:
    """Return a rule's text as HTML, what stands in backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def dotted(name: str) -> Markup:
    """Return a tensor's name as HTML that may be broken behind its dots."""
    return Markup(str(escape(name)).replace(".", ".<wbr>"))  # noqa: S704 - escaped before
