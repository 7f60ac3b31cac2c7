"""What the findings of a faulty checkpoint ask to be set, weighed into one answer.

The order in which wishes count, for each setting by itself: a value that a finding names (the
gravest finding first, else the first; another one is said and left), then "instead of", then
the smallest factor, once, and then the range, so that no factor leads out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sentinel.formats.settings import Setting
from sentinel.repairs.estimating import factored, known
from sentinel.verdict import LEVEL_OF, LEVELS, Finding

Settings = Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Settled:
    """Settings that are to become what they are not yet, and what could not be settled."""

    settings: Settings
    said: tuple[str, ...] = ()


def settle(findings: Sequence[Finding], now: Settings) -> Settled:
    """Return the values that the findings' wishes come to; ``now`` is what is set.

    A factor of something unknown, and a second value for one setting, are not guessed: they are
    left and said.
    """
    by_name: dict[str, list[tuple[str, object]]] = {}
    for finding in sorted(findings, key=_gravity, reverse=True):
        for name, wish in _wishes(finding).items():
            meant = factored(name, wish, now)
            by_name.setdefault(meant, []).append((finding.rule, wish))
    settings: dict[str, Setting] = {}
    said: list[str] = []
    for name, wishes in by_name.items():
        value, notes = _weigh(name, wishes, known(name, now))
        said += notes
        if value is not None and not same(value, now.get(name)):
            settings[name] = value
    return Settled(MappingProxyType(settings), tuple(said))


def same(wanted: object, seen: object) -> bool:
    """Tell whether a setting has a value: numbers up to rounding, text in whatever case."""
    if isinstance(wanted, bool) or isinstance(seen, bool):
        return str(wanted).lower() == str(seen).lower()
    if isinstance(wanted, int | float) and isinstance(seen, int | float):
        return abs(wanted - seen) <= _ROUNDING * max(abs(wanted), abs(seen))
    return str(wanted).lower() == str(seen).lower()


_ROUNDING = 1e-6
"""Trainers keep a rate as text of six digits, or in single precision."""


def _gravity(finding: Finding) -> int:
    return LEVELS.index(LEVEL_OF[finding.severity])


def _wishes(finding: Finding) -> Mapping[str, object]:
    resume = finding.remedy.get("resume")
    wishes = resume.get("settings") if isinstance(resume, Mapping) else None
    return wishes if isinstance(wishes, Mapping) else {}


def _weigh(
    name: str, wishes: Iterable[tuple[str, object]], now: Setting | None
) -> tuple[Setting | None, list[str]]:
    """Return the value one setting is to have (None: as it is) and what is to be said of it."""
    value: Setting | None = None
    factors: list[float] = []
    ranges: list[tuple[float, float]] = []
    said: list[str] = []
    for rule, wish in wishes:
        if not isinstance(wish, Mapping):
            if value is not None and not same(wish, value):
                said.append(f"{rule} would have {name} {shown(wish)}")
            value = _scalar(wish) if value is None else value
        elif "times" in wish:
            factors.append(float(wish["times"]))
        elif "between" in wish:
            ranges.append((float(wish["between"][0]), float(wish["between"][1])))
        elif same(wish.get("instead_of"), now):
            value = _scalar(wish.get("use")) if value is None else value
    number = now if value is None else value
    if factors and not _is_number(number):
        said.append(f"{name} is not known, so it cannot be multiplied by {min(factors):g}")
    elif factors:
        product = float(number) * min(factors)  # type: ignore[arg-type]  # a number
        number = value = float(f"{product:.12g}")  # 0.01 and no 0.010000000000000002
    for low, high in ranges:
        number = value = min(max(float(number), low), high) if _is_number(number) else low  # type: ignore[arg-type]  # a number
    return value, said


def shown(value: object) -> str:
    """Return a value as a person writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scalar(value: object) -> Setting | None:
    return value if isinstance(value, str | int | float | bool) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
