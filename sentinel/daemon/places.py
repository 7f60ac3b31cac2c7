"""Where sentinel keeps its own things, and that it is nowhere a trainer looks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinel.config import Config, default_state_dir
from sentinel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Places:
    """Where sentinel keeps what: the journal and locks, the health log, the pins."""

    state: Path
    log: Path
    pins: Path

    @property
    def journal(self) -> Path:
        """Return the journal's file."""
        return self.state / "journal.sqlite"


def places_of(config: Config) -> Places:
    """Return the state directory and the health log the configuration asks for."""
    state = (config.state or default_state_dir()).expanduser().resolve()
    return Places(
        state=state,
        log=(config.log or state / "health").expanduser().resolve(),
        pins=(config.pin_dir or state / "pins").expanduser().resolve(),
    )


def refuse_state_below(roots: Sequence[Path], places: Places) -> None:
    """Refuse to keep anything of ours where a trainer looks for checkpoints (ConfigError)."""
    for root in roots:
        for place in (places.state, places.log, places.pins):
            if place.is_relative_to(os.path.realpath(root)):
                raise ConfigError(
                    "state directory",
                    where=f"'{place}'",
                    fact=f"lies below the watched directory '{root}'",
                    todo="trainers take what lies there for checkpoints; give another --state",
                )


def once_each(roots: Sequence[Path]) -> tuple[Path, ...]:
    """Leave out a directory that is given twice, by whatever names, and detours in a name.

    A link stays what it is: it may lead elsewhere one day.
    """
    straight = [Path(os.path.realpath(root)) if ".." in root.parts else root for root in roots]
    return tuple({os.path.realpath(root): root for root in reversed(straight)}.values())[::-1]
