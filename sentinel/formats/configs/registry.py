"""Which trainer a configuration belongs to: one reader a trainer, the most specific first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.configs import (
    ai_toolkit,
    axolotl,
    diffusers,
    llama_factory,
    minicpm_v,
    musubi_tuner,
    onetrainer,
    sd_scripts,
    sentinel_train,
    simpletuner,
    transformers,
)
from sentinel.formats.configs.given import Given, read_given
from sentinel.formats.configs.options import options_of
from sentinel.formats.configs.reader import ConfigReader, TrainingConfig
from sentinel.formats.configs.shell import Command, Script, command_of

CONFIGS: tuple[ConfigReader, ...] = (
    sentinel_train,
    onetrainer,
    ai_toolkit,
    simpletuner,
    musubi_tuner,
    sd_scripts,
    axolotl,
    llama_factory,
    minicpm_v,
    diffusers,
    transformers,
)


@dataclass(frozen=True, slots=True)
class _Found:
    """A reader, the fields it takes, and what was named but could not be read."""

    reader: ConfigReader
    fields: Mapping[str, object]
    notes: tuple[str, ...] = ()


def read_config(path: Path) -> TrainingConfig:
    """Read a trainer's configuration: its file, or a script that calls the trainer.

    Nothing is imported and nothing is run. Raises InputError when the file cannot be read, and
    when it belongs to no trainer that is known here.
    """
    given = read_given(path)
    found = next(_candidates(given), None)
    if found is None:
        looked = "; ".join(reader.LOOKS_FOR for reader in CONFIGS)
        what = "a command line of" if given.script is not None else "the fields of"
        raise InputError(
            f"file '{path_text(path)}'",
            fact=f"holds {what} no trainer known here",
            todo=f"looked for were: {looked}",
        )
    settings = found.reader.settings_of(found.fields)
    return TrainingConfig(
        path,
        given.form,
        found.reader.TRAINER,
        dict(sorted(settings.items())),
        found.notes,
    )


def read_command(words: Sequence[str], directory: Path) -> TrainingConfig | None:
    """Read what a command asks of a trainer, its configuration file included.

    ``directory`` is where the command is called. None when it is of no trainer known here.
    """
    command = command_of(words)
    found = None if command is None else next(_of_command(command, directory / words[0]), None)
    if found is None:
        return None
    settings = dict(sorted(found.reader.settings_of(found.fields).items()))
    return TrainingConfig(directory, "command", found.reader.TRAINER, settings, found.notes)


def _candidates(given: Given) -> Iterator[_Found]:
    if given.script is None:
        for reader in CONFIGS:
            fields = reader.fields_of(given.fields)
            if fields is not None:
                yield _Found(reader, fields)
        return
    for command in given.script.commands:
        yield from _of_command(command, given.path)
    yield from _of_variables(given.script)


def _of_variables(script: Script) -> Iterator[_Found]:
    """Take a file that only sets variables, as `config.env` does."""
    variables = {name: " ".join(words) for name, words in script.variables.items()}
    fields = simpletuner.fields_of(variables)
    if fields is not None:
        yield _Found(simpletuner, fields)


def _of_command(command: Command, path: Path) -> Iterator[_Found]:
    """Yield the readers a command belongs to: by its program first, then by its options."""
    options = options_of(command.arguments)
    ordered = sorted(CONFIGS, key=lambda reader: command.program not in reader.PROGRAMS)
    for reader in ordered:
        told = reader.fields_of_command(options)
        plain = tuple(word for word in options.plain if word not in {"train", "sft"})
        named = _file_named(reader, options.named, plain)
        is_own = command.program in reader.PROGRAMS
        if named is None:
            if is_own or reader.fields_of(told) is not None:
                yield _Found(reader, reader.fields_of(told) or told)
            continue
        content, note = _content(named, path)
        fields = reader.fields_of(content) if content is not None else None
        if fields is not None:
            yield _Found(reader, _overridden(fields, told))
        elif is_own:
            yield _Found(reader, told, (note,) if note else ())


def _file_named(
    reader: ConfigReader, named: Mapping[str, object], plain: tuple[str, ...]
) -> str | None:
    """Return the configuration file that a command names, None when it names none."""
    for option in reader.FILE_OPTIONS:
        value = named.get(option) if option else (plain[0] if plain else None)
        if isinstance(value, str):
            return value
    return None


def _content(name: str, script: Path) -> tuple[Mapping[str, object] | None, str]:
    """Return what a file that a script names holds, and else why it cannot be told."""
    note = f"the configuration '{name}' that the command names was not found, so only its options"
    for directory in (Path(), script.parent):
        for spelled in (name, f"{name}.toml"):
            file = directory / spelled
            if os.path.isfile(file):  # noqa: PTH113 - never raises, whatever the name holds
                try:
                    return read_given(file).fields, ""
                except InputError as error:
                    return None, str(error)
    return None, f"{note} were read"


def _overridden(fields: Mapping[str, object], told: Mapping[str, object]) -> Mapping[str, object]:
    """Return a file's fields under what the command says; parts are laid over parts."""
    merged = dict(fields)
    for name, value in told.items():
        held = merged.get(name)
        if isinstance(held, dict) and isinstance(value, dict):
            merged[name] = {**held, **value}
        elif value is not None:
            merged[name] = value
    return merged
