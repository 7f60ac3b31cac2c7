"""What a parser of the standard library accepts, as facts."""

from __future__ import annotations

import argparse
import json


def options_of(parser: argparse.ArgumentParser) -> dict[str, list[object]]:
    """Return a parser's options: name to [kind, default] or [kind, default, choices].

    The kind is a type's name, `flag` for one without a value, with `*` where it takes several
    and with `?` where its value may be left out.
    """
    found: dict[str, list[object]] = {}
    for action in parser._actions:
        if not action.option_strings or action.dest == "help":
            continue
        kind = "flag" if action.nargs == 0 else getattr(action.type, "__name__", "str")
        several = {"*": "*", "+": "*", "?": "?"}.get(str(action.nargs), "")
        described: list[object] = [kind + several, plain(action.default)]
        if action.choices is not None:
            described.append([plain(choice) for choice in action.choices])
        found[max(action.option_strings, key=len)] = described
    return dict(sorted(found.items()))


def plain(value: object) -> object:
    """Return a value as JSON holds it, anything else by its `repr`."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)
