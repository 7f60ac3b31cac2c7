"""What the language models are trained on: the standard library, line upon line."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

_COUNT = 400
_SHORTEST = 20


def pairs() -> list[dict[str, str]]:
    """Return lines and the lines that follow them, as instructions and answers."""
    library = Path(sysconfig.get_path("stdlib"))
    lines = [
        line.strip()
        for file in ("argparse.py", "ast.py")
        for line in (library / file).read_text(encoding="utf-8").splitlines()
        if len(line.strip()) > _SHORTEST
    ]
    both = zip(lines[::2], lines[1::2], strict=False)
    return [{"instruction": one, "input": "", "output": next_one} for one, next_one in both][
        :_COUNT
    ]


def as_json() -> str:
    """Return them as one list."""
    return json.dumps(pairs())


def as_lines() -> str:
    """Return them as JSON lines."""
    return "".join(f"{json.dumps(one)}\n" for one in pairs())
