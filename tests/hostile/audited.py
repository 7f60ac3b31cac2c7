"""Reads malicious files while every event of the interpreter is listened to, and tells as JSON.

Run as ``python audited.py read DIRECTORY`` or ``live DIRECTORY``: the latter lets Python load the
samples that make a file, which shows that they can.
"""

from __future__ import annotations

import json
import pickle
import sys
from contextlib import suppress
from pathlib import Path

from pickles import calls, forms, in_containers, live_samples, odd_samples, torch_zip

from sentinel.formats.opening import open_checkpoint
from sentinel.scanning import scan

HARMLESS = {"open", "os.listdir", "os.scandir"}
"""What reading a file may do, and only below the sample's directory."""


class Listener:
    """Keeps what the interpreter tells while it is armed; an audit hook cannot be taken away."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.is_armed = False
        self.heard: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.is_armed:
            return
        place = str(arguments[0]) if arguments else ""
        mode = arguments[1] if len(arguments) > 1 else "r"
        is_reading = event in HARMLESS and mode in {"r", "rb", None} and place.startswith(self.root)
        if not is_reading:
            self.is_armed = False
            self.heard.append(f"{event} {arguments!r:.200}")
            self.is_armed = True


def every_sample(command: str) -> dict[str, bytes]:
    found = {f"{name}|live": raw for name, raw in live_samples(command).items()}
    found |= {f"{name}|odd": raw for name, raw in odd_samples().items()}
    for module, name in calls():
        for form, raw in forms(module, name, command).items():
            found[f"{module} {name}|{form}"] = raw
    return found


def read(root: Path) -> list[dict[str, object]]:
    listener = Listener(root)
    warm_up(root)
    sys.addaudithook(listener)
    told = []
    for name, raw in every_sample(f"touch {root / 'canary'}").items():
        is_first = name.endswith(("|live", "|odd")) or name.startswith("os system|")
        for file, content in in_containers(raw):
            if not is_first and file != "zipped.pt":
                continue
            path = root / file
            path.write_bytes(content)
            listener.heard.clear()
            listener.is_armed = True
            checkpoint = open_checkpoint(path)
            listener.is_armed = False
            rules = [fault.rule for fault in checkpoint.faults]
            told.append({"sample": f"{name}|{file}", "rules": rules, "heard": listener.heard[:]})
    return told


def warm_up(root: Path) -> None:
    """Have everything imported that reading imports."""
    for file, content in in_containers(pickle.dumps({"a": 1}, 2)):
        path = root / file
        path.write_bytes(content)
        scan(path, settle_s=0)
    (root / "zipped.pt").write_bytes(torch_zip({"a/data.pkl": pickle.dumps({"a": 1}, 2)}))
    scan(root / "zipped.pt", settle_s=0)


def live(root: Path) -> list[dict[str, object]]:
    told = []
    for at, name in enumerate(live_samples("")):
        canary = root / f"canary-{at}"
        with suppress(Exception):
            pickle.loads(live_samples(f"touch {canary}")[name])
        told.append({"sample": name, "ran": canary.exists()})
    return told


if __name__ == "__main__":
    what, where = sys.argv[1:]
    print(json.dumps({"read": read, "live": live}[what](Path(where).resolve())))
