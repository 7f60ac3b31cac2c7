"""The addresses that messages go to: secrets filled in late, and never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from sentinel.errors import ConfigError

EXTRA = "pip install 'checkpoint-sentinel[notify]'"

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_CHARACTERS = 4


def resolved(urls: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses with `${NAME}` filled in.

    Raises ConfigError for a name that the environment does not have, and without the extra
    ``notify``.
    """
    if urls and find_spec("apprise") is None:
        raise ConfigError(
            "setting 'notify.urls'", fact="needs the extra 'notify'", todo=f"run `{EXTRA}`"
        )

    def value(found: re.Match[str]) -> str:
        known = environment.get(found[1])
        if not known:
            raise ConfigError(
                f"setting 'notify.urls': '${{{found[1]}}}'",
                fact="is not in the environment",
                todo=f"export {found[1]} where sentinel starts",
            )
        return known

    return tuple(_NAME.sub(value, url) for url in urls)


def scrubbed(text: str, url: str, shown: str) -> str:
    """Return a sentence without any part of an address but those that are ``shown`` anyway."""
    parts = {part for part in re.split(r"[/:@?&=#,\s]+", url) if len(part) >= _SECRET_CHARACTERS}
    for part in sorted(parts, key=len, reverse=True):
        if part not in shown:
            text = text.replace(part, "...")
    return text
