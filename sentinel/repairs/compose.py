"""From a plan to a start: the command, the changed copies, and the directory it goes on in."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentinel.repairs.copies import Copy, make_fresh
from sentinel.repairs.documents import (
    Document,
    difference,
    document_text,
    set_field,
)
from sentinel.repairs.invocation import Invocation, take_apart
from sentinel.repairs.pairs import with_pair
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import ONE_FILE, Change, Recipe, Route, Value
from sentinel.repairs.scripts import SHELLS
from sentinel.repairs.words import Grammar, plain, text_of
from sentinel.storage import atomic_write

Held = Value | list[str] | dict[str, object]


@dataclass(frozen=True, slots=True)
class Composed:
    """How an attempt is started.

    ``environment`` is what its variables become, ``files`` are the changed copies of the user's
    configuration by path, ``diff`` says what was changed in them. ``fresh`` is the directory that
    is made for it, with ``copied`` as its only checkpoint; None when it goes on in its own.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    diff: str = ""
    fresh: Path | None = None
    copied: Copy | None = None

    def prepare(self) -> None:
        """Write the copies and make the fresh directory; doing it again changes nothing.

        Raises RepairError when there is no room for it, OSError for the state directory.
        """
        if self.fresh is not None:
            make_fresh(self.fresh, self.copied)
        for path, text in self.files.items():
            atomic_write(path, text.encode())


def compose(
    recipe: Recipe, command: Sequence[str], plan: Plan, *, cwd: Path, place: Path
) -> Composed:
    """Return the user's command changed so that the trainer begins as planned.

    Changed copies of what it reads lie in ``place``. What the user told of a changed field is left
    out, so that the plan's word is the only one. Raises RepairError when the user's configuration
    cannot be read.
    """
    invocation = take_apart(recipe, command, cwd)
    route = _route(recipe, plan)
    fresh = Path(plan.output) if plan.output else None
    copied = copy_of(invocation, plan)
    editing = _Editing(invocation, place)
    for name, value in _changes(invocation, plan):
        editing.set(name, value)
    if fresh is not None and recipe.output is not None:
        editing.set(recipe.output.field, str(fresh))
    for name, value in route.fields.items():
        editing.set(name, _filled(value, recipe, plan, fresh, copied))
    return editing.composed(command, fresh, copied)


def copy_of(invocation: Invocation, plan: Plan) -> Copy | None:
    """Return the copy of the plan's target that its fresh directory holds, None without one."""
    route = _route(invocation.recipe, plan)
    if plan.target_path is None or plan.output is None or route.copy_to is None:
        return None
    source = Path(plan.target_path)
    output = invocation.recipe.output
    below = invocation.value(output.below) if output and output.below else None
    within = route.copy_to.replace("{name}", source.name).replace("{below}", str(below or ""))
    return Copy(source, within, route.leave_out)


def unheard(invocation: Invocation, plan: Plan) -> str:
    """Return a sentence when nothing the user told carries a precision of the plan, else ""."""
    recipe = invocation.recipe
    tables = [recipe.precision.get(plan.precision, {})] if plan.precision else []
    tables += [recipe.compute.get(plan.compute, {})] if plan.compute else []
    wanted = list(dict.fromkeys(name for table in tables for name in table))
    heard = [n for n in wanted if not n.endswith("?") or invocation.is_told(n.removesuffix("?"))]
    if heard or not wanted:
        return ""
    names = ", ".join(name.removesuffix("?") for name in wanted)
    return f"the command tells none of {names}, so the precision is to be changed in the script"


def _route(recipe: Recipe, plan: Plan) -> Route:
    wanted, other = recipe.resume.keep, recipe.resume.drop
    if plan.optimizer == "drop":
        wanted, other = other, wanted
    return (plan.target_path and (wanted or other)) or recipe.resume.restart


class _Editing:
    """The words and the document of one invocation, being changed."""

    def __init__(self, invocation: Invocation, place: Path) -> None:
        self._from = invocation
        self._recipe = invocation.recipe
        self._place = place
        self._grammar: Grammar = invocation.grammar
        self._arguments = list(invocation.arguments)
        self._content: Document = copy.deepcopy(invocation.content)

    def set(self, name: str, value: Held) -> None:
        """Set a field where this trainer takes it: in the copy of its file, else by a word."""
        if name.endswith("?"):
            name = name.removesuffix("?")
            if not self._from.is_told(name):
                return
        in_file = self._from.file is not None and self._recipe.changes == "copy"
        if name.startswith("--"):
            self._arguments = self._grammar.with_option(self._arguments, name, _word(value))
            return
        self._forget(name)
        if in_file:
            sections = self._recipe.configuration.sections
            set_field(self._content, name, value, sections=sections)
        elif self._recipe.assignments and value is not None:
            pair = f"{name}={text_of(_scalar(value))}"
            self._arguments += [self._recipe.assignments, pair]
        else:
            self._arguments = self._grammar.with_option(self._arguments, f"--{name}", _word(value))

    def composed(self, command: Sequence[str], fresh: Path | None, copied: Copy | None) -> Composed:
        """Return what became of the command and its configuration."""
        files: dict[Path, str] = {}
        environment: Mapping[str, str] = {}
        diff = ""
        if self._from.file is not None and self._content != self._from.content:
            source, target = self._from.file, self._place / self._from.file.name
            files[target] = document_text(source, self._content)
            diff = difference(source, document_text(source, self._from.content), files[target])
            environment = self._name_file(target)
        words = (*self._from.words[: self._from.start], *self._arguments)
        if self._from.script is None:
            return Composed(words, environment, files, diff, fresh, copied)
        script = self._from.script
        before = script.changed(self._recipe.recognise, self._from.words)
        target = self._place / script.path.name
        files[target] = script.changed(self._recipe.recognise, words)
        diff += difference(script.path, before, files[target])
        called = _called(command, target)
        return Composed(called, environment, files, diff, fresh, copied)

    def _forget(self, name: str) -> None:
        """Leave out what the command itself says of a field."""
        self._arguments = self._grammar.without(self._arguments, name)
        option = self._recipe.assignments
        if option is None or (option and self._recipe.changes == "command"):
            return  # the last assignment wins, and the user's own may stay to be seen
        kept: list[str] = []
        for word in self._arguments:
            pair = word.removeprefix(f"{option}=") if option else word
            if "=" not in pair or plain(pair.partition("=")[0]) != plain(name):
                kept.append(word)
            elif option and pair == word and kept and kept[-1] == option:
                kept.pop()
        self._arguments = kept

    def _name_file(self, target: Path) -> Mapping[str, str]:
        """Let the trainer read the changed copy; return the variables that would name another."""
        where = self._recipe.configuration
        named = str(target.parent if where.directory else target)
        plain_words = self._grammar.plain_words(self._arguments)
        given = [word for word in plain_words if Path(word).suffix in where.suffixes]
        if where.suffixes and given:
            self._arguments = [named if word == given[0] else word for word in self._arguments]
        elif where.option:
            self._arguments = self._grammar.with_option(self._arguments, where.option, named)
        return {name: named for name in where.environment if os.environ.get(name)}


def _changes(invocation: Invocation, plan: Plan) -> Iterator[tuple[str, Held]]:
    """Yield the fields that carry the plan's precision and settings, with their values."""
    recipe = invocation.recipe
    if plan.precision is not None:
        yield from recipe.precision.get(plan.precision, {}).items()
    if plan.compute is not None:
        yield from recipe.compute.get(plan.compute, {}).items()
    pairs: dict[str, Held] = {}
    for setting, value in plan.settings.items():
        change = recipe.change_of(setting)
        if change is None:
            continue
        last = setting.rpartition(".")[2]
        spelled = change.values.get(text_of(value), value)
        yield from ((f"{name}?", None) for name in change.also)
        if change.pairs is None:
            yield change.field.replace("{name}", last), spelled
            continue
        held = pairs.get(change.field, _told_pairs(invocation, change))
        pairs[change.field] = with_pair(held, last, spelled, change.pairs)
    yield from pairs.items()


def _told_pairs(invocation: Invocation, change: Change) -> Held:
    if change.pairs == "mapping":
        held = invocation.held(change.field)
        return dict(held) if isinstance(held, dict) else {}
    return invocation.value(change.field)


def _filled(
    value: Value, recipe: Recipe, plan: Plan, fresh: Path | None, copied: Copy | None
) -> Value:
    """Return a route's value with the paths of this plan in it."""
    if not isinstance(value, str) or plan.target_path is None:
        return value
    start = Path(plan.target_path)
    # By its name: the copy is not made yet, and the original may be gone.
    is_file = start.suffix in ONE_FILE
    if fresh is not None and copied is not None:
        start = fresh / copied.within
    weights = start if is_file or not recipe.resume.weights else start / recipe.resume.weights
    names = {"{checkpoint}": str(start), "{name}": start.name, "{weights}": str(weights)}
    for name, text in names.items():
        value = value.replace(name, text)
    return value


def _called(command: Sequence[str], script: Path) -> tuple[str, ...]:
    """Return the command with another script in it, run by a shell: a copy is not executable."""
    words = list(command)
    if Path(words[0]).name not in SHELLS:
        return ("bash", str(script), *words[1:])
    at = next(n for n, word in enumerate(words[1:], 1) if not word.startswith("-"))
    return (*words[:at], str(script), *words[at + 1 :])


def _word(value: Held) -> Value | list[str]:
    return None if isinstance(value, dict) else value


def _scalar(value: Held) -> Value:
    if isinstance(value, list):
        return " ".join(value)
    return None if isinstance(value, dict) else value
