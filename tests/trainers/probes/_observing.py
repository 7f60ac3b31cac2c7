"""What the probes share: which files a trainer wrote in which order, and what it accepts."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import safetensors.torch
import torch
from safetensors import safe_open

_CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


class Journal:
    """Files written, renamed and removed below a directory, in order, while it is watched.

    torch and safetensors open their files outside Python: there their own calls are listened to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.events: list[str] = []
        self._watching = False
        sys.addaudithook(self._heard)
        self._listen(safetensors.torch, "serialize_file", argument=1)
        self._listen(torch.serialization, "_open_zipfile_writer", argument=0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep what happens inside the block."""
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    def unseen(self, pattern: str = "*") -> set[str]:
        """Return files that lie there now and that no event names: then the order is a guess."""
        named = {text.split(" ")[-1] for text in self.events}
        there = (path for path in self.root.glob(f"{pattern}/**/*") if path.is_file())
        return {path.relative_to(self.root).as_posix() for path in there} - named

    def _listen(self, module: ModuleType, name: str, *, argument: int) -> None:
        call = getattr(module, name)

        def heard(*arguments: object, **named: object) -> object:
            if self._watching:
                self._heard("open", (arguments[argument], "w", 0), again=True)
            return call(*arguments, **named)

        setattr(module, name, heard)

    def _heard(self, event: str, arguments: tuple[object, ...], *, again: bool = False) -> None:
        """Keep an event, of several alike in a row one, but each save of a whole file."""
        if not self._watching or event not in _CHANGES:
            return
        if event == "open" and not _is_writing(arguments):
            return
        kinds = str | bytes | os.PathLike
        paths = [os.fsdecode(path) for path in arguments[:2] if isinstance(path, kinds)]
        names = [self._inside(path) for path in (paths[:1] if event == "open" else paths)]
        if not names or names[0] is None:
            return
        text = " ".join([_VERBS[event], *(name for name in names if name)])
        if again or text not in self.events[-1:]:
            self.events.append(text)

    def _inside(self, path: str) -> str | None:
        try:
            return (Path.cwd() / path).relative_to(self.root).as_posix()
        except ValueError:
            return None


_TIMES = re.compile("runtime|per_sec")
_VERBS = {
    "open": "write",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.rmdir": "remove",
    "shutil.rmtree": "remove tree",
}


def _is_writing(arguments: tuple[object, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def zero_tensors(path: Path) -> list[str]:
    """Return the keys of a safetensors file whose every value is exactly zero."""
    with safe_open(path, framework="pt") as file:
        return [key for key in sorted(file.keys()) if not file.get_tensor(key).any()]


def options_of(parser: argparse.ArgumentParser) -> dict[str, list[object]]:
    """Return a parser's options: name to [kind, default] or [kind, default, choices].

    The kind is a type's name, `flag` for one without a value, with `*` where it takes several.
    """
    found: dict[str, list[object]] = {}
    for action in parser._actions:
        if not action.option_strings or action.dest == "help":
            continue
        name = max(action.option_strings, key=len)
        kind = getattr(action.type, "__name__", "str") if action.nargs != 0 else "flag"
        several = (
            "*"
            if action.nargs in {"*", "+"} or (isinstance(action.nargs, int) and action.nargs)
            else ""
        )
        described: list[object] = [kind + several, plain(action.default)]
        if action.choices is not None:
            described.append([plain(choice) for choice in action.choices])
        found[name] = described
    return dict(sorted(found.items()))


def plain(value: object) -> object:
    """Return a value as JSON can hold it, anything else by its `repr` without an address."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def without_times(facts: object) -> object:
    """Return nested facts without the numbers that say how long something took."""
    if isinstance(facts, list):
        return [without_times(inner) for inner in facts]
    if not isinstance(facts, dict):
        return facts
    return {key: without_times(inner) for key, inner in facts.items() if not _TIMES.search(key)}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that wrote the files."""
    names = ("accelerate", "diffusers", "peft", "safetensors", "torch", "transformers")
    return {name: version(name) for name in names}
