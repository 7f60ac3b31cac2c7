"""What a supervised training is: a trainer from its checkout, and faults to be met on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Case:
    """One training with a fault in it.

    ``files`` are the user's by their path, ``command`` the words after the interpreter; in both
    `{base}`, `{here}`, `{checkout}` and `{python}` stand for the small language model, the
    directory of the case, the trainer's, and its interpreter; what lies in `bin/` can be run by its
    name. ``act_on`` are rules that may stop the training though their fault is
    only likely.
    """

    files: Mapping[str, str]
    command: tuple[str, ...]
    act_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trainer:
    """A trainer that is no package.

    ``paths`` lie in the checkout and are where it finds its code, ``stands_in`` names packages it
    imports and these trainings never use, ``feeds`` a module of `site/` that hands it a small
    model where its own way is a download. ``version_file`` makes it known under its own name, as
    an installation would. ``at_checkout`` says that it is started where it lies.
    """

    checkout: str
    repository: str
    cases: Mapping[str, Case]
    paths: tuple[str, ...] = ("src",)
    stands_in: tuple[str, ...] = ()
    feeds: str = ""
    version_file: str = ""
    at_checkout: bool = False
    wants_base: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
