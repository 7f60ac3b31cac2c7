"""Stand-ins for heavy packages a trainer imports and the code in question never uses.

A probe names each in its docstring. Whatever is asked of one is there and does nothing; what a
trainer writes or accepts never comes from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def stand_in(*packages: str) -> None:
    """Let packages be imported that are not installed; an installed one is left alone."""
    sys.meta_path.append(_Finder(frozenset(packages)))


class _Anything(type):
    """The class of what a stand-in gives for a name: it can be subclassed, called, asked on."""

    def __getattr__(cls, name: str) -> object:
        return _named(name)


class _Nothing:
    def __init__(self, *_arguments: object, **_named: object) -> None:
        pass

    def __call__(self, *_arguments: object, **_named: object) -> object:
        return self


class _Module(ModuleType):
    __version__ = "0"

    def __getattr__(self, name: str) -> object:
        return _named(name)


class _Finder(MetaPathFinder, Loader):
    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        known = name.partition(".")[0] in self.packages
        return ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Put nothing into it."""


def _named(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything(name, (_Nothing,), {})
