"""A hook that writes down how it was called: one JSON line in the file it is given."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

file, how, *words = sys.argv[1:]
told = {name: value for name, value in os.environ.items() if name.startswith("SENTINEL_")}
with Path(file).open("a", encoding="utf-8") as calls:
    calls.write(json.dumps({"words": words, "environment": told}) + "\n")
print("first line\nlast line", flush=True)
if how == "fail":
    sys.exit(3)
while how == "hang" or (how == "wait" and not Path(f"{file}.go").exists()):
    signal.sigtimedwait([], 0.02)
