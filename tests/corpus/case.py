"""What a case of the corpus is: who writes it, how, and what is true about what was written."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from corpus.official import Reader
from sentinel.verdict import Level

Write = Callable[[Path, np.random.Generator], Path]
"""Writes a checkpoint below an empty directory and returns its path; the generator is the only
source of chance."""

Pair = tuple[int, float | None, float | None]
"""Rank, alpha and scale of an up and a down matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What must be said about a checkpoint; `None` is a claim too: nothing is known.

    ``findings`` are the ids of all rules that fire. ``roles`` counts the tensors of the weights,
    ``modules`` are the paths that an adapter changes, ``pairs`` every rank, alpha and scale among
    them. ``idle`` says whether all of them change exactly nothing, or none. ``settings`` are
    some of those that must be known.
    """

    layout: str
    verdict: Level = "healthy"
    findings: frozenset[str] = frozenset()
    trainer: str | None = None
    step: int | None = None
    epoch: float | None = None
    updates_done: int | None = None
    complete: bool | None = None
    roles: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    family: str | None = None
    modules: frozenset[str] = frozenset()
    pairs: frozenset[Pair] = frozenset()
    idle: bool | None = None
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    usable: tuple[str, ...] = ("weights",)
    optimizer_parameters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseTruth:
    """What must be understood of a model under an adapter, in ``folder`` beside it.

    ``shapes`` are the unpacked (out, in) of its weights by module, ``packed`` counts those that
    are stored in another way than their shape says, ``open_`` those whose packing does not tell.
    """

    scheme: str
    compute_dtype: str
    shapes: Mapping[str, tuple[int, int | None]]
    folder: str = "base"
    packed: int = 0
    open_: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One checkpoint of the corpus.

    ``writer`` is the distribution that wrote it, ``needs`` the modules this takes. ``fault``
    names what was done to it, "" for a healthy one. ``read`` is the official reader, None where
    it refuses the file. ``others`` counts the checkpoints that the same writing leaves beside
    it. One that is ``named`` is found only when the user names it. ``as_user`` says that root
    cannot be kept from reading it.
    """

    id: str
    writer: str
    write: Write
    truth: Truth
    needs: tuple[str, ...] = ()
    fault: str = ""
    read: Reader | None = None
    base: BaseTruth | None = None
    others: int = 0
    named: bool = False
    as_user: bool = False
    slow: bool = False

    def written(self, root: Path, seed: int) -> Path:
        """Write the case into its own directory below ``root`` and return the checkpoint.

        The same seed writes the same values, whichever cases are written with it.
        """
        place = root / self.id
        place.mkdir(parents=True)
        return self.write(place, np.random.default_rng([seed, zlib.crc32(self.id.encode())]))
