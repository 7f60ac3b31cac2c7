"""A trainer under supervision, as `sentinel run` starts it and `sentinel resume` starts it again.

Whatever the user said is kept in the journal in words, so that a resume is told the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.cli.options import base_of, rules_of, settled, spared
from sentinel.cli.output import complain, console
from sentinel.cli.outside import with_outside
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel.daemon.supervise import Supervisor
    from sentinel.repairs.asking import Asked
    from sentinel.repairs.recipes import Recipe

_PATHS = frozenset({"base", "config_path", "state", "log", "recipe", "cwd", "metrics_file"})
_MANY_PATHS = frozenset({"rule_paths", "watched"})


@dataclass(frozen=True, slots=True)
class Request:
    """What a user said to `sentinel run`; paths are absolute."""

    words: tuple[str, ...]
    cwd: Path
    base: Path | None = None
    rule_paths: tuple[Path, ...] = ()
    config_path: Path | None = None
    state: Path | None = None
    log: Path | None = None
    watched: tuple[Path, ...] = ()
    policy: str | None = None
    max_attempts: int | None = None
    pin: bool | None = None
    metrics_port: int | None = None
    metrics_address: str | None = None
    metrics_file: Path | None = None
    track: tuple[str, ...] = ()
    recipe: Path | None = None
    quiet: bool = False
    max_read_rate: str | None = None
    nice: int | None = None
    ionice: str | None = None

    def as_told(self) -> dict[str, object]:
        """Return it as JSON-ready values; a name that is no UTF-8 keeps its bytes as surrogates."""
        told: dict[str, object] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                told[item.name] = [str(one) for one in value]
            else:
                told[item.name] = str(value) if isinstance(value, Path) else value
        return told

    @classmethod
    def from_told(cls, told: Mapping[str, object]) -> Request:
        """Return what `as_told` wrote, or what a version before or after this one did."""
        known = {item.name for item in fields(cls)}
        values = {name: _read(name, value) for name, value in told.items() if name in known}
        return cls(**values)  # type: ignore[arg-type]  # written by as_told above


def _read(name: str, value: object) -> object:
    if isinstance(value, str) and name in _PATHS:
        return Path(value)
    if isinstance(value, list):
        return tuple(Path(one) if name in _MANY_PATHS else str(one) for one in value)
    return value


@contextmanager
def supervised(request: Request, *, resumes: bool) -> Iterator[Supervisor]:
    """Open the supervision that was asked for; what happens is told on standard error."""
    from sentinel.cli.telling import Told
    from sentinel.daemon.assemble import supervising
    from sentinel.daemon.supervise import RunSettings
    from sentinel.repairs.invocation import recognise
    from sentinel.repairs.recipes import load_recipes

    if os.name != "posix":
        raise ConfigError(
            "command 'run'",
            fact="needs a POSIX system to stop a trainer and all its processes",
            todo="use `sentinel watch` here",
        )
    words = request.words
    given = {name: getattr(request, name) for name in ("policy", "max_attempts", "pin")}
    config = settled(request.config_path, request.state, request.log).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    config = with_outside(
        config,
        port=request.metrics_port,
        address=request.metrics_address,
        file=request.metrics_file,
        track=request.track,
    )
    own = () if request.recipe is None else (request.recipe,)
    known = recognise(words, load_recipes(own), request.cwd)
    config = spared(
        config, max_read_rate=request.max_read_rate, nice=request.nice, ionice=request.ionice
    )
    asked = _asked(request, known)
    if known is None and config.policy != "report":
        complain("no recipe knows this command: a faulty run is stopped, but cannot be resumed")
    settings = RunSettings(
        command=words,
        cwd=request.cwd,
        roots=_roots(request.watched, asked, words),
        asked=asked,
        recipe=known,
        policy=config.policy,
        act_on=frozenset(config.act_on),
        max_attempts=config.max_attempts,
        grace_s=config.grace_s,
        backoff_s=config.backoff_s,
        backoff_max_s=config.backoff_max_s,
        verdict_timeout_s=config.verdict_timeout_s,
        exit_codes=config.exit_codes,
        told=request.as_told(),
        resumes=resumes,
    )
    told = Told(
        console(error=True), request.cwd, quiet_below=config.fail_on if request.quiet else None
    )
    with supervising(
        settings,
        config=config,
        rules=rules_of(config, request.rule_paths),
        base=base_of(request.base),
        listener=told.event,
        on_judged=told.judged,
        on_note=complain,
    ) as supervisor:
        yield supervisor


def _asked(request: Request, recipe: Recipe | None) -> Asked:
    """Return what the command asks for; one that cannot be read is no error where DIR is given."""
    from sentinel.errors import RepairError
    from sentinel.repairs.asking import Asked, asked_of

    if recipe is None:
        return Asked()
    try:
        return asked_of(recipe, request.words, request.cwd)
    except RepairError as error:
        if not request.watched:
            raise
        complain(str(error))
        return Asked()


def _roots(watched: Sequence[Path], asked: Asked, words: Sequence[str]) -> tuple[Path, ...]:
    if watched:
        return tuple(watched)
    if asked.output is None:
        raise ConfigError(
            "command",
            where=f"'{words[0]}'",
            fact="does not tell where its checkpoints will lie",
            todo="say it with --watch DIR",
        )
    return (asked.output,)
