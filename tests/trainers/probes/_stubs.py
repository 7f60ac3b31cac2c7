"""Stand-ins for heavy modules a trainer imports and the code in question never uses.

A probe names each in its docstring. Whatever is asked of one is there and does nothing; what a
trainer writes or accepts never comes from it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


class Absent(type):
    """What a stand-in gives for any name: a class that can be subclassed, called and asked on."""

    def __getattr__(cls, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(name, (_Nothing,), {})


class _Nothing:
    def __init__(self, *_arguments: object, **_named: object) -> None:
        pass

    def __call__(self, *_arguments: object, **_named: object) -> object:
        return self


class _Module(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(name, (_Nothing,), {})


def stand_in(*names: str) -> None:
    """Let modules be imported that are not installed; installed ones are left alone."""
    for name in names:
        if name in sys.modules:
            continue
        module = _Module(name)
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
