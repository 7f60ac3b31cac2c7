"""From file patterns to the samples a Transformers Trainer takes."""

from __future__ import annotations

import glob
import json
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from .errors import RefusedError
from .recipe import Data
from .recipe_file import STDLIB_PREFIX

Sample = dict[str, Any]


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that the patterns name, sorted within each pattern, each once.

    `python-stdlib:GLOB` looks below the standard library of the running interpreter: text
    that every machine has.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = [path for path in _matches(pattern) if path.is_file()]
        if not matches:
            raise RefusedError(f"data file '{pattern}'", "nothing there", "check the path")
        found.update(dict.fromkeys(matches))
    return list(found)


def language_samples(files: Sequence[Path], data: Data, tokenizer: Any) -> list[Sample]:
    """Return blocks of `block_size` tokens cut from the files' texts, end marks between them.

    The tokens after the last whole block are left out.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    texts = (text for file in files for text in _texts(file, data))
    tokens = list(chain.from_iterable(tokenizer(text)["input_ids"] + end for text in texts))
    size = data.block_size
    blocks = [tokens[at : at + size] for at in range(0, len(tokens) - size + 1, size)]
    if not blocks:
        fact = f"{len(tokens)} tokens are less than one block of {size}"
        raise RefusedError("data", fact, "give more text or a smaller data.block_size")
    return [
        {"input_ids": block, "attention_mask": [1] * size, "labels": list(block)}
        for block in blocks
    ]


def labelled_samples(
    files: Sequence[Path], data: Data, tokenizer: Any, num_labels: int
) -> list[Sample]:
    """Return one sample a JSON line, its text cut at `block_size` tokens."""
    samples = []
    for file in files:
        for place, record in _records(file):
            label = record.get(data.label_key)
            if not isinstance(label, int) or not 0 <= label < num_labels:
                fact = f"'{data.label_key}' is {label!r}, not a whole number below {num_labels}"
                raise RefusedError(place, fact, "check data.label_key and num_labels")
            text = _text_of(record, place, data)
            encoded = tokenizer(text, truncation=True, max_length=data.block_size)
            samples.append({"input_ids": encoded["input_ids"], "labels": label})
    if not samples:
        raise RefusedError("data", "no records in the files", "give at least one JSON line")
    return samples


def _matches(pattern: str) -> Iterable[Path]:
    if pattern.startswith(STDLIB_PREFIX):
        return sorted(Path(sysconfig.get_path("stdlib")).glob(pattern.removeprefix(STDLIB_PREFIX)))
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [Path(name) for name in sorted(names)]


def _texts(file: Path, data: Data) -> Iterator[str]:
    if data.format == "text":
        yield file.read_text(encoding="utf-8", errors="replace")
    else:
        for place, record in _records(file):
            yield _text_of(record, place, data)


def _records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a file's JSON objects, each with its place for messages."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"data file '{file}:{number}'"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise RefusedError(place, f"not JSON ({error})") from error
            if not isinstance(record, dict):
                raise RefusedError(place, "not a JSON object", "write one object a line")
            yield place, record


def _text_of(record: dict[str, Any], place: str, data: Data) -> str:
    text = record.get(data.text_key)
    if not isinstance(text, str):
        raise RefusedError(place, f"no text under '{data.text_key}'", "check data.text_key")
    return text
