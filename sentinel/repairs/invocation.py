"""A user's command taken apart: the trainer's own words, its configuration, the script it is in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import MappingProxyType

from sentinel.errors import InputError, RepairError
from sentinel.formats.configs.reader import TrainingConfig
from sentinel.formats.configs.registry import read_command, read_config
from sentinel.formats.settings import Setting
from sentinel.repairs.documents import Document, get_field, has_field, read_document
from sentinel.repairs.recipes import Recipe, Value
from sentinel.repairs.scripts import SHELLS, SUFFIXES, Script, read_script
from sentinel.repairs.words import Grammar, plain

_MODULE = frozenset({"-m", "--module"})


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command calls.

    ``words`` are those of the trainer's own command, ``start`` is where its arguments begin among
    them. ``file`` is its configuration, ``told_by`` the word or variable that named it ("" when it
    lies in a default place). ``script`` is set when the command stands in a shell script.
    """

    recipe: Recipe
    cwd: Path
    words: tuple[str, ...]
    start: int
    script: Script | None = None
    file: Path | None = None
    content: Document = field(default_factory=dict)

    @property
    def grammar(self) -> Grammar:
        """Return how many words belong to each option."""
        return grammar_of(self.recipe)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the words after the trainer's program."""
        return self.words[self.start :]

    def is_told(self, name: str) -> bool:
        """Tell whether the user told a field, on the command or in the file."""
        return self._on_command(name) is not None or self._in_file(name)

    def value(self, name: str) -> Value | list[str]:
        """Return what a field was told; the command wins over the file. None for nothing."""
        told = self._on_command(name)
        if told is not None:
            return told[0] if len(told) == 1 else list(told) if told else True
        if not self._in_file(name):
            return None
        held = get_field(self.content, name, sections=self.recipe.configuration.sections)
        if isinstance(held, list):
            return [str(item) for item in held]
        return held if isinstance(held, str | int | float | bool) else None

    def held(self, name: str) -> object:
        """Return what the file holds in a field, whatever it is."""
        return get_field(self.content, name, sections=self.recipe.configuration.sections)

    def _in_file(self, name: str) -> bool:
        sections = self.recipe.configuration.sections
        return not name.startswith("--") and has_field(self.content, name, sections=sections)

    def _on_command(self, name: str) -> tuple[str, ...] | None:
        assigned = assigned_values(self.recipe, self.arguments).get(plain(name))
        if assigned is not None and not name.startswith("--"):
            return (assigned,)
        return self.grammar.values(self.arguments, name)


def grammar_of(recipe: Recipe) -> Grammar:
    """Return how many words belong to each of a trainer's options."""
    return Grammar(
        flags=frozenset(map(plain, recipe.flags)), lists=frozenset(map(plain, recipe.lists))
    )


def assigned_values(recipe: Recipe, arguments: Sequence[str]) -> Mapping[str, str]:
    """Return what ``KEY=VALUE`` words set: bare ones, or those behind the recipe's option."""
    if recipe.assignments is None:
        return {}
    if recipe.assignments:
        told = grammar_of(recipe).told(arguments)
        pairs = [v for one in told if one.name == plain(recipe.assignments) for v in one.values]
    else:
        pairs = [word for word in arguments if "=" in word and not word.startswith("-")]
    return {plain(key): value for key, _, value in (pair.partition("=") for pair in pairs)}


def recognise(command: Sequence[str], recipes: Sequence[Recipe], cwd: Path) -> Recipe | None:
    """Return the recipe whose trainer this command starts, None for an unknown one.

    The names of programs, scripts and modules that a recipe lists come first; else the reader of
    its configurations must take the command for its own.
    """
    script = _script_of(command, cwd)
    names = {PurePath(word).name for word in command if not word.startswith("-")}
    names |= {word for line in script.lines for word in line.names} if script else set()
    for recipe in recipes:
        if names & set(recipe.recognise):
            return recipe
    config = read_asked(command, cwd)
    if config is None:
        return None
    return next((recipe for recipe in recipes if recipe.reads == config.trainer), None)


def read_asked(command: Sequence[str], cwd: Path) -> TrainingConfig | None:
    """Return what a command asks of its trainer, None when no reader knows it.

    A script that starts no trainer by itself may hand on the options it is given.
    """
    script = _script_of(command, cwd)
    return (_read(script.path) if script else None) or read_command(command, cwd)


def _read(path: Path) -> TrainingConfig | None:
    try:
        return read_config(path)
    except InputError:
        return None


def take_apart(recipe: Recipe, command: Sequence[str], cwd: Path) -> Invocation:
    """Return a command's parts; raises RepairError when a configuration it names is unreadable."""
    script = _script_of(command, cwd)
    if script is not None and not _starts(script, recipe):
        script = None
    words = tuple(command) if script is None else script.command(recipe.recognise)
    start = _arguments_at(words, recipe)
    found = _configuration(recipe, words[start:], cwd)
    content = read_document(found) if found else {}
    return Invocation(recipe, cwd, words, start, script, found, content)


def told_settings(invocation: Invocation) -> Mapping[str, Setting]:
    """Return what the command and its configuration tell, under the names of all settings."""
    words = invocation.words
    configs = [_read(invocation.file)] if invocation.file else []
    configs.append(read_asked(words, invocation.cwd))
    known = [config for config in configs if config and config.trainer == invocation.recipe.reads]
    return MappingProxyType({name: v for config in known for name, v in config.settings.items()})


def _script_of(command: Sequence[str], cwd: Path) -> Script | None:
    """Return the shell script that a command runs, None when it runs none that lies there."""
    words = list(command)
    if words and PurePath(words[0]).name in SHELLS:
        words = [word for word in words[1:] if not word.startswith("-")]
    elif not words or PurePath(words[0]).suffix not in SUFFIXES:
        return None
    path = cwd / words[0] if words else cwd
    return read_script(path) if words and path.is_file() else None


def _starts(script: Script, recipe: Recipe) -> bool:
    """Tell whether a script holds the trainer's own command."""
    if any(line.names & set(recipe.recognise) for line in script.lines):
        return True
    config = _read(script.path)
    return config is not None and config.trainer == recipe.reads


def _arguments_at(words: Sequence[str], recipe: Recipe) -> int:
    """Return where the arguments after the trainer's program, script or module begin."""
    for at, word in enumerate(words):
        if PurePath(word).name in recipe.recognise:
            return at + 1
    for at, word in enumerate(words):
        if word.endswith(".py"):
            return at + 1
        if word in _MODULE and at + 1 < len(words):
            return at + 2
    return min(1, len(words))


def _configuration(recipe: Recipe, arguments: Sequence[str], cwd: Path) -> Path | None:
    """Return the configuration file that is in use, None without one."""
    where = recipe.configuration
    for told in _names(recipe, arguments, cwd):
        candidates = [cwd / place.replace("{told}", told) for place in where.places]
        existing = next((path for path in candidates if path.is_file()), None)
        # One that is named and not there is an error to be told when it is read.
        return existing or candidates[0]
    return next((cwd / name for name in where.default if (cwd / name).is_file()), None)


def _may_configure(recipe: Recipe, path: Path) -> bool:
    """Tell whether a file holds this trainer's fields; data may end in `.json` as well.

    One that is not there may: that it is missing is to be said.
    """
    if not path.is_file():
        return True
    config = _read(path)
    if config is not None:
        return config.trainer == recipe.reads
    try:
        content = read_document(path)
    except RepairError:
        return path.suffix != ".json"
    return recipe.output is not None and has_field(content, recipe.output.field)


def _names(recipe: Recipe, arguments: Sequence[str], cwd: Path) -> Iterator[str]:
    where, grammar = recipe.configuration, grammar_of(recipe)
    named = grammar.values(arguments, where.option) if where.option else None
    if named:
        yield named[0]
    for word in grammar.plain_words(arguments):
        if PurePath(word).suffix in where.suffixes and _may_configure(recipe, cwd / word):
            yield word
    for variable in where.environment:
        if os.environ.get(variable):
            yield os.environ[variable]
