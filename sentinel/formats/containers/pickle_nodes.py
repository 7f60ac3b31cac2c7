"""What a pickle becomes when nothing is called: plain containers and symbolic nodes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names, under Python 3's name for its module."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """A call that a pickle asks for and nobody made; ``state`` is what BUILD would have set.

    It is changed only while its pickle is read, and compared by identity, so that no value of a
    file makes a comparison deep. Nor has it a text of its own: arguments that many calls share
    would be written out again and again.
    """

    target: Global
    arguments: tuple[object, ...]
    state: object = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Persistent:
    """Something that lies outside the pickle, by the name that its writer gave it."""

    key: object
